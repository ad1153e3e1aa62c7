package api_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/fanfarehq/fanfare/internal/api"
)

// keys knows who holds which key.
type keys map[string]api.Caller

func (k keys) Authenticate(_ context.Context, credential string) (api.Caller, error) {
	if credential == "away" {
		return api.Caller{}, api.Unavailable(errors.New("connection to 10.0.0.1 refused"))
	}
	c, ok := k[credential]
	if !ok {
		return api.Caller{}, api.ErrUnauthenticated
	}
	return c, nil
}

var callers = keys{
	"admin":    {Admin: true, KeyID: "k0"},
	"acme":     {Tenant: "acme", Scopes: []string{"things:read", "things:write"}, KeyID: "k1"},
	"reader":   {Tenant: "acme", Scopes: []string{"things:read"}, KeyID: "k2"},
	"operator": {AllTenants: true, Scopes: []string{"things:read"}, KeyID: "k4"},
	"other":    {Tenant: "other", Scopes: []string{"things:read", "things:write"}, KeyID: "k3"},
}

type (
	limits struct {
		Max   int    `json:"max" minimum:"1"`
		Label string `json:"label,omitempty"`
	}
	thing struct {
		Name     string            `json:"name" minLength:"1" maxLength:"20"`
		URL      string            `json:"url"`
		Tags     []string          `json:"tags,omitempty" maxItems:"3"`
		Limits   *limits           `json:"limits,omitempty"`
		Metadata map[string]string `json:"metadata,omitempty"`
		Kind     string            `json:"kind,omitempty" enum:"big,small"`
		Wait     pause             `json:"wait,omitempty"`
		Secret   string            `json:"secret,omitempty" maxLength:"5"`
	}
	thingOut struct {
		ETag string `header:"ETag"`
		Body thing
	}
	thingIn struct {
		Body thing
	}
)

// pause is a duration as the API writes it.
type pause time.Duration

func (p pause) MarshalText() ([]byte, error) { return []byte(time.Duration(p).String()), nil }

func (p *pause) UnmarshalText(b []byte) error {
	d, err := time.ParseDuration(string(b))
	if err != nil {
		return errors.New("is not a duration such as 5s")
	}
	*p = pause(d)
	return nil
}

type harness struct {
	*httptest.Server
	log *lockedBuffer
	doc huma.API
}

type lockedBuffer struct {
	mu sync.Mutex
	strings.Builder
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.Builder.Write(p)
}

func (b *lockedBuffer) text() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.String()
}

func serve(t *testing.T, register func(huma.API)) *harness {
	t.Helper()
	h := &harness{log: &lockedBuffer{}}
	mux := http.NewServeMux()
	h.doc = api.New(mux, api.Config{
		Title: "Things", Version: "1", CursorKey: []byte("key"), Logger: slog.New(slog.NewTextHandler(h.log, nil)),
		Unavailable: func(err error) bool { return err.Error() == "by classifier" },
	}, callers)
	register(h.doc)
	h.Server = httptest.NewUnstartedServer(mux)
	h.Config = api.NewServer(mux, slog.New(slog.NewTextHandler(h.log, nil)))
	h.Start()
	t.Cleanup(h.Close)
	return h
}

type answer struct {
	status int
	header http.Header
	body   string
	api.Problem
}

// locations are those of the problem's errors.
func (a answer) locations() string {
	var list []string
	for _, d := range a.Errors {
		list = append(list, d.Location)
	}
	return strings.Join(list, " ")
}

// call asks "METHOD /path" with a key.
func (h *harness) call(t *testing.T, key, what, body string, header ...string) answer {
	t.Helper()
	method, path, _ := strings.Cut(what, " ")
	req, err := http.NewRequestWithContext(t.Context(), method, h.URL+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	if key != "" {
		req.Header.Set("Authorization", "Bearer "+key)
	}
	if body != "" {
		req.Header.Set("Content-Type", "application/json")
	}
	for i := 0; i+1 < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	resp, err := h.Client().Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	a := answer{status: resp.StatusCode, header: resp.Header, body: string(text)}
	if a.status >= 400 && method != http.MethodHead {
		a.checkProblem(t, what, text)
	}
	return a
}

func (a *answer) checkProblem(t *testing.T, what string, text []byte) {
	t.Helper()
	if got := a.header.Get("Content-Type"); got != "application/problem+json" {
		t.Errorf("%s: %d as %s: %s", what, a.status, got, text)
	}
	if err := json.Unmarshal(text, &a.Problem); err != nil {
		t.Errorf("%s: %v in %s", what, err, text)
	}
	if a.Status != a.status || a.Title == "" || a.Type != "about:blank" {
		t.Errorf("%s: %d is %s", what, a.status, text)
	}
	if a.header.Get("X-Content-Type-Options") != "nosniff" || a.header.Get("Cache-Control") != "no-store" {
		t.Errorf("%s: headers %v", what, a.header)
	}
}

func op(method, path string, modifiers ...func(*huma.Operation)) huma.Operation {
	o := huma.Operation{Method: method, Path: path, OperationID: method + strings.NewReplacer("/", "-", "{", "", "}", "").Replace(path)}
	for _, m := range modifiers {
		m(&o)
	}
	return o
}

// things registers operations that do what the tests need.
func things(a huma.API) {
	huma.Register(a, op("POST", "/v1/things", api.Scope("things:write")), func(_ context.Context, in *thingIn) (*thingOut, error) {
		return &thingOut{Body: in.Body}, nil
	})
	huma.Register(a, op("GET", "/v1/things/{id}", api.Scope("things:read")), func(_ context.Context, in *struct {
		ID string `path:"id"`
	}) (*thingOut, error) {
		if _, err := api.ParseID(in.ID); err != nil {
			return nil, err
		}
		return nil, api.NotFound()
	})
	huma.Register(a, op("POST", "/v1/fail/{how}", api.Scope("things:write")), func(_ context.Context, in *struct {
		How string `path:"how"`
	}) (*struct{}, error) {
		switch in.How {
		case "panic":
			panic("secret of a panic")
		case "error":
			return nil, errors.New("secret of an error")
		case "away":
			return nil, api.Unavailable(errors.New("secret host"))
		case "classified":
			return nil, errors.New("by classifier")
		case "conflict":
			return nil, api.Conflict("there is one already")
		}
		return nil, api.TooManyRequests("slow down", 7)
	})
	huma.Register(a, op("GET", "/v1/public", api.Public()), func(context.Context, *struct{}) (*struct{}, error) { return nil, nil })
	huma.Register(a, op("GET", "/v1/admin", api.Scope(api.Admin)), func(context.Context, *struct{}) (*struct{}, error) { return nil, nil })
}

func TestErrorsAreProblems(t *testing.T) {
	t.Parallel()
	h := serve(t, things)
	const good = `{"name":"a","url":"u"}`
	for _, tc := range []struct {
		key, what, body string
		status          int
		locations       string
	}{
		{"acme", "POST /v1/things", good, 200, ""},
		{"", "GET /nothing", "", 404, ""},
		{"", "GET /v1/things/", "", 404, ""},
		{"acme", "GET /v1/things/..", "", 404, ""},
		{"acme", "GET /v1/things/%2e%2e", "", 404, ""},
		{"acme", "GET /v1/things/../things/x", "", 404, ""},
		{"acme", "GET /v1//things/x", "", 404, ""},
		{"acme", "GET /v1/things/..%2fx", "", 404, ""},
		{"", "PUT /v1/things", good, 405, ""},
		{"acme", "POST /v1/things", ``, 400, ""},
		{"acme", "POST /v1/things", `{`, 400, "body"},
		{"acme", "POST /v1/things", good + `x`, 400, "body"},
		{"acme", "POST /v1/things", "\ufeff" + good, 400, "body"},
		{"acme", "POST /v1/things", `{"name":"a","name":"b","url":"u"}`, 400, "body"},
		{"acme", "POST /v1/things", `{"name":"\ud800","url":"u"}`, 400, "body"},
		{"acme", "POST /v1/things", "{\"name\":\"\xff\",\"url\":\"u\"}", 400, "body"},
		{"acme", "POST /v1/things", `{"name":"\u0000","url":"u"}`, 400, "body"},
		{"acme", "POST /v1/things", `{"name":"\\u0000","url":"u"}`, 200, ""},
		{"acme", "POST /v1/things", `{"name":"a","url":"u","metadata":{"\u0000":"x"}}`, 400, "body"},
		{"acme", "POST /v1/things", strings.Repeat("[", 60_000), 400, "body"},
		{"acme", "POST /v1/things", `[]`, 422, "body"},
		{"acme", "POST /v1/things", `null`, 422, "body"},
		{"acme", "POST /v1/things", `{"name":"a"}`, 422, "body.url"},
		{"acme", "POST /v1/things", `{}`, 422, "body.name body.url"},
		{"acme", "POST /v1/things", `{"name":"a","url":"u","status":"x"}`, 422, "body.status"},
		{"acme", "POST /v1/things", `{"Name":"a","url":"u"}`, 422, "body.name body.Name"},
		{"acme", "POST /v1/things", `{"name":"","url":1}`, 422, "body.name body.url"},
		{"acme", "POST /v1/things", `{"name":"a","url":"u","tags":["a",1]}`, 422, "body.tags[1]"},
		{"acme", "POST /v1/things", `{"name":"a","url":"u","limits":{}}`, 422, "body.limits.max"},
		{"acme", "POST /v1/things", `{"name":"a","url":"u","limits":{"max":0}}`, 422, "body.limits.max"},
		{"acme", "POST /v1/things", `{"name":"a","url":"u","wait":"soon"}`, 422, "body.wait"},
		{"acme", "POST /v1/things", `{"name":"a","url":"u","secret":"longsecret"}`, 422, "body.secret"},
		{"acme", "POST /v1/things", `{"name":"` + strings.Repeat("a", 1<<20) + `"}`, 413, ""},
		{"acme", "GET /v1/things/0198f000-0000-7000-8000-000000000000", "", 404, ""},
		{"acme", "GET /v1/things/x", "", 404, ""},
		{"acme", "GET /v1/things/%00", "", 404, ""},
		{"acme", "GET /v1/things/%ff", "", 404, ""},
		{"acme", "GET /v1/things/{0198f000-0000-7000-8000-000000000000}", "", 404, ""},
		{"acme", "GET /v1/things/x?q=1", "", 422, "query.q"},
		{"acme", "GET /v1/things/x?q=%00", "", 422, "query"},
		{"acme", "GET /v1/things/x?q=%zz", "", 400, ""},
		{"acme", "POST /v1/fail/panic", "", 500, ""},
		{"acme", "POST /v1/fail/error", "", 500, ""},
		{"acme", "POST /v1/fail/away", "", 503, ""},
		{"acme", "POST /v1/fail/classified", "", 503, ""},
		{"acme", "POST /v1/fail/conflict", "", 409, ""},
		{"acme", "POST /v1/fail/busy", "", 429, ""},
		{"", "GET /v1/public", "", 204, ""},
		{"", "GET /v1/admin", "", 401, ""},
		{"unknown", "GET /v1/admin", "", 401, ""},
		{"away", "GET /v1/admin", "", 503, ""},
		{"acme", "GET /v1/admin", "", 403, ""},
		{"admin", "GET /v1/admin", "", 204, ""},
		{"reader", "POST /v1/things", good, 403, ""},
		{"admin", "POST /v1/things", good, 200, ""},
		{"acme", "POST /v1/things?tenant=acme", good, 200, ""},
		{"acme", "POST /v1/things?tenant=other", good, 403, ""},
		{"acme", "POST /v1/things?tenant=", good, 422, "query.tenant"},
		{"acme", "POST /v1/things?tenant=acme&tenant=other", good, 422, "query.tenant"},
		{"admin", "POST /v1/things?tenant=other", good, 200, ""},
		{"admin", "POST /v1/things?tenant=a.b", good, 422, "query.tenant"},
	} {
		a := h.call(t, tc.key, tc.what, tc.body)
		if a.status != tc.status || a.locations() != tc.locations {
			t.Errorf("%s %.60s: want %d %q, got %d %q: %.300s", tc.what, tc.body, tc.status, tc.locations, a.status, a.locations(), a.body)
		}
		if strings.Contains(a.body, "secret ") || strings.Contains(a.body, "longsecret") || strings.Contains(a.body, "Go ") {
			t.Errorf("%s %.60s: tells too much: %s", tc.what, tc.body, a.body)
		}
	}
	for _, want := range []string{"secret of a panic", "secret of an error", "secret host"} {
		if !strings.Contains(h.log.text(), want) {
			t.Errorf("%q is not in the log", want)
		}
	}
}

func TestHeadersOfErrors(t *testing.T) {
	t.Parallel()
	h := serve(t, things)
	for _, tc := range []struct{ key, what, header, want string }{
		{"", "PUT /v1/things", "Allow", "POST"},
		{"", "DELETE /v1/things/x", "Allow", "GET, HEAD"},
		{"", "GET /v1/admin", "WWW-Authenticate", `Bearer realm="fanfare"`},
		{"unknown", "GET /v1/admin", "WWW-Authenticate", `Bearer realm="fanfare", error="invalid_token"`},
		{"reader", "POST /v1/things", "WWW-Authenticate", `Bearer realm="fanfare", error="insufficient_scope", scope="things:write"`},
		{"away", "GET /v1/admin", "Retry-After", "2"},
		{"acme", "POST /v1/fail/away", "Retry-After", "2"},
		{"acme", "POST /v1/fail/busy", "Retry-After", "7"},
	} {
		if got := h.call(t, tc.key, tc.what, "").header.Get(tc.header); got != tc.want {
			t.Errorf("%s: want %s %q, got %q", tc.what, tc.header, tc.want, got)
		}
	}
}

func TestCredentials(t *testing.T) {
	t.Parallel()
	h := serve(t, things)
	for _, tc := range []struct {
		status int
		header []string
	}{
		{204, []string{"Authorization", "Bearer admin"}},
		{204, []string{"Authorization", "bearer admin"}},
		{204, []string{"X-API-Key", "admin"}},
		{204, []string{"X-API-Key", "admin", "Authorization", "Bearer admin"}},
		{401, []string{"X-API-Key", "acme", "Authorization", "Bearer admin"}},
		{401, []string{"Authorization", "Basic YWRtaW46"}},
		{401, []string{"Authorization", "admin"}},
		{401, []string{"Authorization", "Bearer"}},
		{401, []string{"Authorization", "Bearer "}},
		{401, []string{"X-API-Key", ""}},
		{401, nil},
	} {
		if a := h.call(t, "", "GET /v1/admin", "", tc.header...); a.status != tc.status {
			t.Errorf("%q: want %d, got %d", tc.header, tc.status, a.status)
		}
	}
}

func TestOtherContentTypes(t *testing.T) {
	t.Parallel()
	h := serve(t, things)
	for contentType, want := range map[string]int{
		"application/json": 200, "application/json; charset=utf-8": 200, "application/merge-patch+json": 200,
		"text/plain": 415, "application/xml": 415, "application/x-www-form-urlencoded": 415,
	} {
		a := h.call(t, "acme", "POST /v1/things", `{"name":"a","url":"u"}`, "Content-Type", contentType, "Accept", "text/html")
		if a.status != want {
			t.Errorf("%s: want %d, got %d %s", contentType, want, a.status, a.body)
		}
		if want == 200 && a.header.Get("Content-Type") != "application/json" {
			t.Errorf("%s: answered as %s", contentType, a.header.Get("Content-Type"))
		}
	}
}

func TestEveryOperationSaysWhoMayCallIt(t *testing.T) {
	t.Parallel()
	for name, modifiers := range map[string][]func(*huma.Operation){
		"neither": nil, "both": {api.Scope("a"), api.Public()},
	} {
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("%s: registered", name)
				}
			}()
			serve(t, func(a huma.API) {
				huma.Register(a, op("GET", "/x", modifiers...), func(context.Context, *struct{}) (*struct{}, error) { return nil, nil })
			})
		}()
	}
}

func TestTypesOfOneNameShareNoSchema(t *testing.T) {
	t.Parallel()
	type Problem struct {
		Own string `json:"own"`
	}
	h := serve(t, func(a huma.API) {
		huma.Register(a, op("GET", "/x", api.Public()), func(context.Context, *struct{}) (*struct{ Body Problem }, error) {
			return &struct{ Body Problem }{}, nil
		})
		huma.Register(a, op("GET", "/y", api.Public()), func(context.Context, *struct{}) (*struct {
			Body struct{ In api.List[Problem] }
		}, error) {
			return nil, nil
		})
	})
	if a := h.call(t, "", "GET /openapi.json", ""); a.status != 200 || !strings.Contains(a.body, `"own"`) {
		t.Errorf("got %d %s", a.status, a.body)
	}
}

// Whatever the body, the answer is one of those that the document names, and never a 5xx.
func FuzzBody(f *testing.F) {
	mux := http.NewServeMux()
	a := api.New(mux, api.Config{Title: "Things", Version: "1"}, callers)
	things(a)
	patches(a)
	for _, seed := range []string{`{"name":"a","url":"u","limits":{"max":1},"metadata":{"a":"b"},"wait":"5s"}`, `{"name":null}`, `[`, "\x00", `{"tags":[1e400]}`} {
		f.Add("POST", []byte(seed))
		f.Add("PATCH", []byte(seed))
	}
	f.Fuzz(func(t *testing.T, method string, body []byte) {
		path := "/v1/things"
		if method == "PATCH" {
			path += "/x"
		} else {
			method = "POST"
		}
		r := httptest.NewRequestWithContext(t.Context(), method, path, bytes.NewReader(body))
		r.Header.Set("X-API-Key", "acme")
		w := httptest.NewRecorder()
		mux.ServeHTTP(w, r)
		switch w.Code {
		case 200, 400, 413, 422:
		default:
			t.Fatalf("%s %q: %d %s", method, body, w.Code, w.Body)
		}
		if !json.Valid(w.Body.Bytes()) {
			t.Fatalf("%s %q: %s", method, body, w.Body)
		}
	})
}
