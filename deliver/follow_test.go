package deliver_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/fanfarehq/fanfare/deliver/ledger"
	"github.com/fanfarehq/fanfare/deliver/outcome"
	"github.com/fanfarehq/fanfare/internal/event"
	"github.com/fanfarehq/fanfare/internal/servertest"
	"github.com/fanfarehq/fanfare/subscriptions"
)

func TestAPausedSubscriptionsDeliveriesAreHeldAndDrainInOrder(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.worker(quick())
	r.recorder()
	receiver := servertest.NewReceiver(t)
	sub := r.subscribe(receiver.URL, func(s *subscriptions.Subscription) { s.MaxInFlight = 1 })
	r.status(sub, subscriptions.Paused)
	var events []*event.Event
	for range 10 {
		e := r.event()
		events = append(events, e)
		e.AcceptedAt = time.Now().Add(time.Duration(len(events)) * 10 * time.Millisecond).UTC()
		e.UID = event.UID(e.Tenant, e.ID, e.AcceptedAt)
		if row := r.waits(r.send(e, sub), outcome.ReasonPaused); !row.Held {
			t.Errorf("got %+v, want it held", row)
		}
	}
	if n := r.Count(`SELECT count(*) FROM event_data`); n != 10 {
		t.Errorf("%d events are kept, want 10: what is held may outlive the stream", n)
	}
	r.forget(events[0])
	r.status(sub, subscriptions.Active)
	got := receiver.Wait(10)
	for i, req := range got {
		if id := req.Header.Get("webhook-id"); id != events[i].ID {
			t.Errorf("delivery %d is of %s, want %s", i, id, events[i].ID)
		}
	}
	for _, e := range events {
		r.ended(outcome.ID(e.UID, sub.ID, 0, e.AcceptedAt), outcome.Delivered, outcome.ReasonOK)
	}
}

func TestATestReachesAPausedSubscription(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.worker(quick())
	r.recorder()
	receiver := servertest.NewReceiver(t, servertest.Status(500), servertest.Status(200))
	sub := r.subscribe(receiver.URL, retries(10*time.Millisecond))
	r.status(sub, subscriptions.Paused)
	e := r.event()
	e.Test = true
	if row := r.ended(r.send(e, sub), outcome.Delivered, outcome.ReasonOK); row.Attempts != 2 {
		t.Errorf("got %d attempts, want 2: the retry is a test as well", row.Attempts)
	}
}

func TestWhatIsDisabledOrDeletedIsCancelled(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.worker(quick())
	r.recorder()
	receiver := servertest.NewReceiver(t, servertest.Status(500))
	disabled, deleted := r.subscribe(receiver.URL, retries(time.Hour)), r.subscribe(receiver.URL, retries(time.Hour))
	one, two := r.send(r.event(), disabled), r.send(r.event(), deleted)
	r.waits(one, outcome.ReasonServer)
	number := r.waits(two, outcome.ReasonServer).Number
	r.status(disabled, subscriptions.Disabled)
	if err := r.store.Delete(t.Context(), deleted.Tenant, deleted.ID); err != nil {
		t.Fatal(err)
	}
	r.ended(one, outcome.Cancelled, outcome.ReasonDisabled)
	if row := r.ended(two, outcome.Cancelled, outcome.ReasonDeleted); row.Number != number || row.Attempts != 1 {
		t.Errorf("got %+v, want number %d and 1 attempt", row, number)
	}
	// And tasks that were on their way.
	r.ended(r.send(r.event(), disabled), outcome.Cancelled, outcome.ReasonDisabled)
	r.ended(r.send(r.event(), deleted), outcome.Cancelled, outcome.ReasonDeleted)
	if n := len(receiver.Requests()); n != 2 {
		t.Errorf("got %d requests, want 2", n)
	}
	// A test of a disabled one is sent.
	receiver.Answer(servertest.Status(200))
	e := r.event()
	e.Test = true
	r.ended(r.send(e, disabled), outcome.Delivered, outcome.ReasonOK)
}

// What changed while no worker ran is followed when one starts.
func TestAWorkerFollowsWhatChangedBeforeIt(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	first := r.worker(quick())
	r.recorder()
	receiver := servertest.NewReceiver(t, servertest.Status(500), servertest.Status(200))
	resumed, deleted := r.subscribe(receiver.URL, retries(time.Hour)), r.subscribe(receiver.URL, retries(time.Hour))
	failed := r.send(r.event(), deleted)
	r.waits(failed, outcome.ReasonServer)
	r.status(resumed, subscriptions.Paused)
	held := r.send(r.event(), resumed)
	r.waits(held, outcome.ReasonPaused)
	if err := first.Stop(); err != nil {
		t.Fatal(err)
	}
	r.status(resumed, subscriptions.Active)
	if err := r.store.Delete(t.Context(), deleted.Tenant, deleted.ID); err != nil {
		t.Fatal(err)
	}
	r.worker(quick())
	r.ended(held, outcome.Delivered, outcome.ReasonOK)
	r.ended(failed, outcome.Cancelled, outcome.ReasonDeleted)
}

// An outcome that says "held" and is recorded only after the resume must not wait for ever.
func TestWhatIsHeldTooLateIsNotHeld(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.worker(quick())
	receiver := servertest.NewReceiver(t)
	sub := r.subscribe(receiver.URL, nil)
	r.status(sub, subscriptions.Paused)
	e := r.event()
	id := r.send(e, sub)
	r.Eventually("the outcome to be on disk", func() bool {
		s, err := r.JS.Stream(t.Context(), ledger.Stream)
		return err == nil && s.CachedInfo().State.Msgs == 1
	})
	r.status(sub, subscriptions.Active)
	r.Eventually("the worker to have followed", func() bool { return r.Count(`SELECT count(*) FROM deferrals`) == 0 })
	r.recorder()
	r.ended(id, outcome.Delivered, outcome.ReasonOK)
}

// cancelAll cancels what is pending of a subscription, as the follower does.
func cancelAll(ctx context.Context, l *ledger.Ledger, sub uuid.UUID, reason outcome.Reason) (total int64, err error) {
	for {
		n, err := l.CancelChunk(ctx, sub, reason)
		total += n
		if err != nil || n < ledger.FollowChunk {
			return total, err
		}
	}
}

func TestManyPendingAreCancelledInChunks(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	l := ledger.New(r.DB)
	sub := r.subscribe("http://127.0.0.1:1/", nil)
	var records []*outcome.Record
	for range 2*ledger.FollowChunk + 7 {
		d := someDelivery()
		d.Subscription = sub.ID
		records = append(records, became(d, outcome.Later, outcome.ReasonServer, time.Now().Add(time.Hour)))
	}
	if err := l.Write(t.Context(), records); err != nil {
		t.Fatal(err)
	}
	n := must(cancelAll(t.Context(), l, sub.ID, outcome.ReasonDisabled))(t)
	if left := r.Count(`SELECT count(*) FROM deferrals`); n != int64(len(records)) || left != 0 {
		t.Errorf("cancelled %d of %d, %d are left", n, len(records), left)
	}
	if n := r.Count(`SELECT count(*) FROM deliveries WHERE state = 'cancelled' AND reason = 'subscription_disabled'`); n != len(records) {
		t.Errorf("%d are in the ledger as cancelled, want %d", n, len(records))
	}
}

// A held delivery that is retried by hand is attempted once, and is no test: what its retry comes to is held again.
func TestARetryByHandOfAHeldDeliveryIsNoTest(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.worker(quick())
	r.recorder()
	receiver := servertest.NewReceiver(t, servertest.Status(500))
	sub := r.subscribe(receiver.URL, retries(time.Millisecond))
	r.status(sub, subscriptions.Paused)
	id := r.send(r.event(), sub)
	r.waits(id, outcome.ReasonPaused)
	r.api().do("acme", "POST", "/v1/deliveries/"+id.String()+"/retry", 202)
	receiver.Wait(1)
	row := r.await(id, "held after one attempt", func(e ledger.Entry) bool { return e.Held && e.Attempts == 1 })
	if row.Test || row.Reason != string(outcome.ReasonPaused) {
		t.Errorf("got %+v, want it held by the pause, and no test", row)
	}
	if n := len(receiver.Requests()); n != 1 {
		t.Errorf("%d requests to a paused subscription, want the one that was asked for", n)
	}
}

// The leases of a claim stay in hand although the leftovers that came with them cannot be removed.
func TestAClaimOutlivesItsCleanup(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	receiver := servertest.NewReceiver(t)
	sub := r.subscribe(receiver.URL, nil)
	e := r.event()
	ended, due := delivery(e, sub.ID), delivery(e, sub.ID)
	due.Delivery, due.Generation = outcome.ID(e.UID, sub.ID, 1, e.AcceptedAt), 1
	r.put(became(ended, outcome.Later, outcome.ReasonServer, time.Now()), became(due, outcome.Later, outcome.ReasonServer, time.Now()))
	r.put(became(ended, outcome.Delivered, outcome.ReasonOK, time.Now()))
	if _, err := r.DB.Exec(fmt.Sprintf(`
CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE 'no cleanup'; END $$;
CREATE TRIGGER refuse BEFORE DELETE ON deferrals FOR EACH ROW WHEN (OLD.id = '%s') EXECUTE FUNCTION refuse()`, ended.Delivery)); err != nil {
		t.Fatal(err)
	}
	cfg := quick()
	cfg.Lease = time.Hour // A lease that is lost is lost for the whole of this test.
	r.worker(cfg)
	receiver.Wait(1)
	// Only now: a recorder moves rows into the day's partition when it starts, and a claim may not see them meanwhile.
	r.recorder()
	r.ended(due.Delivery, outcome.Delivered, outcome.ReasonOK)
}

// The backlog of one subscription, of which the first chunk cannot be cancelled, does not delay another tenant's resume.
func TestABacklogDelaysNobodyElsesResume(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.worker(quick())
	r.recorder()
	receiver := servertest.NewReceiver(t)
	stuck := r.subscribe("http://127.0.0.1:1/", retries(time.Hour))
	r.putOff(stuck, 10)
	other := r.subscribe(receiver.URL, nil)
	r.status(other, subscriptions.Paused)
	id := r.send(r.event(), other)
	r.waits(id, outcome.ReasonPaused)
	// A transaction that takes its time holds the rows of one subscription's cancelling.
	tx := must(r.DB.Begin())(t)
	defer tx.Rollback() //nolint:errcheck // it only held the lock
	if _, err := tx.Exec(`LOCK TABLE deliveries IN SHARE MODE`); err != nil {
		t.Fatal(err)
	}
	r.status(stuck, subscriptions.Disabled)
	r.Eventually("the cancelling to wait", func() bool {
		return r.Count(`SELECT count(*) FROM pg_locks WHERE NOT granted`) > 0
	})
	r.status(other, subscriptions.Active)
	receiver.Wait(1)
}

// The first step asks for the revision alone; subscriptions with deferrals are looked at in pages, whatever they have.
func TestAStartLooksAtPagesOfSubscriptions(t *testing.T) {
	t.Parallel()
	const page = 500 // subscriptions
	r := newRig(t)
	l := ledger.New(r.DB)
	resumed, many := r.subscribe("http://127.0.0.1:1/", nil), r.subscribe("http://127.0.0.1:1/", nil)
	r.putOff(many, 3*page)
	if _, err := r.DB.Exec(`UPDATE deferrals SET subscription_id = $1, held = true WHERE id = (SELECT min(id::text)::uuid FROM deferrals)`, resumed.ID); err != nil {
		t.Fatal(err)
	}
	list, _, more, err := l.Straying(t.Context(), uuid.Nil)
	if err != nil || more || len(list) != 1 || list[0].ID != resumed.ID || list[0].Tenant != "acme" {
		t.Errorf("got %+v, %v, %v; want the resumed one, of one page", list, more, err)
	}
	if _, err := r.DB.Exec(`INSERT INTO deferrals (id, tenant, event_uid, event_id, event_type, seq, subscription_id, generation, reason, attempts,
    step, test, held, created_at, due_at, claim_at)
SELECT gen_random_uuid(), 'gone', gen_random_uuid(), 'e', 't', 1, gen_random_uuid(), 0, 'http_5xx', 1, 1, false, false, now(), now(), now()
FROM generate_series(1, $1)`, page+10); err != nil {
		t.Fatal(err)
	}
	seen, at, pages := 0, uuid.Nil, 0
	for more = true; more; pages++ {
		if list, at, more, err = l.Straying(t.Context(), at); err != nil {
			t.Fatal(err)
		}
		seen += len(list)
	}
	if seen != page+11 || pages != 2 {
		t.Errorf("%d subscriptions in %d pages, want %d in 2", seen, pages, page+11)
	}
}
