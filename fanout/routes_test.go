package fanout_test

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/fanfarehq/fanfare/deliver/outcome"
	"github.com/fanfarehq/fanfare/fanout"
	"github.com/fanfarehq/fanfare/fanout/fanouttest"
	"github.com/fanfarehq/fanfare/internal/api"
	"github.com/fanfarehq/fanfare/internal/changes"
	"github.com/fanfarehq/fanfare/internal/event"
	"github.com/fanfarehq/fanfare/internal/quota"
)

// keys says who holds which key.
type keys map[string]api.Caller

func (k keys) Authenticate(_ context.Context, credential string) (api.Caller, error) {
	if c, ok := k[credential]; ok {
		return c, nil
	}
	return api.Caller{}, api.ErrUnauthenticated
}

var scopes = []string{"events:read", "deliveries:read", "subscriptions:write", "view:orders"}

var callers = keys{
	"admin":    {Admin: true},
	"acme":     {Tenant: "acme", Scopes: scopes},
	"globex":   {Tenant: "globex", Scopes: scopes},
	"writer":   {Tenant: "acme", Scopes: []string{"events:write"}},
	"reader":   {Tenant: "acme", Scopes: []string{"events:read"}},
	"viewer":   {Tenant: "acme", Scopes: []string{"deliveries:read", "view:orders"}},
	"support":  {Tenant: "acme", Scopes: []string{"deliveries:read"}},
	"debugger": {Tenant: "acme", Scopes: []string{"events:read", "deliveries:read"}},
	// Operators' keys are over all tenants.
	"operator": {AllTenants: true, Scopes: []string{"events:read", "deliveries:read"}},
	"auditor":  {AllTenants: true, Scopes: []string{api.AdminRead}},
	"maker":    {Tenant: "acme", Scopes: []string{"subscriptions:write", "deliveries:read"}},
}

// fates stands in the place of deliver: what became of events.
type fates struct {
	counts map[string]int
	of, to uuid.UUID // the delivery that there is, and its subscription
	later  bool      // the delivery was made by a replay
	kept   *event.Event
}

func (f *fates) CountByState(context.Context, uuid.UUID) (map[string]int, error) {
	return f.counts, nil
}

func (f *fates) DescribeLast(_ context.Context, _, subscription uuid.UUID) (json.RawMessage, error) {
	if subscription != f.to {
		return nil, nil
	}
	return json.RawMessage(`{"id":"` + f.of.String() + `","number":1,"event_id":"e1","event_type":"order.created","subscription_id":"` + f.to.String() +
		`","generation":0,"state":"pending","reason":"http_5xx","attempts":1,"due_at":null,"created_at":"2026-11-20T10:00:00Z","ended_at":null,"log":[],"blocked_by":null,"last_status":null,"last_error":null,` +
		`"last_attempt_at":null,"next_attempt_at":null,"subscription_name":"s","url_host":"h","resolved_at":null,"superseded_by":null,"subscription_revision":null}`), nil
}

func (f *fates) MatchedThen(_ context.Context, _, subscription uuid.UUID) (bool, error) {
	return subscription == f.to && !f.later, nil
}

func (f *fates) Receivers(context.Context, uuid.UUID, int) ([]uuid.UUID, error) {
	if f.to == uuid.Nil {
		return nil, nil
	}
	return []uuid.UUID{f.to}, nil
}

func (f *fates) Get(_ context.Context, uid uuid.UUID, _ uint64) (*event.Event, error) {
	if f.kept == nil || f.kept.UID != uid {
		return nil, event.ErrGone
	}
	return f.kept, nil
}

func (f *fates) Kept(ctx context.Context, uid uuid.UUID) (*event.Event, error) {
	return f.Get(ctx, uid, 0)
}

// serve serves the routes; what it returns asks them something as the holder of a key, and wants a status.
func serve(h *fanouttest.House, f *fates) (ask func(key, method, path, body string, status int) map[string]any) {
	h.T.Helper()
	return serveWith(h, f, nil)
}

func serveWith(h *fanouttest.House, f *fates, quotas *quota.Quotas) (ask func(key, method, path, body string, status int) map[string]any) {
	h.T.Helper()
	return serveRoutes(h, fanout.Routes{Bytes: f, Deliveries: f, Quotas: quotas})
}

func serveRoutes(h *fanouttest.House, r fanout.Routes) (ask func(key, method, path, body string, status int) map[string]any) {
	h.T.Helper()
	mux := http.NewServeMux()
	a := api.New(mux, api.Config{Title: "Fanfare", Version: "1"}, callers)
	r.Ledger, r.Reader, r.Directory, r.Changes = h.Ledger, fanout.NewReader(h.JS), h.Directory, changes.NewLog(h.DB)
	r.Register(a)
	return func(key, method, path, body string, status int) map[string]any {
		h.T.Helper()
		req := httptest.NewRequestWithContext(h.T.Context(), method, path, strings.NewReader(body))
		req.Header.Set("Authorization", "Bearer "+key)
		if body != "" {
			req.Header.Set("Content-Type", "application/json")
		}
		w := httptest.NewRecorder()
		a.Adapter().ServeHTTP(w, req)
		text, err := io.ReadAll(w.Body)
		if err != nil {
			h.T.Fatal(err)
		}
		var answer map[string]any
		if err := json.Unmarshal(text, &answer); err != nil {
			h.T.Fatalf("%s %s: %s: %v", method, path, text, err)
		}
		if w.Code != status {
			h.T.Fatalf("%s %s: answered %d %s, want %d", method, path, w.Code, text, status)
		}
		return answer
	}
}

// ids are those of a list's items.
func ids(answer map[string]any) string {
	var all []string
	for _, item := range answer["data"].([]any) {
		all = append(all, item.(map[string]any)["id"].(string))
	}
	return strings.Join(all, " ")
}

func TestEventsAreListed(t *testing.T) {
	t.Parallel()
	h := fanouttest.New(t)
	h.Run()
	begin := time.Now()
	publish := func(subject, id string) {
		// Within a millisecond there is no order.
		for now := time.Now().UnixMilli(); now == time.Now().UnixMilli(); {
			runtime.Gosched()
		}
		h.Publish(subject, `{}`, "Fanfare-Id", id)
	}
	for i := range 5 {
		publish("events.acme.order.created", fmt.Sprint("e", i))
	}
	publish("events.acme.invoice.paid", "e5")
	publish("events.globex.order.created", "e6")
	h.Settled()
	ask := serve(h, &fates{})
	for path, want := range map[string]string{
		"/v1/events":                   "e5 e4 e3 e2 e1 e0",
		"/v1/events?order=asc":         "e0 e1 e2 e3 e4 e5",
		"/v1/events?type=invoice.paid": "e5",
		"/v1/events?type=nothing":      "",
		"/v1/events?since=" + stamp(begin.Add(-time.Minute)) + "&until=" + stamp(begin.Add(time.Hour)): "e5 e4 e3 e2 e1 e0",
		"/v1/events?since=" + stamp(begin.Add(time.Hour)):                                              "",
		"/v1/events?until=" + stamp(begin.Add(-time.Minute)):                                           "",
		"/v1/events?tenant=acme": "e5 e4 e3 e2 e1 e0",
	} {
		if got := ids(ask("acme", "GET", path, "", 200)); got != want {
			t.Errorf("%s lists %q, want %q", path, got, want)
		}
	}
	if got := ids(ask("admin", "GET", "/v1/events", "", 200)); got != "e6 e5 e4 e3 e2 e1 e0" {
		t.Errorf("an admin sees %q", got)
	}
	if got := ids(ask("admin", "GET", "/v1/events?tenant=globex", "", 200)); got != "e6" {
		t.Errorf("an admin sees %q of globex", got)
	}
	// Page by page, in either order.
	for order, want := range map[string]string{"desc": "e5 e4 e3 e2 e1 e0", "asc": "e0 e1 e2 e3 e4 e5"} {
		var pages []string
		for path := "/v1/events?limit=2&order=" + order; ; {
			page := ask("acme", "GET", path, "", 200)
			pages = append(pages, ids(page))
			next, more := page["next_cursor"].(string)
			if !more {
				break
			}
			path = "/v1/events?limit=2&order=" + order + "&cursor=" + url.QueryEscape(next)
		}
		if got := strings.Join(pages, " "); got != want || len(pages) != 3 {
			t.Errorf("page by page it is %q", pages)
		}
	}
	// Since is inclusive and until exclusive, to the microsecond.
	first := ask("acme", "GET", "/v1/events?order=asc&limit=1", "", 200)["data"].([]any)[0].(map[string]any)
	at := url.QueryEscape(first["accepted_at"].(string))
	if got := ids(ask("acme", "GET", "/v1/events?order=asc&limit=1&since="+at, "", 200)); got != "e0" {
		t.Errorf("since its own time, the first is %q", got)
	}
	if got := ids(ask("acme", "GET", "/v1/events?until="+at, "", 200)); got != "" {
		t.Errorf("until its own time, there is %q", got)
	}
	ask("writer", "GET", "/v1/events", "", 403)
	ask("nobody", "GET", "/v1/events", "", 401)
	ask("acme", "GET", "/v1/events?tenant=globex", "", 403)
	ask("acme", "GET", "/v1/events?limit=501", "", 422)
	ask("acme", "GET", "/v1/events?since=yesterday", "", 422)
	ask("acme", "GET", "/v1/events?typ=a", "", 422)
}

func stamp(t time.Time) string { return url.QueryEscape(t.UTC().Format(time.RFC3339Nano)) }

func TestAnEventIsShown(t *testing.T) {
	t.Parallel()
	h := fanouttest.New(t)
	a, b := h.Subscribe("acme", "other"), h.Subscribe("acme", "other")
	h.Run()
	seq := h.Publish("events.acme.order.created", `{"total": 12.50, "x": "<&>"}`, "Fanfare-Id", "e1", "Fanfare-Resource-Ids", "1,2",
		"Fanfare-Object-Id", "o_1", "Fanfare-Changed", "status", "Fanfare-Targets", a.ID.String()+","+b.ID.String(), "Fanfare-Time", "2026-11-20T10:00:00Z")
	h.Settled()
	f := &fates{counts: map[string]int{"delivered": 1}}
	ask := serve(h, f)
	got := ask("acme", "GET", "/v1/events/e1", "", 200)
	if _, err := time.Parse(time.RFC3339Nano, fmt.Sprint(got["accepted_at"])); err != nil {
		t.Error(err)
	}
	delete(got, "accepted_at")
	delete(got, "$schema")
	text, _ := json.Marshal(got)
	want := `{"changed":["status"],"data":{"total":12.5,"x":"\u003c\u0026\u003e"},"deliveries":{"cancelled":0,"dead":0,"delivered":1,"pending":1},` +
		`"id":"e1","matched":2,"object_id":"o_1","resource_ids":["1","2"],"schema_valid":null,"targets":["` + a.ID.String() + `","` + b.ID.String() + `"],` +
		`"tenant":"acme","time":"2026-11-20T10:00:00Z","type":"order.created"}`
	if string(text) != want {
		t.Errorf("shown is\n%s\nwant\n%s", text, want)
	}
	for _, id := range []string{"e2", "a.b", "a b", strings.Repeat("a", 200)} {
		ask("acme", "GET", "/v1/events/"+url.PathEscape(id), "", 404)
	}
	ask("globex", "GET", "/v1/events/e1", "", 404)
	ask("admin", "GET", "/v1/events/e1", "", 200)
	ask("admin", "GET", "/v1/events/e1?tenant=globex", "", 404)
	ask("writer", "GET", "/v1/events/e1", "", 403)

	// Once the stream has lost the bytes, there is what deliver kept of them, or nothing.
	stream, err := h.JS.Stream(t.Context(), fanout.Stream)
	if err != nil {
		t.Fatal(err)
	}
	stored, err := fanout.NewReader(h.JS).Read(t.Context(), seq)
	if err != nil {
		t.Fatal(err)
	}
	kept := *stored
	if err := stream.DeleteMsg(t.Context(), seq); err != nil {
		t.Fatal(err)
	}
	if got := ask("acme", "GET", "/v1/events/e1", "", 200); got["data"] != nil || got["matched"] != 2.0 {
		t.Errorf("of an event that is gone, %v is shown", got)
	}
	if got := ask("acme", "GET", "/v1/events/e1/explain", "", 200); len(got["results"].([]any)) == 0 {
		t.Errorf("of an event that is gone, %v is explained", got)
	}
	f.kept = &kept
	if got := ask("acme", "GET", "/v1/events/e1", "", 200); got["data"] == nil || got["object_id"] != "o_1" {
		t.Errorf("of an event that was kept, %v is shown", got)
	}
}

func TestAnEventIsExplained(t *testing.T) {
	t.Parallel()
	h := fanouttest.New(t)
	hit, miss, foreign := h.Subscribe("acme", "order.*"), h.Subscribe("acme", "invoice.*"), h.Subscribe("globex", "*")
	h.Run()
	h.Publish("events.acme.order.created", `{}`, "Fanfare-Id", "e1")
	h.Settled()
	task := h.Tray.All()[0]
	f := &fates{of: outcome.ID(task.Event.UID, hit.ID, 0, task.Event.AcceptedAt), to: hit.ID}
	ask := serve(h, f)
	result := func(query string) map[string]any {
		t.Helper()
		got := ask("acme", "GET", "/v1/events/e1/explain"+query, "", 200)
		// Without a subscription, all of the tenant's, and those that match first.
		want := map[bool]int{true: 2, false: 1}[query == ""]
		if got["event"].(map[string]any)["id"] != "e1" || len(got["results"].([]any)) != want {
			t.Fatalf("explained is %v", got)
		}
		return got["results"].([]any)[0].(map[string]any)
	}
	for _, query := range []string{"", "?subscription=" + hit.ID.String()} {
		got := result(query)
		if got["matched"] != true || got["subscription_id"] != hit.ID.String() || got["delivery"].(map[string]any)["id"] != f.of.String() {
			t.Errorf("a match is explained as %v", got)
		}
	}
	got := result("?subscription=" + miss.ID.String())
	steps := got["steps"].([]any)
	if got["matched"] != false || got["delivery"] != nil || len(steps) != 8 {
		t.Errorf("a miss is explained as %v", got)
	}
	for _, step := range steps {
		s := step.(map[string]any)
		if (s["verdict"] == "fail") != (s["step"] == "event_type") {
			t.Errorf("step %v of a subscription to other types", s)
		}
	}
	late := h.Subscribe("acme", "order.*")
	if got := result("?subscription=" + late.ID.String()); got["matched"] != false || got["now"].(map[string]any)["matched"] != true ||
		len(got["steps"].([]any)) != 1 || got["then"].(map[string]any)["revision"] != nil ||
		!strings.Contains(got["steps"].([]any)[0].(map[string]any)["detail"].(string), "created after the event") {
		t.Errorf("a subscription that was made later is explained as %v", got)
	}
	// Changes since: by the definition of then it matched.
	changed, err := h.Store.Get(t.Context(), "acme", hit.ID)
	if err != nil {
		t.Fatal(err)
	}
	changed.EventTypes, changed.Scopes = []string{"invoice.*"}, nil
	if err := h.Store.Update(t.Context(), changed); err != nil {
		t.Fatal(err)
	}
	h.Declare("acme", "order.created", "", false)
	if _, err := h.Store.Disable(t.Context(), hit.ID, changed.Revision, "gone"); err != nil {
		t.Fatal(err)
	}
	got = result("?subscription=" + hit.ID.String())
	then, now := got["then"].(map[string]any), got["now"].(map[string]any)
	if got["matched"] != true || then["matched"] != true || then["revision"] != float64(hit.Revision) ||
		now["matched"] != false || now["revision"].(float64) <= float64(changed.Revision) ||
		now["steps"].([]any)[1].(map[string]any)["detail"] != "disabled: gone" {
		t.Errorf("a subscription that was changed since is explained as %v", got)
	}
	if err := h.Store.Delete(t.Context(), "acme", hit.ID); err != nil {
		t.Fatal(err)
	}
	if got := result("?subscription=" + hit.ID.String()); got["matched"] != true || got["delivery"] == nil || len(got["steps"].([]any)) != 8 ||
		got["now"].(map[string]any)["matched"] != false || len(got["now"].(map[string]any)["steps"].([]any)) != 1 {
		t.Errorf("a subscription that is gone is explained as %v", got)
	}
	ask("acme", "GET", "/v1/events/e1/explain?subscription="+foreign.ID.String(), "", 404)
	ask("acme", "GET", "/v1/events/e1/explain?subscription="+uuid.NewString(), "", 404)
	ask("globex", "GET", "/v1/events/e1/explain", "", 404)
	ask("writer", "GET", "/v1/events/e1/explain", "", 403)
}

func TestQuarantineIsListed(t *testing.T) {
	t.Parallel()
	h := fanouttest.New(t)
	h.Run()
	h.Publish("events.acme.order", "{\x00")
	h.Publish("events.globex.order", `{`)
	h.Publish("events.b@d.order", `{}`)
	h.Settled()
	ask := serve(h, &fates{})
	got := ask("acme", "GET", "/v1/quarantine", "", 200)["data"].([]any)
	if len(got) != 1 {
		t.Fatalf("listed are %v, want one", got)
	}
	item := got[0].(map[string]any)
	if item["stream_seq"] != 1.0 || item["subject"] != "events.acme.order" || item["reason"] != "bad_data" || item["detail"] == "" ||
		item["data"] != base64.StdEncoding.EncodeToString([]byte("{\x00")) || item["received_at"] == nil || item["id"] == nil {
		t.Errorf("listed is %v", item)
	}
	if got := ask("admin", "GET", "/v1/quarantine", "", 200)["data"].([]any); len(got) != 3 {
		t.Errorf("an admin sees %d, want 3", len(got))
	}
	if got := ask("admin", "GET", "/v1/quarantine?limit=2", "", 200); len(got["data"].([]any)) != 2 || got["next_cursor"] == nil {
		t.Errorf("a page is %v", got)
	}
	if got := ask("auditor", "GET", "/v1/quarantine", "", 200)["data"].([]any); len(got) != 3 {
		t.Errorf("who reads the administration sees %d, want 3", len(got))
	}
	if got := ask("operator", "GET", "/v1/quarantine?tenant=globex", "", 200)["data"].([]any); len(got) != 1 {
		t.Errorf("an operator sees %d of a tenant, want 1", len(got))
	}
	ask("writer", "GET", "/v1/quarantine", "", 403)
}

// A message that names a type with scopes is not shown to keys that lack them, nor is what its refusal quotes of it.
func TestQuarantineHidesDataOfScopedTypes(t *testing.T) {
	t.Parallel()
	h := fanouttest.New(t)
	h.Declare("acme", "order.created", `{"properties":{"card":{"const":"none"}}}`, false)
	if _, err := h.DB.Exec(`UPDATE event_types SET scopes = '{view:orders}'`); err != nil {
		t.Fatal(err)
	}
	h.Run()
	h.Publish("events.acme.order.created", `{"card":"4111"}`)
	h.Publish("events.acme.other", `{"card":"4111"`)
	h.Settled()
	ask := serve(h, &fates{})
	shown := base64.StdEncoding.EncodeToString([]byte(`{"card":"4111`))[:16]
	for key, want := range map[string]int{"admin": 2, "acme": 2, "reader": 1, "operator": 1, "auditor": 1} {
		got := fmt.Sprint(ask(key, "GET", "/v1/quarantine?tenant=acme", "", 200))
		if n := strings.Count(got, shown); n != want || strings.Count(got, "order.created") != 1 || want == 1 && strings.Contains(got, "/card") {
			t.Errorf("%s is shown the data of %d messages, want %d: %s", key, n, want, got)
		}
	}
}

func TestPreviewIsWhatWouldHaveMatched(t *testing.T) {
	t.Parallel()
	h := fanouttest.New(t)
	h.Run()
	const n = 1100 // more than is read at once
	// Events of one millisecond are in no order, so those that are to be the newest have one of their own.
	later := func() { time.Sleep(2 * time.Millisecond) }
	for i := range n {
		if i == 99 || i == n-1 {
			later()
		}
		h.Publish("events.acme.order.created", fmt.Sprintf(`{"total":%d}`, i), "Fanfare-Id", fmt.Sprint("e", i), "Fanfare-Resource-Ids", fmt.Sprint(i%2))
	}
	later()
	h.Publish("events.acme.invoice.paid", `{"total":1}`, "Fanfare-Id", "i")
	h.Publish("events.acme.invoice.paid", `{`)
	h.Publish("events.globex.order.created", `{"total":1}`)
	h.Settled()
	ask := serve(h, &fates{})
	for _, test := range []struct {
		body              string
		examined, matched float64
		last              string
	}{
		{`{"event_types":["order.*"]}`, n + 1, n, "e1099"},
		{`{"event_types":["*"],"last":11}`, 11, 11, "i"},
		{`{"event_types":["order.*"],"resource_id":"1"}`, n + 1, n / 2, "e1099"},
		{`{"event_types":["order.*"],"filter":"event.data.total < 100.0"}`, n + 1, 100, "e99"},
		{`{"event_types":["order.*"],"changed":["x"]}`, n + 1, 0, ""},
		{`{"event_types":["nothing"],"filter":null,"resource_id":null}`, n + 1, 0, ""},
	} {
		got := ask("acme", "POST", "/v1/subscriptions/preview", test.body, 200)
		samples := got["samples"].([]any)
		if at, err := time.Parse(time.RFC3339, fmt.Sprint(got["oldest_replayable_at"])); err != nil || time.Since(at) > time.Hour {
			t.Errorf("%s: the oldest event is of %v", test.body, got["oldest_replayable_at"])
		}
		if got["examined"] != test.examined || got["matched"] != test.matched || len(samples) != int(min(test.matched, 10)) {
			t.Errorf("%s: examined %v, matched %v, %d samples; want %v and %v", test.body, got["examined"], got["matched"], len(samples), test.examined, test.matched)
			continue
		}
		if test.last != "" && samples[0].(map[string]any)["id"] != test.last {
			t.Errorf("%s: the newest is %v, want %s", test.body, samples[0], test.last)
		}
		if (got["per_day"].(float64) > 0) != (test.matched > 0) {
			t.Errorf("%s: %v a day", test.body, got["per_day"])
		}
	}
	for _, body := range []string{
		`{}`, `{"event_types":[]}`, `{"event_types":["a..b"]}`, `{"event_types":["*"],"filter":"event.data.total >"}`,
		`{"event_types":["*"],"changed":["a,b"]}`, `{"event_types":["*"],"last":0}`, `{"event_types":["*"],"last":1000000}`, `{"event_types":["*"],"url":"x"}`,
	} {
		ask("acme", "POST", "/v1/subscriptions/preview", body, 422)
	}
	ask("acme", "POST", "/v1/subscriptions/preview", `{"event_types":["*"],"tenant":"globex"}`, 403)
	ask("writer", "POST", "/v1/subscriptions/preview", `{"event_types":["*"]}`, 403)
	if got := ask("globex", "POST", "/v1/subscriptions/preview", `{"event_types":["*"]}`, 200); got["examined"] != 1.0 {
		t.Errorf("another tenant's preview examined %v", got["examined"])
	}
	if got := ask("admin", "POST", "/v1/subscriptions/preview?tenant=nobody", `{"event_types":["*"]}`, 200); got["examined"] != 0.0 {
		t.Errorf("a preview of nothing examined %v", got["examined"])
	}
}
