package deliver_test

import (
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/fanfarehq/fanfare/deliver/outcome"
	"github.com/fanfarehq/fanfare/internal/servertest"
	"github.com/fanfarehq/fanfare/subscriptions"
)

// A slow receiver's delivery becomes a row, its task is acknowledged, and the outcome takes the row away.
func TestASlowReceiverHoldsBackNobodysTask(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	cfg := quick()
	cfg.HandOff = 50 * time.Millisecond
	w := r.worker(cfg)
	r.recorder()
	release := make(chan struct{})
	slow := servertest.NewReceiver(t, servertest.After(release, servertest.Status(200)))
	fast := servertest.NewReceiver(t)
	slowSub, fastSub := r.subscribe(slow.URL, nil), r.subscribe(fast.URL, nil)
	e := r.event()
	id := r.send(e, slowSub, fastSub)

	row := r.waits(id, outcome.ReasonBusy)
	r.ended(outcome.ID(e.UID, fastSub.ID, 0, e.AcceptedAt), outcome.Delivered, outcome.ReasonOK)
	r.settled()
	if n := r.Count(`SELECT count(*) FROM deferrals WHERE worker = $1 AND claim_at > now()`, w.name); n != 1 {
		t.Errorf("got %d rows leased by the worker, want 1", n)
	}
	close(release)
	after := r.ended(id, outcome.Delivered, outcome.ReasonOK)
	if after.Number != row.Number {
		t.Errorf("the number changed from %d to %d", row.Number, after.Number)
	}
	r.settled()
	if n := r.Count(`SELECT count(*) FROM deferrals`); n != 0 {
		t.Errorf("%d rows are left", n)
	}
	if n := len(slow.Requests()); n != 1 {
		t.Errorf("got %d requests, want 1", n)
	}
}

// A slow failure updates its row, and is retried.
func TestASlowFailureIsRetried(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	cfg := quick()
	cfg.HandOff = 50 * time.Millisecond
	r.worker(cfg)
	r.recorder()
	receiver := servertest.NewReceiver(t, servertest.Delay(300*time.Millisecond, servertest.Status(500)), servertest.Status(200))
	sub := r.subscribe(receiver.URL, retries(time.Millisecond))
	row := r.ended(r.send(r.event(), sub), outcome.Delivered, outcome.ReasonOK)
	if row.Attempts != 2 || len(receiver.Requests()) != 2 {
		t.Errorf("got %d attempts and %d requests, want 2 and 2", row.Attempts, len(receiver.Requests()))
	}
}

// With more than a subscription may have in flight, the rest waits its turn or comes back; none is lost, and the bound holds.
func TestASubscriptionsBoundHolds(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	cfg := quick()
	cfg.HandOff = 100 * time.Millisecond
	r.worker(cfg)
	r.recorder()
	var inFlight, most atomic.Int64
	receiver := servertest.NewReceiver(t, servertest.By(func(servertest.Request) servertest.Answer {
		n := inFlight.Add(1)
		for m := most.Load(); n > m && !most.CompareAndSwap(m, n); m = most.Load() {
		}
		return servertest.Delay(30*time.Millisecond, servertest.By(func(servertest.Request) servertest.Answer {
			inFlight.Add(-1)
			return servertest.Status(200)
		}))
	}))
	sub := r.subscribe(receiver.URL, func(s *subscriptions.Subscription) { s.MaxInFlight = 4 })
	var ids []uuid.UUID
	for range 200 {
		ids = append(ids, r.send(r.event(), sub))
	}
	for _, id := range ids {
		r.ended(id, outcome.Delivered, outcome.ReasonOK)
	}
	if most.Load() > 4 {
		t.Errorf("%d requests were in flight at once, want at most 4", most.Load())
	}
	if n := len(receiver.Requests()); n != 200 {
		t.Errorf("got %d requests, want 200", n)
	}
}
