package dialects_test

import (
	"net/http"
	"net/http/httptest"
	"net/url"
	"testing"

	"github.com/fanfarehq/fanfare/internal/dialects"
)

// A vendor's handler sees paths without repeated slashes and without one at the end; other paths go on as they came.
func TestPathsAreCleaned(t *testing.T) {
	t.Parallel()
	seen, passed := "", ""
	look := func(c *dialects.Call) error {
		seen = c.R.URL.Path
		return nil
	}
	next := http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { passed = r.URL.Path })
	for path, want := range map[string]string{
		"/":                                "/",
		"/api//webhook-subscriptions":      "/api/webhook-subscriptions",
		"/api/2.0/webhooks/":               "/api/2.0/webhooks",
		"/api/2.0/webhooks//":              "/api/2.0/webhooks",
		"//api////2.0//webhooks///":        "/api/2.0/webhooks",
		"/v1/hooks":                        "/v1/hooks",
		"//":                               "/",
		"/api/2.0/webhooks//?per_page=20/": "/api/2.0/webhooks/?per_page=20",
	} {
		v := newVendor(http.MethodGet, want, look)
		v.Prefixes = []string{want}
		ask := func() {
			seen, passed = "", ""
			r := httptest.NewRequest(http.MethodGet, "/", nil)
			r.URL = &url.URL{Path: path}
			dialects.Mux(next, v.Vendor).ServeHTTP(httptest.NewRecorder(), r)
		}
		if ask(); seen != want || passed != "" {
			t.Errorf("%s: the vendor got %q, the next one %q, want %s", path, seen, passed, want)
		}
		v.Prefixes = []string{"/elsewhere"}
		if ask(); seen != "" || passed != path {
			t.Errorf("%s of nobody: the vendor got %q, the next one %q", path, seen, passed)
		}
	}
}
