package vendors_test

import (
	"net/http"
	"slices"
	"strings"
	"testing"
)

// scopeOf are the vendors' routes by the scope that each needs; what a route needs beside it is not its business here.
var scopeOf = map[string]string{
	"GET /v1/webhooks/subscriptions": "subscriptions:read", "POST /v1/webhooks/subscriptions": "subscriptions:write",
	"GET /v1/webhooks/subscriptions/{id}": "subscriptions:read", "PUT /v1/webhooks/subscriptions/{id}": "subscriptions:write",
	"DELETE /v1/webhooks/subscriptions/{id}": "subscriptions:write", "GET /v1/webhooks/event-types": "events:read",
	"POST /v1/webhooks/subscriptions/{id}/test": "subscriptions:write", "GET /v1/webhooks/subscriptions/{id}/events": "deliveries:read",
	"DELETE /v1/webhooks/subscriptions/{id}/events/{event}": "deliveries:write",
}

// scopeNeeded is the scope of any route: elsewhere reading reads subscriptions and all else changes them.
func scopeNeeded(route string) string {
	if scope, ok := scopeOf[route]; ok {
		return scope
	}
	switch {
	case strings.HasSuffix(route, "_sample"):
		return "" // that of its event type
	case strings.HasPrefix(route, "GET "):
		return "subscriptions:read"
	}
	return "subscriptions:write"
}

// Every route of every vendor is closed to keys that have any one scope but the one that it needs.
func TestNoVendorWidensAScope(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	keys := map[string]string{}
	for _, scope := range []string{
		"events:write", "events:read", "subscriptions:read", "subscriptions:write", "deliveries:read", "deliveries:write", "keys:write", "view:nothing",
	} {
		_, keys[scope] = h.key("acme", `["`+scope+`"]`)
	}
	_, all := h.key("acme", allScopes)
	n := h.create("babelfor", all, h.receiver.URL)
	known := 0
	for _, v := range h.vendors {
		for _, route := range v.Routes() {
			if _, ok := scopeOf[route]; ok {
				known++
			} else if v.Name == "babelfor" {
				t.Errorf("no scope is known for %s", route)
			}
			path := strings.NewReplacer("{id}", "1", "{uuid}", n.ID, "{event}", "1").Replace(route)
			for scope, key := range keys {
				a := h.call(key, path, "{}")
				if may := scope == scopeNeeded(route); (a.status == http.StatusForbidden) == may {
					t.Errorf("%s with %s: %d %s", path, scope, a.status, a.body)
				}
			}
		}
	}
	if known != len(scopeOf) {
		t.Errorf("%d routes of %d are there", known, len(scopeOf))
	}
}

// What a route shows beside its own noun needs the scope of that.
func TestBabelforShowsEachCallerWhatItMaySee(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	_, all := h.key("acme", allScopes)
	n := h.call(all, "POST /v1/webhooks/subscriptions",
		`{"subscription":{"name":"a","eventType":"*","url":"`+h.receiver.URL+`/?token=tok-4711","secret":"sec-4711","headers":{"X-Key":"hdr-4711"}}}`)
	if n.status != http.StatusOK || strings.Count(n.body, "4711") != 3 {
		t.Fatalf("%d %s", n.status, n.body)
	}
	if a := h.call(all, "POST /v1/webhooks/subscriptions/1/test", `{"payload":{"card":"card-4711"}}`); a.status != http.StatusOK {
		t.Fatalf("%d %s", a.status, a.body)
	}
	const one, log = "GET /v1/webhooks/subscriptions/1", "GET /v1/webhooks/subscriptions/1/events"
	for _, tt := range []struct {
		scopes, what string
		status       int
		shows        []string
	}{
		{`"subscriptions:read"`, one, 200, nil},
		{`"subscriptions:read"`, one + "?include=webhookEvents", 403, nil},
		{`"subscriptions:read"`, log, 403, nil},
		{`"subscriptions:read","subscriptions:write"`, one, 200, []string{"tok-", "sec-", "hdr-"}},
		{`"subscriptions:read","deliveries:read"`, one + "?include=webhookEvents", 200, nil},
		{`"subscriptions:read","deliveries:read","events:read"`, one + "?include=webhookEvents", 200, []string{"card-"}},
		{`"deliveries:read"`, log, 200, nil},
		{`"deliveries:read"`, log + "?filter=contains(payload,%274711%27)", 403, nil},
		{`"deliveries:read","events:read"`, log, 200, []string{"card-"}},
	} {
		_, key := h.key("acme", "["+tt.scopes+"]")
		a := h.call(key, tt.what, "")
		var shown []string
		for _, secret := range []string{"tok-", "sec-", "hdr-", "card-"} {
			if strings.Contains(a.body, secret+"4711") {
				shown = append(shown, secret)
			}
		}
		if a.status != tt.status || !slices.Equal(shown, tt.shows) {
			t.Errorf("%s with %s: %d, shown is %v of %s", tt.what, tt.scopes, a.status, shown, a.body)
		}
	}
}
