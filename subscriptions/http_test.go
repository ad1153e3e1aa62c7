package subscriptions

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/danielgtaylor/huma/v2"
	"github.com/google/uuid"

	"github.com/fanfarehq/fanfare/internal/api"
)

// callers knows keys by their name.
type callers map[string]api.Caller

func (c callers) Authenticate(_ context.Context, credential string) (api.Caller, error) {
	caller, ok := c[credential]
	if !ok {
		return api.Caller{}, api.ErrUnauthenticated
	}
	return caller, nil
}

var someCallers = callers{
	"admin":  {Admin: true},
	"acme":   {Tenant: "acme", Scopes: []string{"subscriptions:read", "subscriptions:write", "events:read"}},
	"viewer": {Tenant: "acme", Scopes: []string{"subscriptions:read", "subscriptions:write", "events:read", "view:purchases"}},
	"reader": {Tenant: "acme", Scopes: []string{"subscriptions:read"}},
	"globex": {Tenant: "globex", Scopes: []string{"subscriptions:read", "subscriptions:write", "events:read"}},
}

// site is the API over a bundle.
type site struct {
	*bundle
	*httptest.Server
	api huma.API
}

func serve(t testing.TB) *site {
	t.Helper()
	s := &site{bundle: setup(t)}
	mux := http.NewServeMux()
	s.api = api.New(mux, api.Config{Title: "Fanfare", Version: "1", CursorKey: []byte("key")}, someCallers)
	s.store.Routes(s.api)
	s.Server = httptest.NewServer(mux)
	t.Cleanup(s.Close)
	return s
}

// reply is what came back.
type reply struct {
	status int
	header http.Header
	text   string
	body   map[string]any
}

// locations are those of a problem's errors.
func (r reply) locations() string {
	var all []string
	list, _ := r.body["errors"].([]any)
	for _, e := range list {
		all = append(all, fmt.Sprint(e.(map[string]any)["location"]))
	}
	return strings.Join(all, " ")
}

// call asks "METHOD /path" with a key.
func (s *site) call(t testing.TB, key, what, body string, headers ...string) reply {
	t.Helper()
	method, path, _ := strings.Cut(what, " ")
	req, err := http.NewRequestWithContext(t.Context(), method, s.URL+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("X-API-Key", key)
	if body != "" {
		req.Header.Set("Content-Type", "application/json")
	}
	for i := 0; i < len(headers); i += 2 {
		req.Header.Set(headers[i], headers[i+1])
	}
	resp, err := s.Client().Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	r := reply{status: resp.StatusCode, header: resp.Header, text: string(text)}
	if len(text) > 0 {
		if err := json.Unmarshal(text, &r.body); err != nil && text[0] == '{' {
			t.Fatalf("%s: %v in %s", what, err, text)
		}
	}
	return r
}

// want calls and demands a status.
func (s *site) want(t testing.TB, status int, key, what, body string, headers ...string) reply {
	t.Helper()
	r := s.call(t, key, what, body, headers...)
	if r.status != status {
		t.Errorf("%s as %s with %.200s: got %d %s, want %d", what, key, body, r.status, r.text, status)
	}
	return r
}

const least = `{"name":"n","url":"https://example.com/","event_types":["a"]}`

// with is the least body and one more field.
func with(field, value string) string {
	return strings.TrimSuffix(least, "}") + `,"` + field + `":` + value + "}"
}

func (s *site) post(t testing.TB, key, body string) (id string, r reply) {
	t.Helper()
	r = s.want(t, 201, key, "POST /v1/subscriptions", body)
	return fmt.Sprint(r.body["id"]), r
}

func TestPostAndRead(t *testing.T) {
	t.Parallel()
	s := serve(t)
	id, made := s.post(t, "acme", least)
	if got := made.header.Get("Location"); got != "/v1/subscriptions/"+id {
		t.Errorf("location: %s", got)
	}
	if secret, _ := made.body["secret"].(string); checkSecret(secret, SignHMAC) != nil || made.body["public_key"] != nil {
		t.Errorf("secret: %v, public key: %v", made.body["secret"], made.body["public_key"])
	}
	read := s.want(t, 200, "reader", "GET /v1/subscriptions/"+id, "")
	if read.header.Get("ETag") == "" || read.header.Get("ETag") != made.header.Get("ETag") {
		t.Errorf("etags: %q, %q", made.header.Get("ETag"), read.header.Get("ETag"))
	}
	want := map[string]any{
		"id": id, "number": made.body["number"], "tenant": "acme", "dialect": "native", "name": "n", "description": "",
		"url": "https://example.com/", "event_types": []any{"a"}, "resource_id": nil, "changed": []any{}, "filter": nil, "headers": map[string]any{},
		"payload_format": "standard", "timeout": "15s", "max_in_flight": 32.0, "rate_limit": nil, "signing": "hmac", "status": "active",
		"retry":           map[string]any{"schedule": []any{"5s", "5m", "30m", "2h", "5h", "10h", "14h", "20h", "24h"}, "max_retries": 9.0},
		"disabled_reason": nil, "version": "V1", "metadata": map[string]any{}, "created_at": made.body["created_at"], "updated_at": made.body["created_at"],
	}
	if !reflect.DeepEqual(read.body, want) {
		t.Errorf("got  %v\nwant %v", read.body, want)
	}
	if strings.Contains(read.text, "whsec_") {
		t.Error("reading shows the secret")
	}
	list := s.want(t, 200, "reader", "GET /v1/subscriptions", "")
	if strings.Contains(list.text, "whsec_") || !strings.Contains(list.text, id) {
		t.Errorf("list: %s", list.text)
	}
	if got := s.want(t, 200, "acme", "GET /v1/subscriptions/"+id+"/secret", ""); got.body["secret"] != made.body["secret"] {
		t.Errorf("secret: %s", got.text)
	}
	s.want(t, 403, "reader", "GET /v1/subscriptions/"+id+"/secret", "")
	s.want(t, 403, "reader", "POST /v1/subscriptions", least)
	s.want(t, 403, "reader", "PATCH /v1/subscriptions/"+id, "{}")
	s.want(t, 403, "reader", "DELETE /v1/subscriptions/"+id, "")
	s.want(t, 401, "nobody", "GET /v1/subscriptions", "")
}

// Each field: what it may be on create and on patch, how it is shown, and that null clears it.
func TestFields(t *testing.T) {
	t.Parallel()
	s := serve(t)
	tests := []struct{ field, value, cleared string }{
		{"description", `"d"`, `""`},
		{"resource_id", `"123"`, `null`},
		{"changed", `["status","a,b"]`, `[]`},
		{"filter", `"event.data.total > 1"`, `null`},
		{"headers", `{"X-A":"1"}`, `{}`},
		{"payload_format", `"raw"`, `"standard"`},
		{"retry", `{"schedule":["1ms","7d"],"max_retries":0}`, `{"schedule":["5s","5m","30m","2h","5h","10h","14h","20h","24h"],"max_retries":9}`},
		{"timeout", `"1s"`, `"15s"`},
		{"max_in_flight", `1000`, `32`},
		{"rate_limit", `{"limit":100,"per":"1s"}`, `null`},
		{"status", `"paused"`, `"active"`},
		{"metadata", `{"a":"1"}`, `{}`},
	}
	same := func(shown any, text string) bool {
		var want any
		if err := json.Unmarshal([]byte(text), &want); err != nil {
			t.Fatal(err)
		}
		return reflect.DeepEqual(shown, want)
	}
	patched, _ := s.post(t, "acme", least)
	for _, tt := range tests {
		id, made := s.post(t, "acme", with(tt.field, tt.value))
		if !same(made.body[tt.field], tt.value) {
			t.Errorf("create with %s: shown as %v", tt.field, made.body[tt.field])
		}
		for what, want := range map[string]string{"GET": tt.value, `{"` + tt.field + `":null}`: tt.cleared} {
			got := s.want(t, 200, "acme", "GET /v1/subscriptions/"+id, "")
			if what != "GET" {
				got = s.want(t, 200, "acme", "PATCH /v1/subscriptions/"+id, what, "Content-Type", "application/merge-patch+json")
			}
			if !same(got.body[tt.field], want) && !(what == "GET" && same(got.body[tt.field], tt.cleared)) {
				t.Errorf("%s %s: shown as %v, want %s", tt.field, what, got.body[tt.field], want)
			}
		}
		before := s.want(t, 200, "acme", "GET /v1/subscriptions/"+patched, "")
		after := s.want(t, 200, "acme", "PATCH /v1/subscriptions/"+patched, `{"`+tt.field+`":`+tt.value+`}`)
		if !same(after.body[tt.field], tt.value) {
			t.Errorf("patch %s: shown as %v", tt.field, after.body[tt.field])
		}
		for field := range after.body {
			if field != tt.field && field != "updated_at" && !reflect.DeepEqual(before.body[field], after.body[field]) {
				t.Errorf("patch of %s changes %s: %v -> %v", tt.field, field, before.body[field], after.body[field])
			}
		}
		if before.header.Get("ETag") == after.header.Get("ETag") {
			t.Errorf("patch of %s leaves the ETag", tt.field)
		}
		// On create, null is what is left out.
		_, made = s.post(t, "acme", with(tt.field, "null"))
		if tt.field != "description" && tt.field != "payload_format" && tt.field != "status" && !same(made.body[tt.field], tt.cleared) {
			t.Errorf("create with %s null: shown as %v", tt.field, made.body[tt.field])
		}
	}
}

func TestPatchMerges(t *testing.T) {
	t.Parallel()
	s := serve(t)
	id, _ := s.post(t, "acme", with("headers", `{"X-A":"1","X-B":"2"},"retry":{"max_retries":3},"metadata":{"a":"1"}`))
	r := s.want(t, 200, "acme", "PATCH /v1/subscriptions/"+id,
		`{"name":"m","url":"https://example.org/x","event_types":["b.*"],"headers":{"X-A":null,"X-C":"3"},"retry":{"schedule":["1s"]}}`)
	want := map[string]any{
		"name": "m", "url": "https://example.org/x", "event_types": []any{"b.*"}, "headers": map[string]any{"X-B": "2", "X-C": "3"},
		"retry": map[string]any{"schedule": []any{"1s"}, "max_retries": 3.0}, "metadata": map[string]any{"a": "1"},
	}
	for field, value := range want {
		if !reflect.DeepEqual(r.body[field], value) {
			t.Errorf("%s: got %v, want %v", field, r.body[field], value)
		}
	}
	// Mass assignment: what is not the caller's to set is refused, not passed over.
	for _, field := range []string{"id", "number", "tenant", "dialect", "version", "secret", "signing", "disabled_reason", "created_at", "updated_at",
		"scopes", "revision", "deleted", "tenant_id", "nonsense"} {
		r := s.want(t, 422, "acme", "PATCH /v1/subscriptions/"+id, `{"`+field+`":"x"}`)
		if r.locations() != "body."+field {
			t.Errorf("patch of %s: got %s", field, r.text)
		}
		if slices.Contains([]string{"tenant", "secret", "signing"}, field) {
			continue
		}
		if r := s.want(t, 422, "acme", "POST /v1/subscriptions", with(field, `"x"`)); r.locations() != "body."+field {
			t.Errorf("create with %s: got %s", field, r.text)
		}
	}
	for patch, location := range map[string]string{
		`{"name":null}`: "body.name", `{"url":null}`: "body.url", `{"event_types":null}`: "body.event_types", `{"event_types":[]}`: "body.event_types",
		`{"name":""}`: "body.name", `{"timeout":"0s"}`: "body.timeout", `{"timeout":5}`: "body.timeout", `{"timeout":"soon"}`: "body.timeout",
		`{"retry":{"schedule":["1s","x"]}}`: "body.retry.schedule[1]", `{"retry":{"schedule":["1s","0s"]}}`: "body.retry.schedule[1]",
		`{"rate_limit":{"limit":1}}`: "body.rate_limit.per", `{"headers":{"Host":"x"}}`: "body.headers.Host", `{"filter":"1"}`: "body.filter",
		`{"status":"on"}`: "body.status", `{"payload_format":"xml"}`: "body.payload_format", `{"max_in_flight":0}`: "body.max_in_flight",
		`{"max_in_flight":99999999999}`: "body.max_in_flight", `{"metadata":{"a":1}}`: "body.metadata.a", `[]`: "body",
	} {
		if r := s.want(t, 422, "acme", "PATCH /v1/subscriptions/"+id, patch); r.locations() != location {
			t.Errorf("%s: got %s", patch, r.text)
		}
	}
}

func TestCreateNamesWhatIsWrong(t *testing.T) {
	t.Parallel()
	s := serve(t)
	for body, want := range map[string]string{
		`{}`:                               "body.event_types body.name body.url",
		`{"name":"n","event_types":["a"]}`: "body.url",
		`{"name":"n","url":"http://127.0.0.1:80","event_types":["a"]}`:      "",
		`{"name":"n","url":"http://10.0.0.1","event_types":["a"]}`:          "body.url",
		`{"name":"n","url":"https://u:p@example.com","event_types":["a"]}`:  "body.url",
		`{"name":"n","url":"https://example.com","event_types":["a","**"]}`: "body.event_types[1]",
		with("secret", `"x"`):                         "body.secret",
		with("signing", `"rsa"`):                      "body.signing",
		with("filter", `"event.datum == 1"`):          "body.filter",
		with("retry", `{"max_retries":101}`):          "body.retry.max_retries",
		with("rate_limit", `{"limit":1,"per":"10m"}`): "body.rate_limit",
		with("tenant", `"globex"`):                    "403",
		`{"name":"n`:                                  "400",
	} {
		r := s.call(t, "acme", "POST /v1/subscriptions", body)
		switch want {
		case "":
			if r.status != 201 {
				t.Errorf("%s: %d %s", body, r.status, r.text)
			}
		case "400", "403":
			if fmt.Sprint(r.status) != want {
				t.Errorf("%s: %d %s", body, r.status, r.text)
			}
		default:
			if r.status != 422 || r.locations() != want {
				t.Errorf("%s: %d %s, want %s", body, r.status, r.text, want)
			}
		}
	}
}

func TestIfMatch(t *testing.T) {
	t.Parallel()
	s := serve(t)
	id, made := s.post(t, "acme", least)
	first := made.header.Get("ETag")
	second := s.want(t, 200, "acme", "PATCH /v1/subscriptions/"+id, `{"name":"2"}`, "If-Match", first).header.Get("ETag")
	s.want(t, 412, "acme", "PATCH /v1/subscriptions/"+id, `{"name":"3"}`, "If-Match", first)
	s.want(t, 412, "acme", "DELETE /v1/subscriptions/"+id, "", "If-Match", first)
	s.want(t, 200, "acme", "PATCH /v1/subscriptions/"+id, `{"name":"4"}`, "If-Match", "*")
	s.want(t, 412, "acme", "DELETE /v1/subscriptions/"+id, "", "If-Match", second)
	s.want(t, 204, "acme", "DELETE /v1/subscriptions/"+id, "")
	s.want(t, 404, "acme", "DELETE /v1/subscriptions/"+id, "")
	s.want(t, 404, "acme", "GET /v1/subscriptions/"+id, "")
}

func TestPatchesOfDifferentFieldsAtOnceAllCount(t *testing.T) {
	t.Parallel()
	s := serve(t)
	id, made := s.post(t, "acme", least)
	var wg sync.WaitGroup
	for _, patch := range []string{`{"name":"x"}`, `{"description":"x"}`, `{"metadata":{"x":"x"}}`} {
		wg.Go(func() { s.want(t, 200, "acme", "PATCH /v1/subscriptions/"+id, patch) })
	}
	var won sync.Map
	for i := range 4 {
		wg.Go(func() {
			r := s.call(t, "acme", "PATCH /v1/subscriptions/"+id, fmt.Sprintf(`{"resource_id":"%d"}`, i), "If-Match", made.header.Get("ETag"))
			if r.status == 200 {
				won.Store(i, true)
			} else if r.status != 412 {
				t.Errorf("got %d %s", r.status, r.text)
			}
		})
	}
	wg.Wait()
	r := s.want(t, 200, "acme", "GET /v1/subscriptions/"+id, "")
	if r.body["name"] != "x" || r.body["description"] != "x" || len(r.body["metadata"].(map[string]any)) != 1 {
		t.Errorf("a patch was lost: %s", r.text)
	}
	winners := 0
	won.Range(func(any, any) bool { winners++; return true })
	if winners > 1 {
		t.Errorf("%d patches of the same version succeeded", winners)
	}
}

func TestPauseResumeDisable(t *testing.T) {
	t.Parallel()
	s := serve(t)
	id, _ := s.post(t, "acme", least)
	path := "/v1/subscriptions/" + id
	is := func(r reply, status string, reason any) {
		t.Helper()
		if r.body["status"] != status || r.body["disabled_reason"] != reason {
			t.Errorf("got %s", r.text)
		}
	}
	is(s.want(t, 202, "acme", "POST "+path+"/pause", ""), "paused", nil)
	is(s.want(t, 202, "acme", "POST "+path+"/pause", ""), "paused", nil)
	is(s.want(t, 202, "acme", "POST "+path+"/resume", ""), "active", nil)
	is(s.want(t, 200, "acme", "PATCH "+path, `{"status":"disabled"}`), "disabled", "manual")
	s.want(t, 409, "acme", "POST "+path+"/pause", "")
	s.want(t, 409, "acme", "POST "+path+"/resume", "")
	is(s.want(t, 200, "acme", "PATCH "+path, `{"name":"x"}`), "disabled", "manual")
	is(s.want(t, 200, "acme", "PATCH "+path, `{"status":"active"}`), "active", nil)
	if err := s.store.Disable(t.Context(), uuid.MustParse(id), "gone"); err != nil {
		t.Fatal(err)
	}
	is(s.want(t, 200, "acme", "PATCH "+path, `{"status":"disabled"}`), "disabled", "gone")
	s.want(t, 403, "reader", "POST "+path+"/pause", "")
}

func TestSecretsOverTheAPI(t *testing.T) {
	t.Parallel()
	s := serve(t)
	const given = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
	id, made := s.post(t, "acme", with("secret", `"`+given+`"`))
	if made.body["secret"] != given {
		t.Errorf("given secret: %s", made.text)
	}
	path := "/v1/subscriptions/" + id
	rotated := s.want(t, 202, "acme", "POST "+path+"/rotate-secret", `{"overlap":"24h"}`)
	if strings.Contains(rotated.text, "whsec_") || rotated.body["id"] != id {
		t.Errorf("rotation answers %s", rotated.text)
	}
	now := s.want(t, 200, "acme", "GET "+path+"/secret", "")
	if now.body["secret"] == given || now.body["public_key"] != nil {
		t.Errorf("after a rotation: %s", now.text)
	}
	s.fresh(t)
	if known, _ := s.dir.Get(uuid.MustParse(id)); len(known.Secrets) != 2 || known.Secrets[1].Value != given || known.Secrets[1].ExpiresAt.IsZero() {
		t.Errorf("the directory has %v", known.Secrets)
	}
	s.want(t, 202, "acme", "POST "+path+"/rotate-secret", `{"overlap":"0s","secret":"`+given+`"}`)
	if now := s.want(t, 200, "acme", "GET "+path+"/secret", ""); now.body["secret"] != given {
		t.Errorf("after a rotation to a given one: %s", now.text)
	}
	s.want(t, 202, "acme", "POST "+path+"/rotate-secret", `{}`)
	s.want(t, 422, "acme", "POST "+path+"/rotate-secret", `{"overlap":"8d"}`)
	s.want(t, 422, "acme", "POST "+path+"/rotate-secret", `{"overlap":"-1s"}`)
	s.want(t, 422, "acme", "POST "+path+"/rotate-secret", `{"secret":"x"}`)
	for range 8 {
		s.want(t, 202, "acme", "POST "+path+"/rotate-secret", `{}`)
	}
	s.want(t, 409, "acme", "POST "+path+"/rotate-secret", `{}`)
	s.want(t, 202, "acme", "POST "+path+"/rotate-secret", `{"overlap":"0s"}`)

	id, made = s.post(t, "acme", with("signing", `"ed25519"`))
	public, _ := made.body["public_key"].(string)
	if made.body["secret"] != nil || !strings.HasPrefix(public, "whpk_") || strings.Contains(made.text, "whsk_") {
		t.Errorf("ed25519: %s", made.text)
	}
	if got := s.want(t, 200, "acme", "GET /v1/subscriptions/"+id+"/secret", ""); got.text != fmt.Sprintf("{\"secret\":null,\"public_key\":%q}\n", public) {
		t.Errorf("ed25519 secret: %s", got.text)
	}
}

// Another tenant's id, one that does not exist and one that is none are told alike, on every operation.
func TestForeignIDsAreNotThere(t *testing.T) {
	t.Parallel()
	s := serve(t)
	id, _ := s.post(t, "acme", least)
	operations := 0
	for path, item := range s.api.OpenAPI().Paths {
		if !strings.Contains(path, "/subscriptions/{id}") {
			continue
		}
		for method, op := range map[string]*huma.Operation{"GET": item.Get, "POST": item.Post, "PATCH": item.Patch, "DELETE": item.Delete} {
			if op == nil {
				continue
			}
			operations++
			body := ""
			if op.RequestBody != nil {
				body = "{}"
			}
			var texts []string
			for _, id := range []string{id, uuid.Must(uuid.NewV7()).String(), "x", "0198c0de", strings.ToUpper(id) + "0"} {
				r := s.want(t, 404, "globex", method+" "+strings.Replace(path, "{id}", id, 1), body)
				texts = append(texts, r.text)
			}
			if len(slices.Compact(texts)) != 1 {
				t.Errorf("%s %s: the answers differ: %v", method, path, texts)
			}
		}
	}
	if operations != 7 {
		t.Errorf("%d operations on a subscription", operations)
	}
	if got := s.want(t, 200, "globex", "GET /v1/subscriptions", ""); got.text != "{\"data\":[],\"next_cursor\":null}\n" {
		t.Errorf("list: %s", got.text)
	}
	s.want(t, 403, "globex", "GET /v1/subscriptions?tenant=acme", "")
	s.want(t, 403, "globex", "GET /v1/subscriptions/"+id+"?tenant=acme", "")
}

func TestAdminsNameTheTenant(t *testing.T) {
	t.Parallel()
	s := serve(t)
	s.want(t, 422, "admin", "POST /v1/subscriptions", least)
	r := s.want(t, 201, "admin", "POST /v1/subscriptions?tenant=acme", least)
	s.want(t, 201, "admin", "POST /v1/subscriptions", with("tenant", `"globex"`))
	id := fmt.Sprint(r.body["id"])
	s.want(t, 200, "acme", "GET /v1/subscriptions/"+id, "")
	s.want(t, 200, "admin", "GET /v1/subscriptions/"+id+"?tenant=acme", "")
	s.want(t, 404, "admin", "GET /v1/subscriptions/"+id+"?tenant=globex", "")
	s.want(t, 200, "admin", "GET /v1/subscriptions/"+id, "")
	if list := s.want(t, 200, "admin", "GET /v1/subscriptions", ""); len(list.body["data"].([]any)) != 2 {
		t.Errorf("all: %s", list.text)
	}
	if list := s.want(t, 200, "admin", "GET /v1/subscriptions?tenant=globex", ""); len(list.body["data"].([]any)) != 1 {
		t.Errorf("globex's: %s", list.text)
	}
}

func TestListsUnderConcurrentInserts(t *testing.T) {
	t.Parallel()
	s := serve(t)
	const before = 23
	want := map[string]bool{}
	for range before {
		id, _ := s.post(t, "acme", least)
		want[id] = true
	}
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	wg.Go(func() {
		for ctx.Err() == nil {
			if err := s.store.Create(t.Context(), plain("acme", "a")); err != nil {
				t.Error(err)
				return
			}
		}
	})
	for _, order := range []string{"desc", "asc"} {
		seen := map[string]bool{}
		cursor := ""
		for pages := 0; pages < 10_000; pages++ {
			r := s.want(t, 200, "acme", "GET /v1/subscriptions?limit=5&order="+order+cursor, "")
			data := r.body["data"].([]any)
			for _, item := range data {
				id := item.(map[string]any)["id"].(string)
				if seen[id] {
					t.Fatalf("%s: %s comes twice", order, id)
				}
				seen[id] = true
			}
			next, more := r.body["next_cursor"].(string)
			done := true
			for id := range want {
				done = done && seen[id]
			}
			if !more || done {
				break
			}
			cursor = "&cursor=" + next
		}
		for id := range want {
			if !seen[id] {
				t.Errorf("%s: %s is left out", order, id)
			}
		}
	}
	cancel()
	wg.Wait()
}

func TestListParameters(t *testing.T) {
	t.Parallel()
	s := serve(t)
	s.post(t, "acme", with("description", `"Needle"`))
	id, _ := s.post(t, "acme", strings.Replace(with("status", `"paused"`), `["a"]`, `["b.*"]`, 1))
	for query, want := range map[string]int{
		"": 2, "?event_type=a": 1, "?event_type=b.c": 1, "?event_type=b.*": 1, "?event_type=x": 0, "?status=paused": 1, "?status=disabled": 0,
		"?q=nEEdle": 1, "?q=%25": 0, "?q=example.com": 2, "?limit=1": 1, "?dialect=native": 2, "?dialect=leat": 0,
	} {
		r := s.want(t, 200, "acme", "GET /v1/subscriptions"+query, "")
		if got := len(r.body["data"].([]any)); got != want {
			t.Errorf("%s: got %d, want %d", query, got, want)
		}
	}
	for _, query := range []string{"?limit=501", "?limit=0", "?limit=x", "?status=on", "?order=up", "?cursor=x", "?event_type=a..b", "?event_type='", "?dialect=x"} {
		s.want(t, 422, "acme", "GET /v1/subscriptions"+query, "")
	}
	first := s.want(t, 200, "acme", "GET /v1/subscriptions?limit=1", "")
	if !strings.Contains(first.text, id) {
		t.Errorf("the newest does not come first: %s", first.text)
	}
	cursor := first.body["next_cursor"].(string)
	s.want(t, 200, "acme", "GET /v1/subscriptions?limit=1&cursor="+cursor, "")
	s.want(t, 422, "globex", "GET /v1/subscriptions?limit=1&cursor="+cursor, "")
}

func TestDialectsGuardWhatTheyFix(t *testing.T) {
	t.Parallel()
	s := serve(t)
	make1 := func(dialect string, change func(*Subscription)) string {
		sub := &Subscription{Tenant: "acme", Dialect: dialect, Name: "x", URL: "https://example.com/", EventTypes: []string{"a"},
			Metadata: map[string]string{dialect + "_site": "1"}, Scopes: []string{AllScopes}}
		change(sub)
		return "/v1/subscriptions/" + s.create(t, sub).ID.String()
	}
	nothing := func(*Subscription) {}
	paths := map[string]string{
		Leat:     make1(Leat, func(s *Subscription) { s.Secrets = []Secret{{Value: "any text"}} }),
		Kajabi:   make1(Kajabi, nothing),
		Passona:  make1(Passona, func(s *Subscription) { s.EventTypes, s.Retry = nil, Retry{MaxRetries: new(0)} }),
		Babelfor: make1(Babelfor, func(s *Subscription) { s.Retry = Retry{Schedule: DefaultSchedule[1:2], MaxRetries: new(3)} }),
	}
	for _, tt := range []struct {
		patch   string
		refused []string
	}{
		{`{"event_types":["b"]}`, []string{Leat, Kajabi, Passona}},
		{`{"url":"https://example.org/"}`, []string{Kajabi}},
		{`{"resource_id":"7"}`, []string{Kajabi}},
		{`{"payload_format":"standard"}`, []string{Leat, Kajabi, Passona, Babelfor}},
		{`{"retry":{"max_retries":5}}`, []string{Passona}},
		{`{"retry":{"schedule":["1s"]}}`, []string{Passona, Babelfor}},
		{`{"metadata":{"leat_site":"2","kajabi_site":"2","passona_site":"2","babelfor_site":"2"}}`, []string{Leat, Kajabi, Passona, Babelfor}},
		{`{"metadata":{"mine":"2"}}`, nil},
		{`{"name":"y","description":"d","status":"paused"}`, nil},
		{`{"timeout":"2s","max_in_flight":1}`, nil},
	} {
		for dialect, path := range paths {
			status := 200
			if slices.Contains(tt.refused, dialect) {
				status = 422
			}
			r := s.want(t, status, "acme", "PATCH "+path, tt.patch)
			if status == 200 && r.body["dialect"] != dialect {
				t.Errorf("%s: shown as %v", dialect, r.body["dialect"])
			}
		}
	}
	for dialect, path := range paths {
		status := 422
		if dialect == Babelfor {
			status = 202
		}
		s.want(t, status, "acme", "POST "+path+"/rotate-secret", `{}`)
	}
	if r := s.want(t, 200, "acme", "GET "+paths[Leat]+"/secret", ""); r.body["secret"] != "any text" {
		t.Errorf("Leat's secret: %s", r.text)
	}
	if r := s.want(t, 200, "acme", "GET "+paths[Kajabi]+"/secret", ""); r.body["secret"] != nil {
		t.Errorf("Kajabi's secret: %s", r.text)
	}
}

func TestDocument(t *testing.T) {
	t.Parallel()
	s := serve(t)
	count := 0
	for path, item := range s.api.OpenAPI().Paths {
		for method, op := range map[string]*huma.Operation{"GET": item.Get, "POST": item.Post, "PATCH": item.Patch, "DELETE": item.Delete} {
			if op == nil {
				continue
			}
			count++
			if op.Summary == "" || op.Description == "" || op.OperationID == "" {
				t.Errorf("%s %s is not described", method, path)
			}
			for _, p := range op.Parameters {
				if p.Description == "" && p.Name != "If-Match" {
					t.Errorf("%s %s: parameter %s is not described", method, path, p.Name)
				}
			}
		}
	}
	if count != 15 {
		t.Errorf("%d operations", count)
	}
}
