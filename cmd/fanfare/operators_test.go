package main

import (
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/fanfarehq/fanfare/internal/api"
)

// operatorScopes are what keys over all tenants can hold: three kinds of operators.
var operatorScopes = map[string][]string{
	"reads all":            {"subscriptions:read", "events:read", "deliveries:read", api.AdminRead},
	"all but keys":         {"subscriptions:read", "events:read", "deliveries:read", api.AdminRead, "subscriptions:write", "events:write", "deliveries:write"},
	"reads administration": {api.AdminRead},
}

// operator makes a key over all tenants.
func (d *deployment) operator(t *testing.T, scopes ...string) string {
	t.Helper()
	var k struct{ Key string }
	d.call(t, testAdminKey, "POST /v1/keys", map[string]any{"name": "operator", "tenant": nil, "scopes": scopes}, http.StatusCreated).decode(t, &k)
	return k.Key
}

// allows says whether scopes are enough for an operation.
func (o *operation) allows(scopes []string) bool {
	if o.Scope == api.AnyScope || o.Instead != "" && slices.Contains(scopes, o.Instead) {
		return true
	}
	return !slices.ContainsFunc(strings.Fields(o.Scope), func(s string) bool { return !slices.Contains(scopes, s) })
}

// A key over all tenants reads of all tenants what its scopes allow, and writes where it names the tenant.
func testOperators(t *testing.T, d *deployment) {
	tenant, other := unique("operated-"), unique("operated-other-")
	keys := map[string]string{}
	for kind, scopes := range operatorScopes {
		keys[kind] = d.operator(t, scopes...)
	}
	d.each(t, func(t *testing.T, o *operation) {
		m := makerOf(t, o)
		if m == nil {
			return
		}
		valid := m(t, d, tenant)
		reads := o.Method == http.MethodGet
		for kind, key := range keys {
			expect := func(r request, want int) {
				t.Helper()
				if got := d.send(t, key, o, r); got.status != want && (want != http.StatusOK || got.status/100 != 2) {
					t.Errorf("%s, a key that %s, %v: want %d, got %d %s", o, kind, r.query, want, got.status, got.body)
				}
			}
			narrowed := valid
			if o.has("query", "tenant") {
				narrowed = valid.asking("tenant", tenant)
			}
			if !o.allows(operatorScopes[kind]) {
				expect(valid, http.StatusForbidden)
				expect(narrowed, http.StatusForbidden)
				continue
			}
			switch {
			case reads && strings.HasPrefix(o.Path, "/v1/event-types/"): // Without a tenant, those of all tenants.
				expect(valid, http.StatusNotFound)
			case reads:
				expect(valid, http.StatusOK)
			default:
				expect(valid, http.StatusUnprocessableEntity)
			}
			if o.has("query", "tenant") && len(o.pathNames()) > 0 {
				expect(valid.asking("tenant", other), http.StatusNotFound)
			} else if o.has("query", "tenant") && reads && o.ID != "tail" {
				if got := d.send(t, key, o, valid.asking("tenant", other)); got.status != http.StatusOK || strings.Contains(got.body, marked(tenant)) {
					t.Errorf("%s of another tenant: %d %s", o, got.status, got.body)
				}
			}
			expect(narrowed, http.StatusOK)
		}
	})
}

// A key over all tenants cannot get more than it was given.
func testOperatorsRaiseNothing(t *testing.T, d *deployment) {
	tenant := unique("raised-")
	reader, writer := d.operator(t, operatorScopes["reads all"]...), d.operator(t, operatorScopes["all but keys"]...)
	viewer := d.operator(t, "events:read", "view:purchases")
	var own identified
	d.call(t, testAdminKey, "POST /v1/keys", map[string]any{"name": "own", "tenant": nil, "scopes": []string{"events:read"}}, 201).decode(t, &own)
	d.call(t, testAdminKey, "POST /v1/event-types?tenant="+tenant, map[string]any{"name": "raised.scoped", "scopes": []string{"view:purchases"}}, 201)
	job := someJob(t, d, tenant).path["id"]
	var over identified
	d.call(t, testAdminKey, "POST /v1/deliveries/cancel", someSpan(map[string]any{"rate": 1, "dry_run": true}), 202).decode(t, &over)
	sub := someSubscription(t, d, tenant).path["id"]
	hook := `"name":"r","url":"https://erp.invalid/hooks"`
	for _, tc := range []struct {
		key, route, body string
		status           int
	}{
		{reader, "POST /v1/keys", `{"name":"a","tenant":null,"scopes":["events:read"]}`, 403},
		{reader, "POST /v1/keys?tenant=" + tenant, `{"name":"a","scopes":["events:read"]}`, 403},
		{reader, "POST /v1/keys", `{"name":"a","admin":true}`, 403},
		{reader, "PATCH /v1/keys/" + own.ID, `{"scopes":["keys:write"]}`, 405},
		{reader, "DELETE /v1/keys/" + own.ID, ``, 403},
		{reader, "POST /v1/subscriptions?tenant=" + tenant, `{` + hook + `,"event_types":["*"]}`, 403},
		{reader, "GET /v1/subscriptions/" + sub + "/secret?tenant=" + tenant, ``, 403},
		{reader, "POST /v1/events?tenant=" + tenant, `{"type":"a.b","data":1}`, 403},
		{writer, "POST /v1/keys?tenant=" + tenant, `{"name":"a","scopes":["events:read"]}`, 403},
		{writer, "DELETE /v1/keys/" + own.ID, ``, 403},
		{writer, "GET /v1/keys?tenant=" + tenant, ``, 403},
		{writer, "PUT /v1/tenants/" + tenant, `{"limits":{"keys":1000000}}`, 403},
		{writer, "DELETE /v1/tenants/" + tenant, ``, 403},
		{writer, "POST /v1/event-types?tenant=" + tenant, `{"name":"raised.made"}`, 403},
		{writer, "PATCH /v1/event-types/raised.scoped?tenant=" + tenant, `{"scopes":[]}`, 403},
		{writer, "POST /v1/subscriptions", `{` + hook + `,"event_types":["*"]}`, 422},
		{writer, "POST /v1/subscriptions?tenant=" + tenant, `{` + hook + `,"event_types":["raised.scoped"]}`, 403},
		{writer, "POST /v1/subscriptions", `{` + hook + `,"event_types":["*"],"tenant":"` + tenant + `"}`, 201},
		{writer, "POST /v1/events", `{"type":"raised.scoped","id":"raised_1","data":{"card":"4111"},"tenant":"` + tenant + `"}`, 202},
		{writer, "POST /v1/events", `{"type":"raised.open","data":1}`, 422},
		{writer, "POST /v1/deliveries/cancel", `{"filter":{"since":"2026-01-01T00:00:00Z","until":"2100-01-01T00:00:00Z"},"dry_run":true}`, 422},
		{writer, "POST /v1/deliveries/cancel", `{"filter":{"tenant":"` + tenant + `","since":"2026-01-01T00:00:00Z","until":"2100-01-01T00:00:00Z"},"dry_run":true}`, 202},
		{writer, "POST /v1/jobs/" + job + "/pause", ``, 422},
		{writer, "POST /v1/jobs/" + job + "/pause?tenant=" + tenant, ``, 202},
		{writer, "POST /v1/jobs/" + over.ID + "/cancel?tenant=" + tenant, ``, 404},
		{writer, "PATCH /v1/subscriptions/" + sub, `{"url":"https://thief.invalid/"}`, 422},
		{writer, "PATCH /v1/subscriptions/" + sub + "?tenant=" + unique("raised-other-"), `{"description":"x"}`, 404},
		{writer, "DELETE /v1/subscriptions/" + sub, ``, 422},
	} {
		var body any
		if tc.body != "" {
			body = []byte(tc.body)
		}
		d.call(t, tc.key, tc.route, body, tc.status)
	}
	for key, seen := range map[string]bool{reader: false, writer: false, viewer: true, testAdminKey: true} {
		for _, path := range []string{"/v1/events/raised_1", "/v1/events/raised_1?tenant=" + tenant} {
			got := d.until(t, key, "GET "+path, func(r reply) bool { return r.status == 200 })
			var shown struct{ Data struct{ Card string } }
			if got.decode(t, &shown); (shown.Data.Card != "") != seen {
				t.Errorf("%s: the data of a type with scopes is shown: %v, want %v", path, !seen, seen)
			}
		}
	}
}
