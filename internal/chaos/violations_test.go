package chaos_test

import (
	"slices"
	"testing"
	"time"
)

// sound is a small history in which everything holds: two tenants, a fast and a failing receiver, one fault.
func sound() *history {
	at := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	sec := func(n float64) time.Time { return at.Add(time.Duration(n * float64(time.Second))) }
	h := &history{
		subscriptions: []subscription{
			{id: "s1", tenant: "acme", path: "/fast/1", eventType: "order.*", kind: "fast", retry: time.Second},
			{id: "s2", tenant: "acme", path: "/failing/2", eventType: "order.made", kind: "failing", retry: time.Second},
			{id: "s3", tenant: "beta", path: "/fast/3", eventType: "*", kind: "fast", retry: time.Second},
		},
		faults: []fault{{name: "kill deliver", injected: sec(100), healed: sec(101), recovered: sec(110), bound: 30 * time.Second, mayDuplicate: true, worksInFlight: 2}},
		samples: []sample{
			{"deliver0", "before", 100, 20, 50}, {"deliver0", "during", 150, 40, 90}, {"deliver0", "after", 110, 22, 55},
		},
		synced: []string{"synced"}, calm: []interval{{sec(0), sec(90)}}, endedAt: sec(200),
		events: []eventRow{{"acme", "e1", 2}, {"beta", "e2", 1}, {"acme", "e3", 1}},
		deliveries: []deliveryRow{
			{id: "d1", event: "e1", subscription: "s1", state: "delivered", attempts: 1, status: 204},
			{id: "d2", event: "e1", subscription: "s2", state: "delivered", attempts: 2, status: 204},
			{id: "d3", event: "e2", subscription: "s3", state: "delivered", attempts: 1, status: 204},
			{id: "d4", event: "e3", subscription: "s1", state: "delivered", attempts: 1, status: 204},
		},
		attempts: []attemptRow{{"d2", 1}},
		reported: map[string]map[string]int{"acme": {"delivered": 3}, "beta": {"delivered": 1}},
	}
	publish := func(tenant, id, kind string, when float64, status int) {
		h.requests = append(h.requests, request{tenant: tenant, id: id, eventType: kind, data: "data of " + id, sent: sec(when), answered: sec(when + 0.1), status: status, answer: id})
	}
	arrive := func(path, id, kind string, when float64, status int) {
		h.arrivals = append(h.arrivals, arrival{path: path, id: id, eventType: kind, body: "body of " + id, data: "data of " + id, at: sec(when), timestamp: sec(when), signed: true, status: status})
	}
	publish("acme", "e1", "order.made", 1, 202)
	arrive("/fast/1", "e1", "order.made", 1.2, 204)
	arrive("/failing/2", "e1", "order.made", 1.2, 500)
	arrive("/failing/2", "e1", "order.made", 2.3, 204)
	publish("beta", "e2", "user.made", 10, 0)
	publish("beta", "e2", "user.made", 12, 202)
	arrive("/fast/3", "e2", "user.made", 12.2, 204)
	publish("acme", "e3", "order.paid", 99.5, 202)
	arrive("/fast/1", "e3", "order.paid", 99.9, 204)
	arrive("/fast/1", "e3", "order.paid", 109, 204) // The fault repeated it.
	return h
}

// seeded is a violation that is made in a sound history.
type seeded struct {
	invariant, name string
	seed            func(*history)
}

func TestCheckerFindsNothingInASoundHistory(t *testing.T) {
	t.Parallel()
	if bad := check(sound()); len(bad) > 0 {
		t.Errorf("got %v", bad)
	}
}

// Each seeded violation is found, as one of its invariant.
func TestCheckerFindsSeededViolations(t *testing.T) {
	t.Parallel()
	tests := []seeded{
		{"I1", "an accepted event is not in the ledger", func(h *history) { h.events = h.events[1:] }},
		{"I1", "a delivery's row is dropped", func(h *history) { h.deliveries = h.deliveries[1:] }},
		{"I1", "a delivery is still pending", func(h *history) { h.deliveries[0].state = "pending" }},
		{"I1", "a delivery is dead", func(h *history) { h.deliveries[0].state = "dead" }},
		{"I1", "a delivered event never arrived", func(h *history) { h.arrivals = h.arrivals[1:] }},
		{"I1", "the receiver did not answer with 2xx", func(h *history) { h.arrivals[0].status = 500 }},
		{"I1", "the ledger matched fewer", func(h *history) { h.events[0].matched = 1 }},
		{"I1", "the API reports other numbers", func(h *history) { h.reported["acme"]["delivered"] = 2 }},
		{"I1", "a refusal without Retry-After", func(h *history) { h.requests[1].status = 503 }},
		{"I2", "an event that nobody published", func(h *history) { h.arrivals[0].id = "e9" }},
		{"I2", "an event of another type", func(h *history) { h.subscriptions[0].eventType = "user.*" }},
		{"I2", "a path that no subscription has", func(h *history) { h.arrivals[0].path = "/fast/9" }},
		{"I3", "a duplicate without a fault", func(h *history) { h.arrivals = append(h.arrivals, h.arrivals[0]) }},
		{"I3", "two duplicates by one fault", func(h *history) { h.arrivals = append(h.arrivals, h.arrivals[len(h.arrivals)-1]) }},
		{"I3", "a duplicate by a fault that makes none", func(h *history) { h.faults[0].mayDuplicate = false }},
		{"I3", "more than was in flight", func(h *history) { h.faults[0].worksInFlight = 0 }},
		{"I4", "one byte is flipped", func(h *history) { h.arrivals[2].body = "another body" }},
		{"I4", "data that was not published", func(h *history) { h.arrivals[0].data = "other data" }},
		{"I4", "a signature that does not verify", func(h *history) { h.arrivals[0].signed = false }},
		{"I4", "a timestamp of long ago", func(h *history) { h.arrivals[0].timestamp = h.arrivals[0].at.Add(-time.Minute) }},
		{"I5", "two states", func(h *history) { h.deliveries = append(h.deliveries, h.deliveries[0]) }},
		{"I5", "a missing attempt", func(h *history) { h.attempts = nil }},
		{"I5", "an attempt twice", func(h *history) { h.attempts = append(h.attempts, h.attempts[0]) }},
		{"I5", "an attempt beyond the count", func(h *history) { h.attempts = append(h.attempts, attemptRow{"d1", 2}) }},
		{"I5", "delivered with a failure", func(h *history) { h.deliveries[0].status = 500 }},
		{"I6", "a retry before its time", func(h *history) { h.arrivals[2].at = h.arrivals[1].at.Add(500 * time.Millisecond) }},
		{"I6", "a retry long after its time", func(h *history) { h.arrivals[2].at = h.arrivals[1].at.Add(45 * time.Second) }},
		{"I7", "an event of another tenant", func(h *history) { h.arrivals[3].path = "/fast/1" }},
		{"I8", "a connection to the canary", func(h *history) { h.canary = 1 }},
		{"I9", "goroutines stay", func(h *history) { h.samples[2].routines = 5000 }},
		{"I9", "files stay open", func(h *history) { h.samples[2].files = 5000 }},
		{"I9", "memory grows", func(h *history) { h.samples[1].megabytes = 5000 }},
		{"I9", "a process is gone", func(h *history) { h.samples = h.samples[:2] }},
		{"I10", "a healthy receiver waits", func(h *history) {
			for i := range h.arrivals {
				h.arrivals[i].at = h.arrivals[i].at.Add(30 * time.Second)
				h.arrivals[i].timestamp = h.arrivals[i].at
			}
		}},
		{"I11", "a secret in a log", func(h *history) { h.leaks = []string{"a secret is in deliver0's log"} }},
		{"I12", "NATS does not sync", func(h *history) { h.synced[0] = "degraded" }},
		{"I13", "one id is two events", func(h *history) { h.events = append(h.events, h.events[0]) }},
		{"I13", "one id is accepted with two contents", func(h *history) {
			again := h.requests[0]
			again.data = "other data"
			h.requests = append(h.requests, again)
		}},
		{"I13", "a repeat gets another id", func(h *history) {
			again := h.requests[0]
			again.answer = "e9"
			h.requests = append(h.requests, again)
		}},
		{"I14", "no recovery", func(h *history) { h.faults[0].recovered = time.Time{} }},
		{"I14", "a slow recovery", func(h *history) { h.faults[0].recovered = h.faults[0].healed.Add(time.Minute) }},
		{"I15", "a delivery is due and nobody attempts it", func(h *history) {
			h.deliveries[0].state, h.deliveries[0].overdue = "pending", 2*time.Minute
		}},
	}
	for _, i := range invariants {
		if !slices.ContainsFunc(tests, func(tt seeded) bool { return tt.invariant == i.name }) {
			t.Errorf("no violation of %s is seeded", i.name)
		}
	}
	for _, tt := range tests {
		t.Run(tt.invariant+" "+tt.name, func(t *testing.T) {
			t.Parallel()
			h := sound()
			tt.seed(h)
			bad := check(h)
			if !slices.ContainsFunc(bad, func(v violation) bool { return v.invariant == tt.invariant }) {
				t.Errorf("got %v, want a violation of %s", bad, tt.invariant)
			}
		})
	}
}
