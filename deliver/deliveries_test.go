package deliver_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/fanfarehq/fanfare/deliver"
	"github.com/fanfarehq/fanfare/deliver/history"
	"github.com/fanfarehq/fanfare/deliver/ledger"
	"github.com/fanfarehq/fanfare/deliver/outcome"
	"github.com/fanfarehq/fanfare/internal/event"
	"github.com/fanfarehq/fanfare/subscriptions"
)

// What the tests do with the rig: events and subscriptions, what becomes of deliveries, and rows as the ledger writes them.

// read stands for the stream of events.
func (r *rig) read(_ context.Context, seq uint64) (*event.Event, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if e := r.events[seq]; e != nil {
		return e, nil
	}
	return nil, event.ErrGone
}

// forget removes an event's bytes from the stream of events.
func (r *rig) forget(e *event.Event) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.events, e.Seq)
}

// event makes an event and puts it into the stream of events.
func (r *rig) event() *event.Event {
	r.mu.Lock()
	defer r.mu.Unlock()
	seq := uint64(len(r.events) + 1)
	e := &event.Event{
		ID: fmt.Sprintf("evt_%d", seq), Tenant: "acme", Type: "order.created", Time: time.Now().UTC(),
		Data: fmt.Appendf(nil, `{"n":%d, "total":1.50}`, seq), Seq: seq, AcceptedAt: time.Now().UTC(),
	}
	e.UID = event.UID(e.Tenant, e.ID, e.AcceptedAt)
	r.events[seq] = e
	return e
}

// eventOf makes an event of a tenant.
func (r *rig) eventOf(tenant string) *event.Event {
	e := r.event()
	r.mu.Lock()
	defer r.mu.Unlock()
	e.Tenant = tenant
	e.UID = event.UID(e.Tenant, e.ID, e.AcceptedAt)
	return e
}

// of gives a subscription to a tenant.
func of(tenant string) func(*subscriptions.Subscription) {
	return func(s *subscriptions.Subscription) { s.Tenant = tenant }
}

// subscribe makes a subscription to a receiver; change may be nil.
func (r *rig) subscribe(url string, change func(*subscriptions.Subscription)) *subscriptions.Subscription {
	r.T.Helper()
	s := &subscriptions.Subscription{
		Tenant: "acme", Dialect: subscriptions.Native, Name: "test", URL: url, EventTypes: []string{"*"},
		Status: subscriptions.Active, PayloadFormat: "standard", Timeout: 10 * time.Second, Scopes: []string{subscriptions.AllScopes},
	}
	if change != nil {
		change(s)
	}
	if err := r.store.Create(r.T.Context(), s); err != nil {
		r.T.Fatal(err)
	}
	return s
}

// retries gives a subscription a schedule.
func retries(delays ...time.Duration) func(*subscriptions.Subscription) {
	return func(s *subscriptions.Subscription) { s.Retry.Schedule = delays }
}

// once gives a subscription no retries.
func once(s *subscriptions.Subscription) { s.Retry.MaxRetries = new(int) }

// status sets a subscription's status.
func (r *rig) status(s *subscriptions.Subscription, to subscriptions.Status) {
	r.T.Helper()
	fresh := must(r.store.Get(r.T.Context(), s.Tenant, s.ID))(r.T)
	fresh.Status = to
	if to == subscriptions.Disabled {
		fresh.DisabledReason = "manual"
	} else {
		fresh.DisabledReason = ""
	}
	if err := r.store.Update(r.T.Context(), fresh); err != nil {
		r.T.Fatal(err)
	}
}

// change changes a subscription as a patch does.
func (r *rig) change(sub *subscriptions.Subscription, change func(*subscriptions.Subscription)) {
	r.T.Helper()
	fresh := must(r.store.Get(r.T.Context(), sub.Tenant, sub.ID))(r.T)
	change(fresh)
	if err := r.store.Update(r.T.Context(), fresh); err != nil {
		r.T.Fatal(err)
	}
}

// task makes the task of an event for subscriptions as they are now.
func (r *rig) task(e *event.Event, subs ...*subscriptions.Subscription) deliver.Task {
	r.T.Helper()
	t := deliver.Task{Event: *e}
	for _, s := range subs {
		t.Targets = append(t.Targets, deliver.Target{Subscription: s.ID})
	}
	if err := r.DB.QueryRow(`SELECT value FROM revision`).Scan(&t.Revision); err != nil {
		r.T.Fatal(err)
	}
	return t
}

// send hands an event over for subscriptions and returns the delivery to the first.
func (r *rig) send(e *event.Event, subs ...*subscriptions.Subscription) uuid.UUID {
	r.T.Helper()
	if err := r.outbox.Send(r.T.Context(), r.task(e, subs...)); err != nil {
		r.T.Fatal(err)
	}
	return outcome.ID(e.UID, subs[0].ID, 0, e.AcceptedAt)
}

// sendAll hands over n events for subscriptions and returns the deliveries to the first.
func (r *rig) sendAll(n int, subs ...*subscriptions.Subscription) []uuid.UUID {
	r.T.Helper()
	var tasks []deliver.Task
	var ids []uuid.UUID
	t := r.task(&event.Event{}, subs...)
	for i := range n {
		e := r.event()
		// A millisecond apart, as ids are in the order of arrival no finer than that.
		e.AcceptedAt = time.Now().Add(time.Duration(i-n) * time.Millisecond).UTC()
		e.UID = event.UID(e.Tenant, e.ID, e.AcceptedAt)
		t.Event = *e
		tasks = append(tasks, t)
		ids = append(ids, outcome.ID(t.Event.UID, subs[0].ID, 0, t.Event.AcceptedAt))
	}
	for len(tasks) > 0 {
		k := min(len(tasks), 500)
		if err := r.outbox.Send(r.T.Context(), tasks[:k]...); err != nil {
			r.T.Fatal(err)
		}
		tasks = tasks[k:]
	}
	return ids
}

// await waits until a delivery is as it should be, and returns it.
func (r *rig) await(id uuid.UUID, what string, ok func(ledger.Entry) bool) ledger.Entry {
	r.T.Helper()
	var e ledger.Entry
	r.Eventually(fmt.Sprintf("delivery %s to be %s", id, what), func() bool {
		var err error
		e, err = history.NewReader(r.DB, nil).Find(r.T.Context(), id, "")
		return err == nil && ok(e)
	})
	return e
}

// ended waits for the end of a delivery and demands state and reason.
func (r *rig) ended(id uuid.UUID, state outcome.Outcome, reason outcome.Reason) ledger.Entry {
	r.T.Helper()
	e := r.await(id, "over", func(e ledger.Entry) bool { return e.State != outcome.Pending })
	if e.State != string(state) || e.Reason != string(reason) {
		r.T.Fatalf("delivery %s: got %s (%s), want %s (%s)", id, e.State, e.Reason, state, reason)
	}
	return e
}

// waits waits until a delivery is pending for a reason.
func (r *rig) waits(id uuid.UUID, reason outcome.Reason) ledger.Entry {
	r.T.Helper()
	return r.await(id, "waiting: "+string(reason), func(e ledger.Entry) bool { return e.State == outcome.Pending && e.Reason == string(reason) })
}

// all waits until n deliveries of a subscription ended as state.
func (r *rig) all(sub *subscriptions.Subscription, n int, state outcome.Outcome) {
	r.T.Helper()
	r.Eventually(fmt.Sprintf("%d deliveries to be %s", n, state), func() bool {
		return r.Count(`SELECT count(*) FROM deliveries WHERE subscription_id = $1 AND state = $2`, sub.ID, string(state)) == n
	})
}

// delivery is what each record says of the delivery of an event to a subscription.
func delivery(e *event.Event, subscription uuid.UUID) outcome.Record {
	return outcome.Record{
		Delivery: outcome.ID(e.UID, subscription, 0, e.AcceptedAt), Tenant: e.Tenant, EventUID: e.UID, EventID: e.ID, EventType: e.Type, Seq: e.Seq,
		Subscription: subscription, CreatedAt: e.AcceptedAt, Step: 1,
	}
}

// someDelivery is one of an event and a subscription that nobody knows.
func someDelivery() outcome.Record {
	return delivery(&event.Event{UID: uuid.Must(uuid.NewV7()), ID: "e", Tenant: "acme", Type: "t", AcceptedAt: time.Now()}, uuid.New())
}

// became is the record of what became of a delivery.
func became(d outcome.Record, as outcome.Outcome, reason outcome.Reason, at time.Time) *outcome.Record {
	d.Outcome, d.Reason, d.At = as, reason, at
	return &d
}

// The ledger itself is enough for the rest: rows as its own statements write them.
func (r *rig) put(records ...*outcome.Record) {
	r.T.Helper()
	if err := ledger.New(r.DB).Write(r.T.Context(), records); err != nil {
		r.T.Fatal(err)
	}
}

// putOff writes n deliveries of one event that an open breaker has put off.
func (r *rig) putOff(sub *subscriptions.Subscription, n int) {
	r.T.Helper()
	e := r.event()
	if _, err := r.DB.Exec(`
INSERT INTO deferrals (id, tenant, event_uid, event_id, event_type, seq, subscription_id, generation, reason, attempts, step,
    test, held, created_at, due_at, claim_at)
SELECT ('0198' || lpad(to_hex(n), 8, '0') || '7000800000000000000' || '0')::uuid, 'acme', $1, $2, $3, $4, $5, n, 'breaker_open', 0, 1, false, false,
    now(), now() + interval '15 minutes', now() + interval '15 minutes'
FROM generate_series(1, $6::int) n`, e.UID, e.ID, e.Type, e.Seq, sub.ID, n); err != nil {
		r.T.Fatal(err)
	}
}

// ever is longer ago than anything was due.
const ever = 100 * 365 * 24 * time.Hour

// claimAll claims and removes the leftovers of deliveries that ended.
func claimAll(t *testing.T, l *ledger.Ledger, limit int, span ledger.DueSpan, as ledger.Lease) []*ledger.Claimed {
	t.Helper()
	got, ended, err := l.Claim(t.Context(), limit, span, as)
	if err == nil {
		err = l.DropLeftovers(t.Context(), ended)
	}
	return must(got, err)(t)
}
