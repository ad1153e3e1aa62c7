package subscriptions_test

import (
	"fmt"
	"reflect"
	"strings"
	"testing"

	"github.com/fanfarehq/fanfare/internal/event"
	"github.com/fanfarehq/fanfare/subscriptions"
)

func TestEventTypesOverTheAPI(t *testing.T) {
	t.Parallel()
	s := serve(t)
	body := `{"name":"order.created","description":"d","schema":{"type":"object","required":["n"]},"sample":{"n":12345678901234567890},"scopes":["view:purchases"]}`
	made := s.want(t, 201, "admin POST /v1/event-types", body)
	want := map[string]any{
		"tenant": nil, "name": "order.created", "description": "d", "schema": map[string]any{"type": "object", "required": []any{"n"}},
		"sample": map[string]any{"n": 12345678901234567890.0}, "scopes": []any{"view:purchases"}, "archived": false,
		"created_at": made.body["created_at"], "updated_at": made.body["created_at"],
		"deprecated": false, "replaced_by": nil, "validation": "enforce", "schema_version": 1.0,
	}
	if !reflect.DeepEqual(made.body, want) {
		t.Errorf("got  %v\nwant %v", made.body, want)
	}
	read := s.want(t, 200, "acme GET /v1/event-types/order.created", "")
	if !reflect.DeepEqual(read.body, want) || read.header.Get("ETag") != made.header.Get("ETag") || read.header.Get("ETag") == "" {
		t.Errorf("got %v %s", read.header, read.text)
	}
	if sample := s.want(t, 200, "acme GET /v1/event-types/order.created/sample", ""); strings.TrimSpace(sample.text) != `{"n":12345678901234567890}` &&
		strings.TrimSpace(sample.text) != `{"n": 12345678901234567890}` {
		t.Errorf("sample: %s", sample.text)
	}
	s.want(t, 409, "admin POST /v1/event-types", body)
	s.want(t, 403, "acme POST /v1/event-types", body)
	s.want(t, 403, "reader GET /v1/event-types", "")
	s.want(t, 404, "acme GET /v1/event-types/none", "")

	// A tenant's own goes before the one that is every tenant's, and is nobody else's.
	s.want(t, 201, "admin POST /v1/event-types?tenant=acme", `{"name":"order.created","description":"own"}`)
	s.want(t, 201, "admin POST /v1/event-types", `{"name":"own","tenant":"acme"}`)
	if got := s.want(t, 200, "acme GET /v1/event-types/order.created", ""); got.body["description"] != "own" || got.body["tenant"] != "acme" {
		t.Errorf("own: %s", got.text)
	}
	s.want(t, 404, "acme GET /v1/event-types/order.created/sample", "")
	if got := s.want(t, 200, "globex GET /v1/event-types/order.created", ""); got.body["description"] != "d" {
		t.Errorf("globex's: %s", got.text)
	}
	s.want(t, 404, "globex GET /v1/event-types/own", "")
	for key, want := range map[string]int{"acme": 2, "globex": 1, "admin": 3} {
		if got := len(s.want(t, 200, key+" GET /v1/event-types", "").body["data"].([]any)); got != want {
			t.Errorf("%s lists %d, want %d", key, got, want)
		}
	}
	if got := len(s.want(t, 200, "admin GET /v1/event-types?tenant=acme", "").body["data"].([]any)); got != 2 {
		t.Errorf("admin lists %d of acme", got)
	}

	path := "/v1/event-types/order.created"
	patched := s.want(t, 200, "admin PATCH "+path, `{"description":null,"sample":{"m":1},"scopes":null,"archived":true}`, "If-Match", made.header.Get("ETag"))
	if patched.body["description"] != "" || !patched.body["archived"].(bool) || len(patched.body["scopes"].([]any)) != 0 ||
		len(patched.body["sample"].(map[string]any)) != 2 || patched.body["schema"] == nil {
		t.Errorf("patched: %s", patched.text)
	}
	s.want(t, 412, "admin PATCH "+path, `{"archived":false}`, "If-Match", made.header.Get("ETag"))
	if got := s.want(t, 200, "admin PATCH "+path, `{"schema":null,"sample":null}`); got.body["schema"] != nil || got.body["sample"] != nil {
		t.Errorf("cleared: %s", got.text)
	}
	if got := s.want(t, 200, "acme GET "+path, ""); got.body["description"] != "own" {
		t.Errorf("the tenant's own was changed: %s", got.text)
	}
	s.want(t, 403, "acme PATCH "+path, `{}`)
	s.want(t, 403, "acme DELETE "+path, "")
	s.want(t, 412, "admin DELETE "+path, "", "If-Match", made.header.Get("ETag"))
	s.want(t, 204, "admin DELETE "+path, "")
	s.want(t, 404, "admin DELETE "+path, "")
	s.want(t, 404, "globex GET "+path, "")
	s.want(t, 200, "acme GET "+path, "")
	s.want(t, 204, "admin DELETE "+path+"?tenant=acme", "")
	if again := s.want(t, 201, "admin POST /v1/event-types", `{"name":"order.created"}`); again.body["description"] != "" || again.body["schema"] != nil {
		t.Errorf("made again: %s", again.text)
	}
}

func TestEventTypesRefused(t *testing.T) {
	t.Parallel()
	s := serve(t)
	s.want(t, 201, "admin POST /v1/event-types", `{"name":"a"}`)
	for body, want := range map[string]string{
		`{}`: "body.name", `{"name":""}`: "body.name", `{"name":"a.*"}`: "body.name", `{"name":"a b"}`: "body.name",
		`{"name":"b","schema":{"type":"objekt"}}`:                                                       "body.schema",
		`{"name":"b","schema":{"$ref":"http://169.254.169.254/"}}`:                                      "body.schema",
		`{"name":"b","schema":[]}`:                                                                      "body.schema",
		`{"name":"b","schema":{"type":"object","properties":{"n":{"type":"string"}}},"sample":{"n":1}}`: "body.sample.n",
		`{"name":"b","scopes":["*"]}`:                                                                   "body.scopes[0]",
		`{"name":"b","scopes":[""]}`:                                                                    "body.scopes[0]",
		`{"name":"b","revision":1}`:                                                                     "body.revision",
		`{"name":"b","schema":{"title":"` + strings.Repeat("x", 64<<10) + `"}}`:                         "body.schema",
		`{"name":"b","description":"` + strings.Repeat("x", 3000) + `"}`:                                "body.description",
	} {
		if r := s.want(t, 422, "admin POST /v1/event-types", body); r.locations() != want {
			t.Errorf("%.80s: got %s", body, r.text)
		}
	}
	for _, patch := range []string{`{"name":"b"}`, `{"tenant":"acme"}`, `{"schema":{"type":"x"}}`, `{"created_at":null}`} {
		s.want(t, 422, "admin PATCH /v1/event-types/a", patch)
	}
	if r := s.call(t, "admin POST /v1/event-types", `{"name":"huge","sample":1e999999}`); r.status/100 != 4 {
		t.Errorf("a number that is out of range: %d %s", r.status, r.text)
	}
	// Half a surrogate pair is no text that Postgres takes; it must not be its error that says so.
	if r := s.call(t, "admin POST /v1/event-types", `{"name":"half","sample":"\ud800"}`); r.status >= 500 {
		t.Errorf("half a surrogate: %d %s", r.status, r.text)
	}
}

func TestEventTypeListPages(t *testing.T) {
	t.Parallel()
	s := serve(t)
	const n = 7
	for i := range n {
		s.want(t, 201, "admin POST /v1/event-types", fmt.Sprintf(`{"name":"t%d"}`, i))
	}
	// An admin pages over the types of each tenant, also those of one name and time.
	for _, tenant := range []string{"globex", "initech"} {
		s.want(t, 201, "admin POST /v1/event-types?tenant="+tenant, `{"name":"t3"}`)
	}
	if _, err := s.db.Exec(`UPDATE event_types SET created_at = (SELECT created_at FROM event_types WHERE tenant = '' AND name = 't3') WHERE name = 't3'`); err != nil {
		t.Fatal(err)
	}
	for call, want := range map[string]struct {
		first string
		n     int
	}{
		"acme GET /v1/event-types?limit=3&order=asc": {"t0", n}, "acme GET /v1/event-types?limit=3&order=desc": {"t6", n},
		"admin GET /v1/event-types?limit=2&order=asc": {"t0", n + 2}, "admin GET /v1/event-types?limit=2&order=desc": {"t6", n + 2},
	} {
		var names []string
		seen := map[string]bool{}
		cursor := ""
		for {
			r := s.want(t, 200, call+cursor, "")
			for _, item := range r.body["data"].([]any) {
				et := item.(map[string]any)
				names = append(names, et["name"].(string))
				seen[fmt.Sprint(et["tenant"], " ", et["name"])] = true
			}
			next, more := r.body["next_cursor"].(string)
			if !more {
				break
			}
			cursor = "&cursor=" + next
		}
		if len(names) != want.n || len(seen) != want.n || names[0] != want.first {
			t.Errorf("%s: %v", call, names)
		}
	}
}

// Event types' own scopes gate who may subscribe, and what a wildcard receives.
func TestScopesOfEventTypes(t *testing.T) {
	t.Parallel()
	s := serve(t)
	s.want(t, 201, "admin POST /v1/event-types", `{"name":"purchase.made","scopes":["view:purchases"]}`)
	purchase := strings.Replace(least, `["a"]`, `["purchase.made"]`, 1)
	wild := strings.Replace(least, `["a"]`, `["purchase.*"]`, 1)

	s.want(t, 403, "acme POST /v1/subscriptions", purchase)
	viewers, _ := s.post(t, "viewer", purchase)
	wildPlain, _ := s.post(t, "acme", wild)
	wildViewer, _ := s.post(t, "viewer", wild)
	r := s.want(t, 201, "admin POST /v1/subscriptions?tenant=acme", wild)
	wildAdmin := fmt.Sprint(r.body["id"])

	receives := func(step, eventType string, want ...string) {
		t.Helper()
		s.fresh(t)
		matched, _ := s.dir.Match(&event.Event{Tenant: "acme", Type: eventType})
		got := map[string]bool{}
		for _, m := range matched {
			got[m.ID.String()] = true
		}
		for _, id := range want {
			if !got[id] {
				t.Errorf("%s: %s is missing", step, id)
			}
		}
		if len(got) != len(want) {
			t.Errorf("%s: %d receive, want %d", step, len(got), len(want))
		}
	}
	receives("at first", "purchase.made", viewers, wildViewer, wildAdmin)
	receives("an unscoped type", "purchase.other", wildPlain, wildViewer, wildAdmin)
	s.want(t, 201, "admin POST /v1/event-types?tenant=acme", `{"name":"purchase.other","scopes":["view:purchases"]}`)
	receives("a type that is scoped later", "purchase.other", wildViewer, wildAdmin)

	// Who lacks the scope can neither redirect such a subscription nor add the type to another one.
	s.want(t, 403, "acme PATCH /v1/subscriptions/"+viewers, `{"url":"https://evil.example.com/"}`)
	s.want(t, 403, "acme PATCH /v1/subscriptions/"+wildAdmin, `{"url":"https://evil.example.com/"}`)
	s.want(t, 403, "acme PATCH /v1/subscriptions/"+wildPlain, `{"event_types":["purchase.made"]}`)
	s.want(t, 403, "acme PATCH /v1/subscriptions/"+viewers, `{"headers":{"X-Route":"evil"}}`)
	s.want(t, 403, "acme PATCH /v1/subscriptions/"+viewers, `{"auth":{"type":"bearer","token":"evil"}}`)
	s.want(t, 200, "acme PATCH /v1/subscriptions/"+viewers, `{"name":"renamed"}`)
	receives("after what was refused", "purchase.made", viewers, wildViewer, wildAdmin)
	s.want(t, 200, "viewer PATCH /v1/subscriptions/"+wildAdmin, `{"url":"https://example.org/"}`)
	s.want(t, 201, "admin POST /v1/event-types", `{"name":"purchase.third","scopes":["view:more"]}`)
	receives("an admin's that somebody redirected", "purchase.third")
	receives("within the scopes of who redirected it", "purchase.made", viewers, wildViewer, wildAdmin)
	s.want(t, 200, "viewer PATCH /v1/subscriptions/"+wildPlain, `{"event_types":["purchase.*","purchase.made"]}`)
	receives("a type that was added with its scope", "purchase.made", viewers, wildViewer, wildAdmin, wildPlain)
	s.want(t, 200, "admin PATCH /v1/subscriptions/"+wildViewer, `{"event_types":["purchase.third"]}`)
	receives("a type that an admin added", "purchase.third", wildViewer)
}

func TestArchivedTypesTakeNoNewSubscriptions(t *testing.T) {
	t.Parallel()
	s := serve(t)
	s.want(t, 201, "admin POST /v1/event-types", `{"name":"old"}`)
	old := strings.Replace(least, `["a"]`, `["b","old"]`, 1)
	id, _ := s.post(t, "acme", old)
	s.want(t, 200, "admin PATCH /v1/event-types/old", `{"archived":true}`)
	if r := s.want(t, 422, "acme POST /v1/subscriptions", old); r.locations() != "body.event_types[1]" {
		t.Errorf("got %s", r.text)
	}
	s.want(t, 200, "acme PATCH /v1/subscriptions/"+id, `{"name":"renamed"}`)
	s.want(t, 200, "acme PATCH /v1/subscriptions/"+id, `{"event_types":["old","c"]}`)
	other, _ := s.post(t, "acme", least)
	s.want(t, 422, "acme PATCH /v1/subscriptions/"+other, `{"event_types":["old"]}`)
	s.fresh(t)
	if et, ok := s.dir.EventType("acme", "old"); !ok || !et.Archived {
		t.Errorf("the directory has %+v", et)
	}
}

func TestEventTypesAreFreshInTheDirectory(t *testing.T) {
	t.Parallel()
	b := setup(t)
	ctx := t.Context()
	own := &subscriptions.EventType{Tenant: "acme", Name: "a", Schema: []byte(`{"type":"object"}`)}
	for _, et := range []*subscriptions.EventType{own, {Name: "a"}} {
		if err := b.store.CreateEventType(ctx, et); err != nil {
			t.Fatal(err)
		}
	}
	b.fresh(t)
	if et, ok := b.dir.EventType("acme", "a"); !ok || !fits(t, et, `{}`) || fits(t, et, `[]`) {
		t.Errorf("acme's: %+v", et)
	}
	if et, ok := b.dir.EventType("globex", "a"); !ok || !fits(t, et, `[]`) {
		t.Errorf("globex's: %+v", et)
	}
	own.Schema = []byte(`{"type":"array"}`)
	if err := b.store.UpdateEventType(ctx, own); err != nil {
		t.Fatal(err)
	}
	b.fresh(t)
	if et, _ := b.dir.EventType("acme", "a"); !fits(t, et, `[]`) {
		t.Error("the schema is the old one")
	}
	if err := b.store.DeleteEventType(ctx, "acme", "a"); err != nil {
		t.Fatal(err)
	}
	b.fresh(t)
	if et, ok := b.dir.EventType("acme", "a"); !ok || et.Tenant != "" {
		t.Errorf("after the deletion of its own: %+v", et)
	}
	if et, ok := b.dir.EventType("acme", "none"); ok {
		t.Errorf("got %+v", et)
	}
	// What a dialect brings with it.
	brought := &subscriptions.EventType{Name: "purchase", Description: "d", Scopes: []string{"view:purchases"}}
	for range 2 {
		if err := b.store.EnsureEventType(ctx, brought); err != nil {
			t.Fatal(err)
		}
	}
	revision := b.fresh(t)
	brought.Scopes = []string{"view:more"}
	if err := b.store.EnsureEventType(ctx, brought); err != nil {
		t.Fatal(err)
	}
	if b.fresh(t) == revision {
		t.Error("a change of what is brought is not taken over")
	}
}

func fits(t *testing.T, et *subscriptions.EventType, data string) bool {
	t.Helper()
	violations, err := et.Validate(t.Context(), []byte(data))
	if err != nil {
		t.Error(err)
	}
	return len(violations) == 0
}
