package main

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"testing"
	"time"

	"github.com/fanfarehq/fanfare/internal/servertest"
)

// Every query parameter of the document does something: a value changes the answer of a seeded installation, and a value that cannot be
// is refused. A parameter that is taken and ignored would say that a filter holds.
func testQueryParameters(t *testing.T, d *deployment) {
	s := d.seedQueries(t)
	d.each(t, func(t *testing.T, o *operation) {
		for _, p := range o.Parameters {
			if p.In != "query" || o.Method != http.MethodGet && p.Name == "tenant" { // Writes that name the tenant: see testOperators.
				continue
			}
			base, ok := s.bases[o.ID]
			if !ok {
				t.Fatalf("%s takes %s: add a call whose answer it changes to seedQueries", o, p.Name)
			}
			if bad := impossible(d.doc.resolve(p.Schema), p.Name); bad != "" {
				if got := d.send(t, testAdminKey, o, base.asking(p.Name, bad)); got.status/100 != 4 {
					t.Errorf("%s with %s=%s: %d %s", o, p.Name, bad, got.status, got.body)
				}
			}
			if slices.Contains(s.constant[o.ID], p.Name) {
				continue
			}
			value := s.value(t, o, p.Name)
			before, again := d.answer(t, o, base), d.answer(t, o, base)
			if before != again {
				t.Fatalf("%s has two answers that differ:\n%s\n%s", o, before, again)
			}
			if after := d.answer(t, o, base.asking(p.Name, value)); after == before {
				t.Errorf("%s: %s=%s changes nothing in %s", o, p.Name, value, before)
			}
		}
	})
}

// seeded is an installation with something that each parameter tells apart.
type seeded struct {
	*deployment
	tenant, other string
	bases         map[string]request
	values        map[string]map[string]string // by operation and parameter, where usual does not fit
	usual         map[string]string
	// constant are the parameters that change no answer, or none that ends.
	constant map[string][]string
}

// value is one that changes the answer.
func (s *seeded) value(t *testing.T, o *operation, name string) string {
	t.Helper()
	if name == "cursor" {
		var page struct {
			Next string `json:"next_cursor"`
		}
		s.send(t, testAdminKey, o, s.bases[o.ID].asking("limit", "1")).decode(t, &page)
		return page.Next
	}
	if value, ok := s.values[o.ID][name]; ok {
		return value
	}
	value, ok := s.usual[name]
	if !ok {
		t.Fatalf("%s: no case for %s: add a value that changes the answer to seedQueries", o, name)
	}
	return value
}

// impossible is a value that a parameter cannot have; empty if it takes any text.
func impossible(s *schema, name string) string {
	switch {
	case s.Items != nil && (len(s.Items.Enum) > 0 || name == "http_status"), len(s.Enum) > 0, s.Format == "uuid":
		return "nonsense"
	case s.Format == "date-time":
		return "soon"
	case name == "cursor":
		return "forged"
	case name == "tenant":
		return "a.b"
	case s.Type == "integer":
		return "many"
	case s.Type == "boolean":
		return "maybe"
	}
	return ""
}

// answer is the status and the body, without the fields that repeat the question or change with the time.
func (d *deployment) answer(t *testing.T, o *operation, r request) string {
	t.Helper()
	got := d.send(t, testAdminKey, o, r)
	body := map[string]any{}
	got.decode(t, &body)
	for _, name := range []string{"since", "until", "at", "rates", "latency", "durability", "oldest_replayable_at"} {
		delete(body, name)
	}
	text, err := json.Marshal(body)
	if err != nil {
		t.Fatal(err)
	}
	return fmt.Sprint(got.status, " ", string(text))
}

// seedQueries fills a tenant beside an empty one.
func (d *deployment) seedQueries(t *testing.T) *seeded {
	t.Helper()
	s := &seeded{deployment: d, tenant: unique("params-")}
	s.other = s.tenant + "-other"
	d.call(t, testAdminKey, "PUT /v1/tenants/"+s.other, map[string]any{"name": "empty"}, 200)
	key := d.key(t, s.tenant)
	made := s.subscriptions(t, key)
	s.publish(t, key, made)
	s.others(t, key, made)

	from, to := time.Now().Add(-24*time.Hour).UTC(), time.Now().Add(24*time.Hour).UTC()
	past, future := from.Format(time.RFC3339), to.Format(time.RFC3339)
	s.usual = map[string]string{
		"tenant": s.other, "limit": "1", "order": "asc", "since": future, "until": past, "event": "params_a", "type": "param.a", "reason": "paused",
		"http_status": "4xx", "object_id": "params_a", "resource_id": "params_a", "state": "cancelled", "subscription": made["a"],
	}
	ofTenant := url.Values{"tenant": {s.tenant}}
	at := func(name, id string) request {
		return request{path: map[string]string{name: id}, query: ofTenant}
	}
	list, span := request{query: ofTenant}, request{query: url.Values{"tenant": {s.tenant}, "since": {past}, "until": {future}}}
	failed := request{path: map[string]string{"id": made["c"]}, query: ofTenant}
	s.bases = map[string]request{
		"audit": span, "list-changes": list, "list-dead-letters": list, "list-deliveries": list, "get-delivery": at("id", s.first(t, "/v1/deliveries")),
		"get-delivery-request": at("id", s.first(t, "/v1/deliveries", "state", "delivered")),
		"list-event-types":     list, "get-event-type": at("name", "param.typed"), "get-event-type-sample": at("name", "param.typed"), "list-events": list,
		"get-event": at("id", "params_a"), "explain-event": at("id", "params_a"), "list-failures": list, "list-jobs": list, "get-job": at("id", s.first(t, "/v1/jobs")),
		"list-keys": list, "get-delivery-metrics": span.asking("step", "1h"), "get-overview": list, "list-quarantine": list, "list-reasons": list, "list-replays": list,
		"get-replay": at("id", s.first(t, "/v1/replays")), "list-subscriptions": list, "get-subscription": failed, "list-subscription-changes": failed,
		"list-subscription-deliveries": failed, "get-subscription-secret": failed, "get-subscription-stats": failed, "tail": list,
		"list-tenants": {query: url.Values{"q": {s.tenant}}}, "list-event-type-versions": at("name", "param.versions"), "get-catalog": list,
		"update-event-type": at("name", "param.breaking").with("schema", map[string]any{"type": "string"}),
	}
	own := s.first(t, "/v1/keys")
	dead := map[string]string{
		"event": "params_c1", "reason": "tls", "http_status": "5xx", "object_id": "params_c1", "resource_id": "params_c1", "resolved": "true",
	}
	s.values = map[string]map[string]string{
		"list-changes":                 {"actor": own, "resource": "key", "id": made["a"]},
		"list-subscription-changes":    {"actor": own},
		"list-dead-letters":            dead,
		"list-subscription-deliveries": dead,
		"list-failures":                {"by": "host"},
		"get-delivery-metrics":         {"step": "1d", "by": "type"},
		"list-subscriptions":           {"event_type": "param.a", "status": "paused", "q": "alpha", "dialect": "kajabi"},
		"list-tenants":                 {"tenant": s.tenant, "q": s.other},
		"get-catalog":                  {"type": "param.typed"},
		"update-event-type":            {"breaking": "true"},
	}
	s.constant = map[string][]string{
		"list-reasons": {"tenant"},                          // They are the same for all.
		"tail":         {"tenant", "subscription", "state"}, // A stream: TestTail of deliver/history reads it.
	}
	return s
}

// first is the id of the oldest item of a list, which may be filtered by a parameter.
func (s *seeded) first(t *testing.T, path string, filter ...string) string {
	t.Helper()
	query := url.Values{"order": {"asc"}, "limit": {"1"}, "tenant": {s.tenant}}
	if len(filter) > 0 {
		query.Set(filter[0], filter[1])
	}
	var list struct{ Data []identified }
	s.call(t, testAdminKey, "GET "+path+"?"+query.Encode(), nil, 200).decode(t, &list)
	return list.Data[0].ID
}

// subscriptions makes one whose deliveries arrive, one that holds them, and two whose deliveries fail; by a letter. Each is changed
// by the tenant's key.
func (s *seeded) subscriptions(t *testing.T, key string) map[string]string {
	t.Helper()
	made := map[string]string{}
	accepting, refusing := servertest.NewReceiver(t), servertest.NewReceiver(t, servertest.Status(400))
	for letter, body := range map[string]map[string]any{
		"a": {"name": "alpha", "url": accepting.URL}, "b": {"name": "beta", "url": accepting.URL, "status": "paused"},
		"c": {"name": "gamma", "url": refusing.URL, "retry": map[string]any{"max_retries": 0}},
		"d": {"name": "delta", "url": refusing.URL, "retry": map[string]any{"max_retries": 0}},
	} {
		var sub identified
		body["event_types"] = []string{"param." + letter}
		s.call(t, testAdminKey, "POST /v1/subscriptions?tenant="+s.tenant, body, 201).decode(t, &sub)
		s.call(t, key, "PATCH /v1/subscriptions/"+sub.ID, map[string]any{"description": "changed"}, 200)
		made[letter] = sub.ID
	}
	made["accepting"] = accepting.URL
	return made
}

// publish publishes events until each delivery is where it stays: the last one is dead, and delivered by a retry.
func (s *seeded) publish(t *testing.T, key string, made map[string]string) {
	t.Helper()
	var events []map[string]any
	for _, id := range []string{"a", "b", "c1", "c2", "d"} {
		events = append(events, map[string]any{
			"id": "params_" + id, "type": "param." + id[:1], "data": id, "object_id": "params_" + id, "resource_ids": []string{"params_" + id},
		})
	}
	s.call(t, key, "POST /v1/events", events, 202)
	count := func(path string, want int) {
		s.until(t, key, "GET "+path, func(r reply) bool {
			var list struct{ Data []identified }
			r.decode(t, &list)
			return len(list.Data) == want
		})
	}
	count("/v1/deliveries?state=dead", 3)
	count("/v1/deliveries?state=delivered", 1)
	count("/v1/deliveries?state=pending", 1)
	var dead struct{ Data []identified }
	s.call(t, key, "GET /v1/deliveries?subscription="+made["d"], nil, 200).decode(t, &dead)
	s.call(t, key, "PATCH /v1/subscriptions/"+made["d"], map[string]any{"url": made["accepting"]}, 200)
	s.call(t, key, "POST /v1/deliveries/"+dead.Data[0].ID+"/retry", nil, 202)
	count("/v1/dead-letters", 2)
	s.until(t, key, "GET /v1/metrics/deliveries?step=1h", func(r reply) bool {
		var numbers struct {
			Series []struct {
				Points []struct{ Delivered, Dead int }
			}
		}
		r.decode(t, &numbers)
		delivered, dead := 0, 0
		for _, one := range numbers.Series {
			for _, p := range one.Points {
				delivered, dead = delivered+p.Delivered, dead+p.Dead
			}
		}
		return delivered == 2 && dead == 3
	})
}

// others makes two of everything else, and waits until nothing of it goes on.
func (s *seeded) others(t *testing.T, key string, made map[string]string) {
	t.Helper()
	s.key(t, s.tenant, "events:read")
	for _, name := range []string{"param.typed", "param.other"} {
		s.call(t, testAdminKey, "POST /v1/event-types?tenant="+s.tenant, map[string]any{"name": name, "sample": map[string]any{"a": 1}}, 201)
	}
	for _, name := range []string{"param.versions", "param.breaking"} {
		s.call(t, testAdminKey, "POST /v1/event-types?tenant="+s.tenant, map[string]any{"name": name, "schema": map[string]any{"type": "object"}}, 201)
		s.call(t, testAdminKey, "PATCH /v1/event-types/"+name+"?tenant="+s.tenant, map[string]any{"schema": map[string]any{"title": "t"}}, 200)
	}
	s.call(t, key, "POST /v1/dead-letters/replay", map[string]any{"dry_run": true}, 202)
	s.call(t, key, "POST /v1/subscriptions/"+made["a"]+"/replay", map[string]any{"since": "2026-01-01T00:00:00Z", "dry_run": true}, 202)
	for range 2 {
		s.call(t, key, "POST /v1/deliveries/retry", someSpan(map[string]any{"dry_run": true}), 202)
	}
	js := connectTo(t, s.at.NATS)
	for range 2 {
		if _, err := js.Publish(t.Context(), "events."+s.tenant+".bad", []byte("no JSON")); err != nil {
			t.Fatal(err)
		}
	}
	for _, path := range []string{"/v1/replays", "/v1/jobs", "/v1/quarantine"} {
		s.until(t, key, "GET "+path, func(r reply) bool {
			var list struct{ Data []struct{ State string } }
			r.decode(t, &list)
			over := 0
			for _, item := range list.Data {
				if item.State == "" || item.State == "done" {
					over++
				}
			}
			return over == 2
		})
	}
}
