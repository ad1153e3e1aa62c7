package main

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/fanfarehq/fanfare/internal/event"
	"github.com/fanfarehq/fanfare/internal/servertest"
)

// Event types' scopes gate who may subscribe to them, and what a pattern receives.
func testEventTypeScopes(t *testing.T, d *deployment) {
	receiver, tenant := servertest.NewReceiver(t), unique("scoped-")
	plain, viewer := d.key(t, tenant), d.key(t, tenant, append([]string{"view:purchases"}, ownScopes...)...)
	d.call(t, testAdminKey, "POST /v1/event-types?tenant="+tenant, map[string]any{"name": "scoped.before", "scopes": []string{"view:purchases"}}, 201)
	subscribe := func(key, path, kind string, want int) string {
		var s identified
		got := d.call(t, key, "POST /v1/subscriptions", map[string]any{"name": path, "url": receiver.URL + "/" + path, "event_types": []string{kind}}, want)
		if want == 201 {
			got.decode(t, &s)
		}
		return s.ID
	}
	subscribe(plain, "x", "scoped.before", http.StatusForbidden)
	subscribe(viewer, "exact", "scoped.before", http.StatusCreated)
	blind := subscribe(plain, "blind", "*", http.StatusCreated)
	subscribe(viewer, "seeing", "*", http.StatusCreated)
	subscribe(viewer, "tokens", "scoped.*", http.StatusCreated)
	// A type that is declared later is guarded as well.
	d.call(t, testAdminKey, "POST /v1/event-types?tenant="+tenant, map[string]any{"name": "scoped.after", "scopes": []string{"view:purchases"}}, 201)
	d.call(t, plain, "PATCH /v1/subscriptions/"+blind, map[string]any{"event_types": []string{"*", "scoped.after"}}, http.StatusForbidden)
	for _, kind := range []string{"scoped.before", "scoped.after", "scoped.open"} {
		d.call(t, plain, "POST /v1/events", map[string]any{"id": strings.ReplaceAll(kind, ".", "_"), "type": kind, "data": map[string]any{}}, 202)
	}
	for id, want := range map[string]int{"scoped_before": 3, "scoped_after": 2, "scoped_open": 3} {
		var e struct{ Matched int }
		d.until(t, plain, "GET /v1/events/"+id, func(r reply) bool { return r.status == 200 }).decode(t, &e)
		if e.Matched != want {
			t.Errorf("%s matched %d subscriptions, want %d", id, e.Matched, want)
		}
	}
	for _, r := range receiver.Wait(8) {
		if r.Path == "/blind" && r.Header.Get("Webhook-Id") != "scoped_open" {
			t.Errorf("who lacks the scope received %s", r.Header.Get("Webhook-Id"))
		}
	}
	var explained struct {
		Results []struct {
			Matched bool
			Steps   []struct{ Step, Verdict string }
		}
	}
	d.call(t, plain, "GET /v1/events/scoped_before/explain?subscription="+blind, nil, 200).decode(t, &explained)
	if len(explained.Results) != 1 || explained.Results[0].Matched {
		t.Fatalf("explain says %+v", explained)
	}
	for _, s := range explained.Results[0].Steps {
		if want := s.Step == "scopes"; (s.Verdict == "fail") != want {
			t.Errorf("the step %s: %s", s.Step, s.Verdict)
		}
	}
}

// What the API's description promises word by word, by calls. An entry is the key (a tenant's, unless it is the
// admin's), the route, the body, the status, and what the answer must hold.
func testWords(t *testing.T, d *deployment) {
	tenant := unique("words-")
	key := d.key(t, tenant)
	base := `"name":"w","url":"https://erp.invalid/hooks","event_types":["order.*"]`
	var sub identified
	d.call(t, key, "POST /v1/subscriptions", []byte(`{`+base+`}`), 201).decode(t, &sub)
	one := "/v1/subscriptions/" + sub.ID
	nested := func(n int) string { return strings.Repeat("[", n) + strings.Repeat("]", n) }
	for _, tc := range []struct {
		key, route, body string
		status           int
		holds            string
	}{
		// Keys, tenants, scopes
		{key, "POST /v1/keys", `{"name":"a","scopes":["view:purchases"]}`, 403, "view:purchases"},
		{key, "POST /v1/keys", `{"name":"a","scopes":["events:read"],"admin":true}`, 403, ""},
		{key, "POST /v1/keys", `{"name":"a","scopes":["admin"]}`, 422, "body.scopes[0]"},
		{key, "POST /v1/keys", `{"name":"a","scopes":["events:read"],"expires_at":"2001-01-01T00:00:00Z"}`, 422, "body.expires_at"},
		{key, "POST /v1/keys", `{"name":"a","scopes":["events:read"],"expires_at":"9999-12-31T23:59:59-23:59"}`, 201, `"expires_at":"9999-12-31T23:59:59Z"`},
		{key, "GET /v1/keys", "", 200, `"expires_at":"9999-12-31T23:59:59Z"`},
		{key, "POST /v1/keys", `{"name":"a","scopes":["events:read"],"tenant":"another"}`, 403, ""},
		{testAdminKey, "POST /v1/keys", `{"name":"a","scopes":["events:read"]}`, 422, "tenant"},
		{testAdminKey, "GET /v1/tenants/" + tenant, "", 200, `"tenant":"` + tenant + `"`},
		{testAdminKey, "GET /v1/tenants/no-such-tenant", "", 404, ""},
		{key, "GET /v1/tenants/" + tenant, "", 403, ""},
		// Errors, lists, limits
		{key, "GET /v1/nothing", "", 404, ""},
		{key, "PUT /v1/subscriptions", "{}", 405, ""},
		{key, "POST /v1/subscriptions", `{`, 400, ""},
		{key, "POST /v1/subscriptions", `{"name":"w","event_types":["a"]}`, 422, `"location":"body.url"`},
		{key, "POST /v1/subscriptions", `{` + base + `,"colour":"red"}`, 422, `body.colour`},
		{key, "POST /v1/subscriptions", `{` + base + `,"number":7}`, 422, `body.number`},
		{key, "POST /v1/subscriptions", `{` + base + `,"disabled_reason":"x"}`, 422, `body.disabled_reason`},
		{key, "GET /v1/subscriptions?limit=501", "", 422, "query.limit"},
		{key, "GET /v1/subscriptions?limit=0", "", 422, "query.limit"},
		{key, "GET /v1/subscriptions?limit=500", "", 200, `"next_cursor":null`},
		{key, "GET /v1/subscriptions?cursor=forged", "", 422, "query.cursor"},
		{key, "GET /v1/subscriptions?order=up", "", 422, "query.order"},
		{key, "GET /v1/subscriptions?colour=red", "", 422, "query.colour"},
		// Publishing
		{key, "POST /v1/events", `{"type":"order.created","data":{"a":1},"id":"w1"}`, 202, `{"id":"w1","duplicate":false}`},
		{key, "POST /v1/events", `{"type":"order.created","data":{"a":1},"id":"w1"}`, 202, `{"id":"w1","duplicate":true}`},
		{key, "POST /v1/events", `{"type":"order.created","data":{"a":1},"id":"w1","time":"2026-11-20T10:00:00Z"}`, 202, `"duplicate":true`},
		{key, "POST /v1/events", `{"type":"order.created","data":{"a": 1},"id":"w1"}`, 409, ""},
		{key, "POST /v1/events", `{"type":"order.created","data":1,"id":"w_late","time":"9999-12-31T23:59:59.999999999Z"}`, 202, ""},
		{key, "POST /v1/events", `{"type":"order.created","data":1,"time":"9999-12-31T23:59:59-23:59"}`, 422, "body.time"},
		{key, "POST /v1/events", `{"type":"order.created","data":{"a":1},"id":"w1","changed":["a"]}`, 409, ""},
		{key, "POST /v1/events", `{"type":"order.created"}`, 422, "body.data"},
		{key, "POST /v1/events", `{"data":{}}`, 422, "body.type"},
		{key, "POST /v1/events", `{"type":"order created","data":{}}`, 422, "body.type"},
		{key, "POST /v1/events", `{"type":"` + strings.Repeat("a", 129) + `","data":{}}`, 422, "body.type"},
		{key, "POST /v1/events", `{"type":"` + strings.Repeat("a", 128) + `","data":{}}`, 202, ""},
		{key, "POST /v1/events", `{"type":"a","id":"has.dot","data":{}}`, 422, "body.id"},
		{key, "POST /v1/events", `{"type":"a","data":{},"colour":1}`, 422, "body.colour"},
		{key, "POST /v1/events", `{"type":"a","data":{},"tenant":"another"}`, 403, ""},
		{testAdminKey, "POST /v1/events", `{"type":"a","data":{}}`, 422, "tenant"},
		{testAdminKey, "POST /v1/events", `{"type":"a","data":{},"tenant":"` + tenant + `"}`, 202, ""},
		{key, "POST /v1/events", `{"type":"a","data":` + nested(64) + `}`, 202, ""},
		{key, "POST /v1/events", `{"type":"a","data":` + nested(65) + `}`, 422, "body.data"},
		{key, "POST /v1/events", `{"type":"a","data":"` + strings.Repeat("a", 256<<10-2) + `"}`, 202, ""},
		{key, "POST /v1/events", `{"type":"a","data":"` + strings.Repeat("a", 256<<10-1) + `"}`, 413, ""},
		{key, "POST /v1/events", `{"type":"a","data":{},"targets":["0198c0de-7a3c-7000-8000-5f1e2d3c4b5a"]}`, 422, "body.targets"},
		{key, "POST /v1/events", `[{"type":"a"},{"type":"b"}]`, 422, `"accepted":0`},
		{key, "POST /v1/events", `[{"type":"a","id":"w2","data":1},{"type":"a","id":"w2","data":1},{"type":"!","data":1}]`, 202, `"accepted":2`},
		{key, "POST /v1/events", `[` + strings.Repeat(`{},`, 1000) + `{}]`, 413, ""},
		{key, "POST /v1/events", `[` + strings.Repeat(" ", 4<<20) + `]`, 413, ""},
		// Subscriptions
		{key, "POST /v1/subscriptions", `{` + base + `,"filter":"event.data.total +"}`, 422, "body.filter"},
		{key, "POST /v1/subscriptions", `{` + base + `,"filter":"event.type"}`, 422, "body.filter"},
		{key, "POST /v1/subscriptions", `{` + base + `,"filter":"event.data.total > 100.0"}`, 201, `"filter":"event.data.total > 100.0"`},
		{key, "POST /v1/subscriptions", `{` + base + `,"secret":"whsec_short"}`, 422, "body.secret"},
		{key, "POST /v1/subscriptions", `{` + base + `}`, 201, `"secret":"whsec_`},
		{key, "POST /v1/subscriptions", `{` + base + `,"signing":"ed25519"}`, 201, `"public_key":"whpk_`},
		{key, "POST /v1/subscriptions", `{` + base + `,"rate_limit":{"limit":10,"per":"1s"}}`, 201, `"rate_limit":{"limit":10,"per":"1s"}`},
		{key, "POST /v1/subscriptions", `{` + base + `,"retry":{"schedule":["1ms","168h"]}}`, 201, `"max_retries":2`},
		{key, "POST /v1/subscriptions", `{` + base + `,"retry":{"schedule":["169h"]}}`, 422, "body.retry.schedule[0]"},
		{key, "POST /v1/subscriptions", `{` + base + `,"headers":{"X-A":"a\r\nX-B: b"}}`, 422, "body.headers"},
		{key, "POST /v1/subscriptions", `{` + base + `,"headers":{"Webhook-Signature":"x"}}`, 422, "body.headers"},
		{key, "POST /v1/subscriptions", `{"name":"w","url":"http://10.0.0.1/","event_types":["a"]}`, 422, "body.url"},
		{key, "POST /v1/subscriptions", `{"name":"w","url":"http://user:pw@a.invalid/","event_types":["a"]}`, 422, "body.url"},
		{key, "POST /v1/subscriptions", `{"name":"w","url":"https://a.invalid/","event_types":[]}`, 422, "body.event_types"},
		{key, "POST /v1/subscriptions", `{"name":"w","url":"https://a.invalid/","event_types":["*.created","order.>","*"]}`, 201, ""},
		{key, "POST /v1/subscriptions", `{"name":"w","url":"https://a.invalid/","event_types":["a.>.b"]}`, 422, "body.event_types[0]"},
		{key, "POST /v1/subscriptions", `{` + base + `,"payload_format":"xml"}`, 422, "body.payload_format"},
		{key, "GET " + one, "", 200, `"schedule":["5s","5m","30m","2h","5h","10h","14h","20h","24h"],"max_retries":9},"timeout":"15s","max_in_flight":32,"rate_limit":null`},
		{key, "GET " + one + "/secret", "", 200, `"public_key":null`},
		{key, "PATCH " + one, `{"resource_id":"r","description":"d"}`, 200, `"resource_id":"r"`},
		{key, "PATCH " + one, `{"resource_id":null}`, 200, `"resource_id":null`},
		{key, "PATCH " + one, `{"url":null}`, 422, "body.url"},
		{key, "PATCH " + one, `{"status":"disabled"}`, 200, `"status":"disabled","disabled_reason":"manual"`},
		{key, "POST " + one + "/test", "", 409, ""},
		{key, "PATCH " + one, `{"status":"active"}`, 200, `"status":"active","disabled_reason":null`},
		{key, "POST " + one + "/pause", "", 202, `"status":"paused"`},
		{key, "POST " + one + "/test", `{"type":"order.tested","data":{"a":1}}`, 202, `"delivery_id":`},
		{key, "POST " + one + "/rotate-secret", `{"overlap":"24h"}`, 202, ""},
		{key, "POST " + one + "/rotate-secret", `{"overlap":"8d"}`, 422, "body.overlap"},
		{key, "GET " + one + "/stats", "", 200, `"window":"24h"`},
		{key, "POST /v1/subscriptions/preview", `{"event_types":["order.*"],"last":10}`, 200, `"examined":`},
		{key, "GET /v1/subscriptions?event_type=order.created&status=paused&q=ERP", "", 200, sub.ID},
		{key, "GET /v1/subscriptions?event_type=invoice.paid", "", 200, ""},
		{key, "POST " + one + "/resume", "", 202, `"status":"active"`},
		{key, "DELETE " + one, "", 204, ""},
		{key, "GET " + one, "", 404, ""},
		// Event types
		{testAdminKey, "POST /v1/event-types?tenant=" + tenant, `{"name":"words.paid","schema":{"type":"object","required":["total"]},"sample":{"total":1}}`, 201, `"archived":false`},
		{testAdminKey, "POST /v1/event-types?tenant=" + tenant, `{"name":"words.paid"}`, 409, ""},
		{testAdminKey, "POST /v1/event-types?tenant=" + tenant, `{"name":"words.bad","schema":{"type":"no"}}`, 422, "body.schema"},
		{testAdminKey, "POST /v1/event-types?tenant=" + tenant, `{"name":"words.bad","schema":{"type":"object"},"sample":1}`, 422, "body.sample"},
		{key, "GET /v1/event-types/words.paid/sample", "", 200, `{"total":1}`},
		{key, "POST /v1/events", `{"type":"words.paid","data":{}}`, 422, "body.data"},
		{key, "POST /v1/events", `{"type":"words.paid","data":{"total":2}}`, 202, ""},
		{testAdminKey, "PATCH /v1/event-types/words.paid?tenant=" + tenant, `{"archived":true}`, 200, `"archived":true`},
		{key, "POST /v1/events", `{"type":"words.paid","data":{"total":2}}`, 422, "body.type"},
		{key, "POST /v1/subscriptions", `{"name":"w","url":"https://a.invalid/","event_types":["words.paid"]}`, 422, "body.event_types[0]"},
		{testAdminKey, "DELETE /v1/event-types/words.paid?tenant=" + tenant, "", 204, ""},
	} {
		var body any
		if tc.body != "" {
			body = []byte(tc.body)
		}
		method, path, _ := strings.Cut(tc.route, " ")
		got := d.raw(t, tc.key, method, d.at.API+path, request{body: body})
		what := fmt.Sprintf("%s %.120s", tc.route, tc.body)
		got.checkProblem(t, what)
		if got.status != tc.status || !strings.Contains(got.body, tc.holds) {
			t.Errorf("%s: want %d with %s, got %d %.400s", what, tc.status, tc.holds, got.status, got.body)
		}
	}
	if got := d.raw(t, key, "PUT", d.at.API+"/v1/subscriptions", request{}); got.header.Get("Allow") == "" {
		t.Error("405 without Allow")
	}
	// The last time that there is breaks no answer.
	d.until(t, key, "GET /v1/events/w_late", func(r reply) bool { return r.status == http.StatusOK })
	d.call(t, key, "GET /v1/events?limit=500", nil, http.StatusOK)
	d.checkETag(t, key)
}

// checkETag changes a subscription under the precondition that nobody else did.
func (d *deployment) checkETag(t *testing.T, key string) {
	t.Helper()
	made := d.call(t, key, "POST /v1/subscriptions", []byte(`{"name":"w","url":"https://a.invalid/","event_types":["a"]}`), 201)
	var sub identified
	made.decode(t, &sub)
	for _, kind := range []string{"application/json", "application/merge-patch+json"} {
		tag := d.call(t, key, "GET /v1/subscriptions/"+sub.ID, nil, 200).header.Get("ETag")
		for _, want := range []int{200, 412} {
			header := http.Header{"If-Match": {tag}, "Content-Type": {kind}}
			got := d.raw(t, key, "PATCH", d.at.API+"/v1/subscriptions/"+sub.ID, request{body: map[string]any{"description": unique("d")}, header: header})
			if got.status != want || tag == "" {
				t.Errorf("PATCH as %s with If-Match %q: want %d, got %d %s", kind, tag, want, got.status, got.body)
			}
		}
	}
}

// Arrays, lines and CloudEvents are taken at the same path, each item on its own merit and in order.
func testBatches(t *testing.T, d *deployment) {
	key := d.key(t, unique("batches-"))
	cloud := `{"specversion":"1.0","id":"c1","source":"/s","type":"batch.cloud","data":{"a":1}}`
	for _, tc := range []struct {
		kind, body, holds string
		header            http.Header
	}{
		{"application/x-ndjson", `{"type":"batch.line","id":"l1","data":1}` + "\n" + `{"type":"batch.line"}` + "\n" + `{"type":"batch.line","id":"l1","data":1}` + "\n",
			`{"accepted":2,"events":[{"id":"l1","duplicate":false},{"error":{`, nil},
		{"application/json", `[{"type":"batch.array","id":"a1","data":1}]`, `{"accepted":1,"events":[{"id":"a1","duplicate":false}]}`, nil},
		{"application/cloudevents+json", cloud, `{"id":"` + event.CloudID("/s", "c1") + `","duplicate":false}`, nil},
		{"application/cloudevents-batch+json", "[" + strings.ReplaceAll(cloud, "c1", "c2") + "]", `"id":"` + event.CloudID("/s", "c2") + `"`, nil},
		{"application/json", `{"a":1}`, `"id":"` + event.CloudID("/s", "c3") + `"`, http.Header{"Ce-Specversion": {"1.0"}, "Ce-Id": {"c3"}, "Ce-Source": {"/s"}, "Ce-Type": {"batch.binary"}}},
		{"application/json", `{"type":"batch.header","data":1}`, `"id":"h1"`, http.Header{"Idempotency-Key": {"h1"}}},
	} {
		header := tc.header.Clone()
		if header == nil {
			header = http.Header{}
		}
		header.Set("Content-Type", tc.kind)
		got := d.raw(t, key, "POST", d.at.API+"/v1/events", request{body: []byte(tc.body), header: header})
		if got.status != 202 || !strings.Contains(got.body, tc.holds) {
			t.Errorf("%s %s: want 202 with %s, got %d %s", tc.kind, tc.body, tc.holds, got.status, got.body)
		}
		if !json.Valid([]byte(got.body)) {
			t.Errorf("%s: %s", tc.kind, got.body)
		}
	}
}

// A deleted tenant is gone for its keys and for admins, and what it had is erased.
func testErasedTenant(t *testing.T, d *deployment) {
	tenant := unique("erased-")
	key := d.key(t, tenant)
	sub := someSubscription(t, d, tenant).path["id"]
	d.call(t, testAdminKey, "DELETE /v1/tenants/"+tenant, nil, 202)
	d.until(t, testAdminKey, "GET /v1/tenants/"+tenant, func(r reply) bool { return r.status == http.StatusNotFound })
	d.call(t, key, "GET /v1/subscriptions", nil, 401)
	d.call(t, testAdminKey, "POST /v1/events?tenant="+tenant, map[string]any{"type": "a", "data": 1}, 404)
	d.until(t, testAdminKey, "GET /v1/subscriptions/"+sub, func(r reply) bool { return r.status == http.StatusNotFound })
}
