package api_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/danielgtaylor/huma/v2"

	"github.com/fanfarehq/fanfare/internal/api"
)

type tenantBody struct {
	Tenant string `json:"tenant,omitempty"`
}

func TestTenantOf(t *testing.T) {
	t.Parallel()
	h := serve(t, func(a huma.API) {
		for path, tenantOf := range map[string]func(context.Context, string) (string, error){"/one": api.TenantOf, "/any": api.TenantOrAny} {
			huma.Register(a, op("POST", path, api.Scope("things:read")), func(ctx context.Context, in *struct{ Body tenantBody }) (*struct{ Body string }, error) {
				tenant, err := tenantOf(ctx, in.Body.Tenant)
				return &struct{ Body string }{tenant}, err
			})
		}
	})
	for _, tc := range []struct {
		key, path, body string
		status          int
		want            string
	}{
		{"acme", "/one", `{}`, 200, "acme"},
		{"acme", "/one", `{"tenant":"acme"}`, 200, "acme"},
		{"acme", "/one", `{"tenant":"other"}`, 403, ""},
		{"acme", "/one?tenant=acme", `{}`, 200, "acme"},
		{"acme", "/one?tenant=other", `{}`, 403, ""},
		{"acme", "/one?tenant=acme", `{"tenant":"other"}`, 422, ""},
		{"acme", "/any", `{}`, 200, "acme"},
		{"acme", "/any", `{"tenant":"other"}`, 403, ""},
		{"admin", "/one", `{}`, 422, ""},
		{"admin", "/one", `{"tenant":"acme"}`, 200, "acme"},
		{"admin", "/one?tenant=acme", `{}`, 200, "acme"},
		{"admin", "/one?tenant=acme", `{"tenant":"acme"}`, 200, "acme"},
		{"admin", "/one?tenant=acme", `{"tenant":"other"}`, 422, ""},
		{"admin", "/one", `{"tenant":"a.b"}`, 422, ""},
		{"admin", "/one", `{"tenant":"` + strings.Repeat("a", 65) + `"}`, 422, ""},
		{"admin", "/any", `{}`, 200, ""},
		{"admin", "/any", `{"tenant":"acme"}`, 200, "acme"},
		{"operator", "/one", `{}`, 422, ""},
		{"operator", "/one?tenant=acme", `{}`, 200, "acme"},
		{"operator", "/any", `{}`, 422, ""},
		{"operator", "/any", `{"tenant":"acme"}`, 200, "acme"},
		{"operator", "/any?tenant=acme", `{}`, 200, "acme"},
		{"operator", "/any?tenant=acme", `{"tenant":"other"}`, 422, ""},
		{"operator", "/any?tenant=a.b", `{}`, 422, ""},
	} {
		a := h.call(t, tc.key, "POST "+tc.path, tc.body)
		if a.status != tc.status || (a.status == 200 && strings.TrimSpace(a.body) != `"`+tc.want+`"`) {
			t.Errorf("%s %s %s: want %d %q, got %d %s", tc.key, tc.path, tc.body, tc.status, tc.want, a.status, a.body)
		}
	}
}

// A key over all tenants reads of all of them unless it names one.
func TestTenantOfAnOperatorsRead(t *testing.T) {
	t.Parallel()
	h := serve(t, func(a huma.API) {
		huma.Register(a, op("GET", "/any", api.Scope("things:read")), func(ctx context.Context, _ *struct{}) (*struct{ Body string }, error) {
			tenant, err := api.TenantOrAny(ctx, "")
			return &struct{ Body string }{tenant}, err
		})
		huma.Register(a, op("GET", "/write", api.Scope("things:write")), func(context.Context, *struct{}) (*struct{}, error) { return nil, nil })
		huma.Register(a, op("GET", "/instead", api.Scope("things:write"), api.Instead("things:read")), func(context.Context, *struct{}) (*struct{}, error) { return nil, nil })
	})
	for path, want := range map[string]string{
		"/any": `200 ""`, "/any?tenant=acme": `200 "acme"`, "/write": "403 ", "/write?tenant=acme": "403 ", "/instead": "204 ",
	} {
		a := h.call(t, "operator", "GET "+path, "")
		got := fmt.Sprint(a.status, " ")
		if a.status == 200 {
			got += strings.TrimSpace(a.body)
		}
		if got != want {
			t.Errorf("%s: want %s, got %s", path, want, got)
		}
	}
}

func TestNobodyOutsideOfARequest(t *testing.T) {
	t.Parallel()
	if c := api.CallerFrom(t.Context()); c.Has("things:read") || c.Has("") || c.Has(api.Admin) {
		t.Errorf("got %+v", c)
	}
	if tenant, err := api.TenantOf(t.Context(), "acme"); err == nil {
		t.Errorf("got %s", tenant)
	}
	ctx := api.WithCaller(t.Context(), callers["acme"])
	if tenant, err := api.TenantOf(ctx, ""); err != nil || tenant != "acme" {
		t.Errorf("with a caller: %q, %v", tenant, err)
	}
	if _, err := api.TenantOf(api.WithCaller(t.Context(), api.Caller{}), "acme"); err == nil {
		t.Error("a caller without a tenant acts for one")
	}
}

func TestScopeAdminIsNoScopeOfAKey(t *testing.T) {
	t.Parallel()
	c := api.Caller{Tenant: "acme", Scopes: []string{api.Admin, api.AdminRead, "a:b"}}
	if c.Has(api.Admin) || c.Has(api.AdminRead) || !c.Has("a:b") || c.Has("a:c") || c.OverAll() {
		t.Error("scopes are not as given")
	}
	c = api.Caller{AllTenants: true, Scopes: []string{api.Admin, api.AdminRead}}
	if c.Has(api.Admin) || !c.Has(api.AdminRead) || c.Has("a:b") || !c.OverAll() {
		t.Error("an operator's scopes are not as given")
	}
}

// using remembers whom it is told of, and knows an erased tenant.
type using struct {
	keys
	used *[]string
}

func (u using) UseTenant(_ context.Context, tenant string) error {
	*u.used = append(*u.used, tenant)
	if tenant == "erased" {
		return api.NotFound()
	}
	return nil
}

func TestAuthenticatorIsToldOfTenants(t *testing.T) {
	t.Parallel()
	var used []string
	mux := http.NewServeMux()
	a := api.New(mux, api.Config{Title: "t", Version: "1"}, using{callers, &used})
	handler := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if _, err := api.TenantOf(r.Context(), ""); err != nil {
			api.WriteError(w, r, err)
		}
	})
	for _, method := range []string{"GET", "POST"} {
		api.Mount(a, huma.Operation{Method: method, Path: "/x"}, handler, api.Scope("things:read"))
	}
	for _, tc := range []struct {
		method, query, key string
		status             int
	}{{"GET", "acme", "admin", 200}, {"POST", "acme", "admin", 200}, {"POST", "acme", "acme", 200}, {"POST", "erased", "admin", 404}} {
		r := httptest.NewRequestWithContext(t.Context(), tc.method, "/x?tenant="+tc.query, nil)
		r.Header.Set("X-API-Key", tc.key)
		w := httptest.NewRecorder()
		mux.ServeHTTP(w, r)
		if w.Code != tc.status {
			t.Errorf("%v: got %d %s", tc, w.Code, w.Body)
		}
	}
	if got := strings.Join(used, " "); got != "acme acme erased" {
		t.Errorf("told of %q", got)
	}
}

func TestMountedHandlerKnowsItsCaller(t *testing.T) {
	t.Parallel()
	mux := http.NewServeMux()
	a := api.New(mux, api.Config{Title: "t", Version: "1"}, callers)
	handler := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		c := api.CallerFrom(r.Context())
		if c.Tenant != "acme" || api.RemoteAddr(r.Context()) != "192.0.2.1" {
			t.Errorf("got %+v from %q", c, api.RemoteAddr(r.Context()))
		}
		api.WriteError(w, r, errors.New("secret"))
	})
	api.Mount(a, huma.Operation{Method: http.MethodGet, Path: "/"}, handler, api.Scope("things:read"))
	for key, want := range map[string]int{"acme": 500, "": 401, "x": 401, "away": 503} {
		r := httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/", nil)
		r.Header.Set("X-API-Key", key)
		w := httptest.NewRecorder()
		mux.ServeHTTP(w, r)
		if w.Code != want || strings.Contains(w.Body.String(), "secret") {
			t.Errorf("%q: got %d %s", key, w.Code, w.Body)
		}
	}
}
