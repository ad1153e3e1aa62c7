package fanout_test

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/fanfarehq/fanfare/deliver"
	"github.com/fanfarehq/fanfare/fanout"
	"github.com/fanfarehq/fanfare/subscriptions"
)

// ordered creates a subscription that asks for an order by event.data.order.
func (h *house) ordered(tenant string, types ...string) *subscriptions.Subscription {
	h.t.Helper()
	s := &subscriptions.Subscription{
		Tenant: tenant, Name: "test", URL: "https://example.com/", EventTypes: types, Scopes: []string{subscriptions.AllScopes},
		Ordering: &subscriptions.Ordering{Key: "event.data.order"},
	}
	if err := h.store.Create(h.t.Context(), s); err != nil {
		h.t.Fatal(err)
	}
	return s
}

// waiting returns the events that wait for their turn with a subscription, in the order of their places, by key.
func (h *house) waiting(s *subscriptions.Subscription) map[uuid.UUID][]string {
	h.t.Helper()
	rows, err := h.db.QueryContext(h.t.Context(), `SELECT order_key, event_id FROM deferrals
WHERE subscription_id = $1 AND waits AND held AND reason = 'key_blocked' ORDER BY seq, generation`, s.ID)
	if err != nil {
		h.t.Fatal(err)
	}
	defer rows.Close()
	keys := map[uuid.UUID][]string{}
	for rows.Next() {
		var key uuid.UUID
		var event string
		if err := rows.Scan(&key, &event); err != nil {
			h.t.Fatal(err)
		}
		keys[key] = append(keys[key], event)
	}
	return keys
}

// lists are the events of each key, in no order of the keys.
func lists(keys map[uuid.UUID][]string) (all []string) {
	for _, events := range keys {
		all = append(all, fmt.Sprint(events))
	}
	slices.Sort(all)
	return all
}

// What is ordered waits for its turn, in the ledger and in no task; the place of fan-out says when nothing before it can
// come any more. What has no key, and a test, goes at once.
func TestAnOrderedMatchIsQueued(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	ordered, plain := h.ordered("acme", "*"), h.subscribe("acme", "order.*")
	h.run()
	h.reading()
	for i, data := range []string{`{"order":"a"}`, `{"order":"b"}`, `{"order":"a"}`, `{}`, `{"order":"a"}`} {
		h.publish("events.acme.order.created", data, "Fanfare-Id", fmt.Sprint("e", i))
	}
	last := h.publish("events.acme.order.created", `{"order":"b"}`, "Fanfare-Id", "e5", "Fanfare-Test", "1", "Fanfare-Targets", ordered.ID.String())
	h.settled()
	if got := fmt.Sprint(lists(h.waiting(ordered))); got != "[[e0 e2 e4] [e1]]" {
		t.Errorf("waiting: %s", got)
	}
	for id, want := range map[string]int{"e0": 0, "e1": 0, "e3": 1, "e5": 1} {
		if n := h.tray.targets()[id][ordered.ID]; n != want {
			t.Errorf("event %s is in %d tasks for the ordered subscription, want %d", id, n, want)
		}
	}
	if n := h.tray.targets()["e0"][plain.ID]; n != 1 {
		t.Errorf("event e0 is in %d tasks for the other subscription, want 1", n)
	}
	if rows := h.rows(); rows["e0"] != 2 || rows["e3"] != 2 {
		t.Errorf("the ledger has %v", rows)
	}
	floor, err := fanout.Floor(h.js)(t.Context())
	if err != nil || floor.Seq != last || floor.Since.IsZero() || floor.Since.After(time.Now()) {
		t.Errorf("fan-out has come to %+v, %v, want %d", floor, err, last)
	}
}

// While an event is under way, fan-out has not passed it, though those after it are done.
func TestTheFloorWaitsForEachEvent(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	ordered := h.ordered("acme", "*")
	h.subscribe("acme", "slow")
	held, release := make(chan struct{}), make(chan struct{})
	h.tray.do(func([]deliver.Task) error {
		close(held)
		<-release
		return nil
	})
	h.run()
	h.reading()
	slow := h.publish("events.acme.slow", `{"order":"a"}`, "Fanfare-Id", "e1")
	<-held
	h.publish("events.acme.order.created", `{"order":"a"}`, "Fanfare-Id", "e2")
	h.eventually("the second event waits for its turn", func() bool { return len(lists(h.waiting(ordered))) == 1 })
	if floor, err := fanout.Floor(h.js)(t.Context()); err != nil || floor.Seq >= slow {
		t.Errorf("fan-out has come to %+v, %v, but %d is under way", floor, err, slow)
	}
	close(release)
	h.settled()
	if got := fmt.Sprint(lists(h.waiting(ordered))); got != "[[e1 e2]]" {
		t.Errorf("waiting: %s", got)
	}
}

// Subscriptions without an order pay nothing for those that have one: nothing is asked, nothing is written.
func TestSubscriptionsWithoutAnOrderPayNothing(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	h.subscribe("acme", "*")
	h.ordered("globex", "*")
	h.run()
	h.reading()
	for i := range 20 {
		h.publish("events.acme.order.created", `{"order":"a"}`, "Fanfare-Id", fmt.Sprint("e", i))
	}
	h.settled()
	if n := h.queue.calls.Load(); n != 0 {
		t.Errorf("fan-out asked for a turn %d times", n)
	}
	if n := len(h.tray.targets()); n != 20 {
		t.Errorf("%d events are in tasks, want 20", n)
	}
}

// An event that is fanned out again, as its acknowledgement was lost, waits once.
func TestAnOrderedMatchIsQueuedOnce(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	ordered := h.ordered("acme", "*")
	stop := h.run()
	h.reading()
	h.publish("events.acme.order.created", `{"order":"a"}`, "Fanfare-Id", "e1")
	h.settled()
	stop()
	if _, err := h.db.ExecContext(t.Context(), `DELETE FROM events`); err != nil {
		t.Fatal(err)
	}
	if err := h.js.DeleteConsumer(t.Context(), fanout.Stream, fanout.Durable); err != nil {
		t.Fatal(err)
	}
	h.apply()
	h.run()
	h.settled()
	if got := fmt.Sprint(lists(h.waiting(ordered))); got != "[[e1]]" {
		t.Errorf("waiting: %s", got)
	}
	if rows := h.rows(); rows["e1"] != 1 {
		t.Errorf("the ledger has %v", rows)
	}
}

// What waits for its turn is pending and no gap; if it is lost it is queued again.
func TestAnAuditKnowsTheOrder(t *testing.T) {
	t.Parallel()
	h := newAuditing(t)
	h.work()
	ordered := h.ordered("acme", "*")
	stop := h.run()
	h.publish("events.acme.shipped", `{"order":"a"}`, "Fanfare-Id", "o1")
	h.publish("events.acme.shipped", `{"order":"a"}`, "Fanfare-Id", "o2")
	h.settled()
	stop()
	if a := h.audit(); !a.Balanced || a.Pending != 2 || a.Held != 0 {
		t.Fatalf("the audit is %+v", a)
	}
	h.exec(`DELETE FROM deferrals WHERE event_id = 'o1'`)
	a := h.audit()
	if a.Balanced || len(a.Gaps) != 1 {
		t.Fatalf("the audit is %+v, want one gap", a)
	}
	if left, err := h.auditor.Mend(t.Context(), a); left != 0 || err != nil {
		t.Fatalf("%d gaps are left: %v", left, err)
	}
	if got := fmt.Sprint(lists(h.waiting(ordered))); got != "[[o1 o2]]" {
		t.Errorf("waiting: %s", got)
	}
	h.exec(`DELETE FROM events WHERE id = 'o1'`)
	h.exec(`DELETE FROM deferrals WHERE event_id = 'o1'`)
	if left, err := h.auditor.Mend(t.Context(), h.audit()); left != 0 || err != nil {
		t.Fatalf("%d gaps are left: %v", left, err)
	}
	if got := fmt.Sprint(lists(h.waiting(ordered))); got != "[[o1 o2]]" {
		t.Errorf("waiting after the event was fanned out anew: %s", got)
	}
}

// A replay gives what it sends its place in the order of its key.
func TestAReplayKnowsTheOrder(t *testing.T) {
	t.Parallel()
	h := newReplaying(t)
	h.past(3)
	ordered := h.ordered("acme", "*")
	ordered.Ordering.Key = `event.data.n == 1 ? "odd" : "even"`
	if err := h.store.Update(t.Context(), ordered); err != nil {
		t.Fatal(err)
	}
	h.replayer()
	h.done(h.start(ordered, map[string]any{"only": "undelivered"}).ID)
	if got := fmt.Sprint(lists(h.waiting(ordered))); got != "[[e0 e2] [e1]]" {
		t.Errorf("waiting: %s", got)
	}
}
