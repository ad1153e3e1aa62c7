package main

import (
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/google/uuid"

	"github.com/fanfarehq/fanfare/internal/api"
	"github.com/fanfarehq/fanfare/internal/servertest"
)

// maker makes what a call of an operation needs, all of one tenant, and returns a call that must succeed.
type maker func(t *testing.T, d *deployment, tenant string) request

// makers are known for every operation of the document; a test fails if one is missing.
func makers() map[string]maker {
	none := func(*testing.T, *deployment, string) request { return request{} }
	ofTenant := func(_ *testing.T, _ *deployment, tenant string) request {
		return request{query: url.Values{"tenant": {tenant}}}
	}
	return map[string]maker{
		"create-key": func(*testing.T, *deployment, string) request {
			return request{body: map[string]any{"name": "made", "scopes": []string{"keys:write"}}}
		},
		"list-keys": none, "revoke-key": someKey,
		"get-tenant": someTenant, "delete-tenant": someTenant,
		"put-tenant": func(t *testing.T, d *deployment, tenant string) request {
			r := someTenant(t, d, tenant)
			r.body = map[string]any{"name": "described"}
			return r
		},
		"create-subscription": func(_ *testing.T, _ *deployment, tenant string) request {
			return request{body: map[string]any{"name": marked(tenant), "url": "http://127.0.0.1:9/hook", "event_types": []string{"matrix.made"}}}
		},
		"list-subscriptions": none, "get-subscription": someSubscription, "delete-subscription": someSubscription,
		"get-subscription-secret": someSubscription, "pause-subscription": someSubscription, "resume-subscription": someSubscription,
		"list-subscription-deliveries": someSubscription, "get-subscription-stats": someSubscription,
		"update-subscription":        having(someSubscription, map[string]any{"description": "changed"}),
		"rotate-subscription-secret": having(someSubscription, map[string]any{}),
		"test-subscription":          having(someSubscription, map[string]any{}),
		"replay-subscription":        having(someSubscription, map[string]any{"since": "2026-01-01T00:00:00Z", "dry_run": true}),
		"preview-subscription":       having(none, map[string]any{"event_types": []string{"matrix.event"}}),
		"create-event-type": func(_ *testing.T, _ *deployment, tenant string) request {
			return request{query: url.Values{"tenant": {tenant}}, body: map[string]any{"name": unique("matrix.type_")}}
		},
		"list-event-types": none, "get-event-type": someEventType, "get-event-type-sample": someEventType, "list-event-type-versions": someEventType, "get-catalog": none, "delete-event-type": typeOfTenant,
		"update-event-type": having(typeOfTenant, map[string]any{"description": "changed"}),
		"publish-events":    having(none, map[string]any{"type": "matrix.published", "data": map[string]any{}}),
		"list-events":       none, "list-quarantine": none, "get-event": someEvent, "explain-event": someEvent, "erase-event-data": someEvent,
		"list-deliveries": none, "list-dead-letters": none, "list-reasons": none, "list-failures": none, "tail": none,
		"get-delivery": someDelivery, "get-delivery-request": someAttempt, "retry-delivery": someDelivery, "cancel-delivery": someDelivery,
		"replay-dead-letters": having(none, map[string]any{"dry_run": true}),
		"retry-deliveries":    having(none, someSpan(map[string]any{"dry_run": true})),
		"cancel-deliveries":   having(none, someSpan(map[string]any{"dry_run": true})),
		"list-jobs":           none, "get-job": someJob, "pause-job": someJob, "cancel-job": someJob,
		"resume-job": func(t *testing.T, d *deployment, tenant string) request {
			r := someJob(t, d, tenant)
			d.call(t, testAdminKey, "POST /v1/jobs/"+r.path["id"]+"/pause", nil, http.StatusAccepted)
			return r
		},
		"list-replays": none, "get-replay": someReplay, "pause-replay": someReplay, "cancel-replay": someReplay,
		"resume-replay": func(t *testing.T, d *deployment, tenant string) request {
			r := someReplay(t, d, tenant)
			d.call(t, testAdminKey, "POST /v1/replays/"+r.path["id"]+"/pause", nil, http.StatusAccepted)
			return r
		},
		"get-delivery-metrics": none, "get-overview": ofTenant, "list-processes": none,
		"list-changes": none, "list-subscription-changes": someSubscription,
		"audit": none, "list-tenants": ofTenant,
	}
}

// marked is in what a tenant owns and no other may see.
func marked(tenant string) string { return strings.ReplaceAll(tenant, "-", "_") + "_owns_this" }

var counter atomic.Int64

// unique is a name that no other test has.
func unique(prefix string) string { return fmt.Sprintf("%s%d", prefix, counter.Add(1)) }

// having adds a body.
func having(m maker, body map[string]any) maker {
	return func(t *testing.T, d *deployment, tenant string) request {
		r := m(t, d, tenant)
		r.body = maps.Clone(body)
		return r
	}
}

// identified is what most things are known by.
type identified struct{ ID string }

func someKey(t *testing.T, d *deployment, tenant string) request {
	var k identified
	d.call(t, testAdminKey, "POST /v1/keys", map[string]any{"name": marked(tenant), "tenant": tenant, "scopes": []string{"events:read"}}, 201).decode(t, &k)
	return request{path: map[string]string{"id": k.ID}}
}

func someTenant(t *testing.T, d *deployment, _ string) request {
	name := unique("matrix-tenant-")
	d.call(t, testAdminKey, "PUT /v1/tenants/"+name, map[string]any{"name": name}, 200)
	return request{path: map[string]string{"tenant": name}}
}

func someSubscription(t *testing.T, d *deployment, tenant string) request {
	var s identified
	d.call(t, testAdminKey, "POST /v1/subscriptions?tenant="+tenant,
		map[string]any{"name": marked(tenant), "url": "http://127.0.0.1:9/hook", "event_types": []string{"matrix.nothing"}}, 201).decode(t, &s)
	return request{path: map[string]string{"id": s.ID}}
}

// pausedWith is a paused subscription to which n events wait.
func pausedWith(t *testing.T, d *deployment, tenant string, n int) (subscription string, deliveries []string) {
	kind := unique("matrix." + marked(tenant) + "_")
	var s identified
	d.call(t, testAdminKey, "POST /v1/subscriptions?tenant="+tenant,
		map[string]any{"name": marked(tenant), "url": "http://127.0.0.1:9/hook", "event_types": []string{kind}, "status": "paused"}, 201).decode(t, &s)
	d.call(t, testAdminKey, "POST /v1/events?tenant="+tenant, array(kind, 0, n), 202)
	d.until(t, testAdminKey, "GET /v1/deliveries?limit=500&tenant="+tenant+"&subscription="+s.ID, func(r reply) bool {
		var list struct{ Data []identified }
		r.decode(t, &list)
		deliveries = deliveries[:0]
		for _, item := range list.Data {
			deliveries = append(deliveries, item.ID)
		}
		return len(deliveries) == n
	})
	return s.ID, deliveries
}

func someDelivery(t *testing.T, d *deployment, tenant string) request {
	_, deliveries := pausedWith(t, d, tenant, 1)
	return request{path: map[string]string{"id": deliveries[0]}}
}

// someAttempt is a delivery that was attempted.
func someAttempt(t *testing.T, d *deployment, tenant string) request {
	kind := unique("matrix." + marked(tenant) + "_")
	var s identified
	d.call(t, testAdminKey, "POST /v1/subscriptions?tenant="+tenant,
		map[string]any{"name": marked(tenant), "url": servertest.NewReceiver(t).URL, "event_types": []string{kind}}, 201).decode(t, &s)
	d.call(t, testAdminKey, "POST /v1/events?tenant="+tenant, array(kind, 0, 1), 202)
	var list struct {
		Data []struct {
			identified
			Attempts int
		}
	}
	d.until(t, testAdminKey, "GET /v1/deliveries?tenant="+tenant+"&subscription="+s.ID, func(r reply) bool {
		r.decode(t, &list)
		return len(list.Data) == 1 && list.Data[0].Attempts > 0
	})
	return request{path: map[string]string{"id": list.Data[0].ID}}
}

// someReplay is one that takes so long that it can be paused.
func someReplay(t *testing.T, d *deployment, tenant string) request {
	subscription, _ := pausedWith(t, d, tenant, 100)
	var replay identified
	d.call(t, testAdminKey, "POST /v1/subscriptions/"+subscription+"/replay",
		map[string]any{"since": "2026-01-01T00:00:00Z", "only": "all", "rate": 1}, 202).decode(t, &replay)
	return request{path: map[string]string{"id": replay.ID}}
}

// someSpan adds a filter of a job.
func someSpan(body map[string]any) map[string]any {
	body["filter"] = map[string]any{"since": "2026-01-01T00:00:00Z", "until": "2100-01-01T00:00:00Z"}
	return body
}

// someJob is one that takes so long that it can be paused.
func someJob(t *testing.T, d *deployment, tenant string) request {
	pausedWith(t, d, tenant, 100)
	var job identified
	d.call(t, testAdminKey, "POST /v1/deliveries/cancel?tenant="+tenant, someSpan(map[string]any{"rate": 1}), 202).decode(t, &job)
	return request{path: map[string]string{"id": job.ID}}
}

func someEventType(t *testing.T, d *deployment, tenant string) request {
	name := unique("matrix.type_")
	d.call(t, testAdminKey, "POST /v1/event-types?tenant="+tenant,
		map[string]any{"name": name, "description": marked(tenant), "sample": map[string]any{"a": 1}}, 201)
	return request{path: map[string]string{"name": name}}
}

func typeOfTenant(t *testing.T, d *deployment, tenant string) request {
	return someEventType(t, d, tenant).asking("tenant", tenant)
}

func someEvent(t *testing.T, d *deployment, tenant string) request {
	id := unique(marked(tenant) + "_")
	d.call(t, testAdminKey, "POST /v1/events?tenant="+tenant,
		map[string]any{"type": "matrix.event", "id": id, "data": map[string]any{"text": marked(tenant)}}, 202)
	d.until(t, testAdminKey, "GET /v1/events/"+id+"?tenant="+tenant, func(r reply) bool { return r.status == 200 })
	return request{path: map[string]string{"id": id}}
}

// makerOf fails the test for an operation that it does not know how to call.
func makerOf(t *testing.T, o *operation) maker {
	t.Helper()
	m, ok := makers()[o.ID]
	if !ok {
		t.Errorf("%s: nobody has said how to make a valid call; add it to makers", o)
	}
	return m
}

// each runs a test for each operation, a few at once.
func (d *deployment) each(t *testing.T, test func(*testing.T, *operation)) {
	t.Helper()
	for _, o := range d.doc.Operations {
		t.Run(o.ID, func(t *testing.T) {
			t.Parallel()
			test(t, o)
		})
	}
}

// malformed are ids that none can be.
var malformed = []string{
	"x", "0", "-1", "00000000-0000-0000-0000-000000000000", "{0198c0de-7a3c-7000-8000-5f1e2d3c4b5a}", "0198C0DE7A3C70008000-5F1E2D3C4B5A",
	"' OR 1=1 --", "%", "_", "*", "\u202e\u00e9", "a\x00b", "\xff", "..", "a/b", "{id}", "null", strings.Repeat("9", 5000),
}

// echoed finds what a replay shows of its request: the stranger's own replays name any event that it asked for.
var echoed = regexp.MustCompile(`"event":"[^"]*"`)

// A tenant's key gets for another tenant's id what it gets for one that does not exist.
func testCrossTenant(t *testing.T, d *deployment) {
	own, other := unique("own-"), unique("other-")
	stranger, ownKey := d.key(t, other), d.key(t, own)
	d.each(t, func(t *testing.T, o *operation) {
		m := makerOf(t, o)
		if m == nil {
			return
		}
		valid := m(t, d, own)
		for _, name := range o.pathNames() {
			d.strange(t, o, valid, name, stranger)
		}
		d.strangeReferences(t, o, valid, own, stranger, other)
		key := ownKey
		if o.ofInstallation() {
			key = testAdminKey
		}
		// Whatever the stranger tried, it is all there still.
		if got := d.send(t, key, o, valid); got.status/100 != 2 {
			t.Errorf("%s: a valid call got %d %s", o, got.status, got.body)
		}
		// And lists show a stranger nothing of it.
		if len(o.pathNames()) == 0 && o.Method == http.MethodGet && !o.ofInstallation() {
			got := echoed.ReplaceAllString(d.send(t, stranger, o, request{}).body, "")
			if strings.Contains(got, marked(own)) || strings.Contains(got, own) {
				t.Errorf("%s: a stranger sees %s", o, got)
			}
		}
	})
}

// strange calls an operation on a foreign id, a random one and malformed ones.
func (d *deployment) strange(t *testing.T, o *operation, valid request, name, stranger string) {
	t.Helper()
	id := valid.path[name]
	random := randomLike(id)
	for _, key := range []string{stranger, testAdminKey} {
		if key == testAdminKey && (name == "tenant" || !o.has("query", "tenant")) {
			continue
		}
		foreign, none := valid, valid
		if key == testAdminKey { // An admin who names another tenant is a stranger too.
			foreign = valid.asking("tenant", unique("admins-"))
			none = foreign
		}
		got, want := d.send(t, key, o, foreign), d.send(t, key, o, none.at(name, random))
		status := http.StatusNotFound
		if o.ofInstallation() && key == stranger {
			status = http.StatusForbidden
		}
		if want.status != status {
			t.Errorf("%s: a random id got %d %s, want %d", o, want.status, want.body, status)
		}
		alike(t, o.String(), got, want, id, random)
	}
	for _, bad := range malformed {
		// A name that cannot be is 403 to who may not ask, and 404 to who may.
		if got := d.send(t, stranger, o, valid.at(name, bad)); got.status != http.StatusNotFound && got.status != http.StatusMethodNotAllowed &&
			(!o.ofInstallation() || got.status != http.StatusForbidden) {
			t.Errorf("%s: the id %.50q got %d %s", o, bad, got.status, got.body)
		}
	}
}

// alike wants two answers to differ in nothing but the ids.
func alike(t *testing.T, what string, a, b reply, idA, idB string) {
	t.Helper()
	mask := func(r reply, id string) string {
		return fmt.Sprint(r.status, r.header, strings.ReplaceAll(r.body, id, "<id>"))
	}
	a.header.Del("Content-Length")
	b.header.Del("Content-Length")
	if one, two := mask(a, idA), mask(b, idB); one != two {
		t.Errorf("%s: a foreign id gets\n%s\nand one that does not exist\n%s", what, one, two)
	}
}

// randomLike is an id of the same form that does not exist.
func randomLike(id string) string {
	if _, err := uuid.Parse(id); err == nil {
		return uuid.Must(uuid.NewV7()).String()
	}
	return unique("nothing")
}

// references are the fields of bodies and queries that name something by its id, and what they name.
var references = map[string]maker{
	"subscription": someSubscription, "subscription_id": someSubscription, "targets": someSubscription,
	"event": someEvent, "event_id": someEvent, "delivery_id": someDelivery, "key_id": someKey,
}

// strangeReferences calls an operation on a thing of the caller's own, with a foreign and a random id beside it.
func (d *deployment) strangeReferences(t *testing.T, o *operation, valid request, own, stranger, other string) {
	t.Helper()
	inBody := d.doc.bodyNames(o)
	for name, of := range references {
		if !o.has("query", name) && !inBody[name] {
			continue
		}
		var id string
		for _, value := range of(t, d, own).path {
			id = value
		}
		random := randomLike(id)
		base := valid
		if len(o.pathNames()) > 0 { // The stranger's own.
			base = makers()[o.ID](t, d, other)
		}
		ask := func(id string) reply {
			switch {
			case o.has("query", name):
				return d.send(t, stranger, o, base.asking(name, id))
			case name == "targets":
				return d.send(t, stranger, o, base.with(name, []string{id}))
			}
			return d.send(t, stranger, o, base.with(name, id))
		}
		got, want := ask(id), ask(random)
		mask := func(r *reply) { // What was made has an id of its own.
			if r.status/100 == 2 && o.Method == http.MethodPost {
				r.body = ""
			}
		}
		mask(&got)
		mask(&want)
		alike(t, o.String()+" with "+name, got, want, id, random)
		if got.status/100 == 2 && strings.Contains(got.body, id) {
			t.Errorf("%s with a foreign %s: %s", o, name, got.body)
		}
	}
	for name := range inBody {
		if _, known := references[name]; !known && strings.HasSuffix(name, "_id") && name != "resource_id" && name != "object_id" {
			t.Errorf("%s: the field %s looks as if it named something; add it to references", o, name)
		}
	}
}

// Each operation takes the scopes that the document names, mostly one, and no others.
func testScopes(t *testing.T, d *deployment) {
	tenant, other := unique("scopes-"), unique("scopes-other-")
	keys := map[string]string{}
	for _, scope := range ownScopes {
		keys[scope] = d.key(t, tenant, scope)
	}
	keys["view:purchases"] = d.key(t, tenant, "view:purchases")
	every := d.key(t, tenant)
	d.each(t, func(t *testing.T, o *operation) {
		m := makerOf(t, o)
		if m == nil {
			return
		}
		valid := m(t, d, tenant)
		expect := func(key, whose string, r request, want int) {
			t.Helper()
			if got := d.send(t, key, o, r); got.status != want && (want != http.StatusOK || got.status/100 != 2) {
				t.Errorf("%s with %s: want %d, got %d %s", o, whose, want, got.status, got.body)
			}
		}
		expect("", "no key", valid, http.StatusUnauthorized)
		expect("ff_aaaaaaaaaaaa_"+strings.Repeat("a", 43), "an unknown key", valid, http.StatusUnauthorized)
		if o.Scope == api.AnyScope { // What it shows is judged by tests of its own.
			expect(every, "every scope", valid, http.StatusOK)
			expect(every, "another tenant in the query", valid.asking("tenant", other), http.StatusForbidden)
			return
		}
		for scope, key := range keys {
			if scope != o.Scope {
				expect(key, scope, valid, http.StatusForbidden)
			}
		}
		if o.ofInstallation() {
			expect(every, "every scope", valid, http.StatusForbidden)
			expect(testAdminKey, "an admin key", valid, http.StatusOK)
			return
		}
		demanded := strings.Fields(o.Scope)
		for _, scope := range demanded {
			if !slices.Contains(ownScopes, scope) {
				t.Fatalf("%s demands %q, which is no scope", o, scope)
			}
		}
		key := keys[o.Scope]
		if len(demanded) > 1 {
			key = d.key(t, tenant, demanded...)
		}
		expect(key, "another tenant in the query", valid.asking("tenant", other), http.StatusForbidden)
		if d.doc.bodyNames(o)["tenant"] {
			expect(key, "another tenant in the body", valid.with("tenant", other), http.StatusForbidden)
		}
		expect(key, o.Scope, valid, http.StatusOK)
	})
}
