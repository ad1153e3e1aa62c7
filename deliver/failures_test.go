package deliver_test

import (
	"fmt"
	"net/http"
	"testing"

	"github.com/fanfarehq/fanfare/subscriptions"
)

// Failures are grouped over pending, dead and held deliveries; delivered and resolved ones are not among them.
func TestFailuresAreGrouped(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	c := r.api()
	sub, other := r.subscribe("http://one.example.com:80/a", nil), r.subscribe("https://two.example.com:8443/", nil)
	foreign := r.subscribe("http://one.example.com/b", func(s *subscriptions.Subscription) { s.Tenant = "globex" })
	r.ledgered(sub, "acme", 40) // ten of each state, all http_5xx with status 500
	r.ledgered(other, "initech", 8)
	r.ledgered(foreign, "globex", 8)
	for _, change := range []string{
		`UPDATE deliveries SET reason = 'tls', status = 0 WHERE state = 'dead' AND tenant = 'acme' AND seq < 20`, // 2 6 10 14 18
		`UPDATE deliveries SET resolved_at = now() WHERE state = 'dead' AND tenant = 'acme' AND seq = 38`,
		`UPDATE deferrals SET held = true, reason = 'paused' WHERE tenant = 'acme' AND seq = 1`,
		`UPDATE deferrals SET attempts = 0, reason = 'rate_limited' WHERE tenant = 'acme' AND seq = 5`, // has not failed
	} {
		if _, err := r.DB.Exec(change); err != nil {
			t.Fatal(err)
		}
	}
	groups := func(who, query string) (all map[string]string, complete bool) {
		t.Helper()
		list := c.do(who, http.MethodGet, "/v1/failures?"+query, 200)
		all = map[string]string{}
		for _, item := range list["data"].([]any) {
			g := item.(map[string]any)
			if g["first_at"].(string) > g["last_at"].(string) || g["sample_delivery_id"] == nil {
				t.Errorf("got %v", g)
			}
			all[fmt.Sprint(g["reason"], " ", g["host"], " ", g["http_status"])] = fmt.Sprint(g["count"], " ", g["tenants"], " ", g["subscriptions"])
		}
		return all, list["complete"].(bool)
	}
	for _, tt := range []struct {
		who, query string
		want       map[string]string
	}{
		{"acme", "", map[string]string{
			"tls one.example.com <nil>": "5 1 1", "http_5xx one.example.com 500": "12 1 1", "paused one.example.com 500": "1 1 1",
		}},
		{"acme", "by=reason", map[string]string{"tls <nil> <nil>": "5 1 1", "http_5xx <nil> <nil>": "12 1 1", "paused <nil> <nil>": "1 1 1"}},
		{"acme", "since=2026-11-20T10:00:30Z&by=reason,http_status", map[string]string{"http_5xx <nil> 500": "4 1 1"}},
		{"acme", "until=2026-11-20T10:00:03Z&by=host", map[string]string{"<nil> one.example.com <nil>": "2 1 1"}},
		{"admin", "by=host", map[string]string{"<nil> one.example.com <nil>": "22 2 2", "<nil> two.example.com:8443 <nil>": "4 1 1"}},
		{"admin", "by=host&tenant=globex", map[string]string{"<nil> one.example.com <nil>": "4 1 1"}},
		{"nobodys", "", map[string]string{}},
	} {
		got, complete := groups(tt.who, tt.query)
		if fmt.Sprint(got) != fmt.Sprint(tt.want) || !complete {
			t.Errorf("%s %s: got %v (complete: %t), want %v", tt.who, tt.query, got, complete, tt.want)
		}
	}
	for _, item := range c.do("admin", http.MethodGet, "/v1/failures?by=subscription", 200)["data"].([]any) {
		if g := item.(map[string]any); g["subscription_id"] == nil || g["subscriptions"] != 1.0 || g["reason"] != nil {
			t.Errorf("by subscription: got %v", g)
		}
	}
	c.do("acme", http.MethodGet, "/v1/failures?by=colour", 422)
}
