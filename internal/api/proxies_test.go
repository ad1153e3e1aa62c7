package api_test

import (
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/fanfarehq/fanfare/internal/api"
)

func TestTrustedProxies(t *testing.T) {
	t.Parallel()
	trusting := api.ProxyConfig{TrustedProxies: []string{"10.0.0.0/8", " 2001:db8::/32"}}
	for _, tc := range []struct {
		name, peer  string
		forwarded   []string
		want        string
		cfg         api.ProxyConfig
		wantHeaders bool
	}{
		{"nobody is trusted", "10.0.0.1:1", []string{"203.0.113.7"}, "10.0.0.1:1", api.ProxyConfig{}, false},
		{"another peer", "192.0.2.1:1", []string{"203.0.113.7"}, "192.0.2.1:1", trusting, false},
		{"a trusted peer", "10.0.0.1:1", []string{"203.0.113.7"}, "203.0.113.7:0", trusting, true},
		{"the right-most untrusted", "10.0.0.1:1", []string{"6.6.6.6, 203.0.113.7, 10.0.0.2"}, "203.0.113.7:0", trusting, true},
		{"over several headers", "10.0.0.1:1", []string{"6.6.6.6", "203.0.113.7,10.0.0.2"}, "203.0.113.7:0", trusting, true},
		{"all trusted", "10.0.0.1:1", []string{"10.0.0.3, 10.0.0.2"}, "10.0.0.3:0", trusting, true},
		{"nonsense before a trusted one", "10.0.0.1:1", []string{"6.6.6.6, nonsense, 10.0.0.2"}, "10.0.0.2:0", trusting, true},
		{"nonsense alone", "10.0.0.1:1", []string{"nonsense"}, "10.0.0.1:1", trusting, true},
		{"none", "10.0.0.1:1", nil, "10.0.0.1:1", trusting, true},
		{"IPv6 with a port", "[2001:db8::1]:1", []string{"[2001:470::7]:4711"}, "[2001:470::7]:0", trusting, true},
		{"IPv4 in IPv6", "[::ffff:10.0.0.1]:1", []string{"::ffff:203.0.113.7"}, "203.0.113.7:0", trusting, true},
		{"a socket without an address", "@", []string{"203.0.113.7"}, "@", trusting, false},
	} {
		r := httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/", nil)
		r.RemoteAddr = tc.peer
		for _, value := range tc.forwarded {
			r.Header.Add("X-Forwarded-For", value)
		}
		r.Header.Add("X-Forwarded-Proto", "http, https")
		r.Header.Add("X-Forwarded-Host", "hooks.example")
		var got *http.Request
		tc.cfg.Handler(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { got = r })).ServeHTTP(httptest.NewRecorder(), r)
		if got.RemoteAddr != tc.want || got.Header.Get("X-Forwarded-For") != "" {
			t.Errorf("%s: %s, %v, want %s", tc.name, got.RemoteAddr, got.Header, tc.want)
		}
		proto, host := "", ""
		if tc.wantHeaders {
			proto, host = "https", "hooks.example"
		}
		if got.Header.Get("X-Forwarded-Proto") != proto || got.Header.Get("X-Forwarded-Host") != host {
			t.Errorf("%s: %v", tc.name, got.Header)
		}
	}
	if err := (api.ProxyConfig{TrustedProxies: []string{"10.0.0.1"}}).Validate(); err == nil {
		t.Error("an address without a length is accepted")
	}
}
