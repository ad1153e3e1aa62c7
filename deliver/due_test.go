package deliver

import (
	"context"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/fanfarehq/fanfare/internal/servertest"
	"github.com/fanfarehq/fanfare/subscriptions"
)

// Several workers share what is due, and none of it is made twice.
func TestTwoWorkersShareWhatIsDue(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	one, two := r.worker(quick()), r.worker(quick())
	r.recorder()
	r.recorder()
	receiver := servertest.NewReceiver(t, servertest.By(firstFails()))
	sub := r.subscribe(receiver.URL, func(s *subscriptions.Subscription) {
		retries(20 * time.Millisecond)(s)
		s.MaxInFlight = 8
	})
	var ids []uuid.UUID
	for range 300 {
		ids = append(ids, r.send(r.event(), sub))
	}
	for _, id := range ids {
		if row := r.ended(id, OutcomeDelivered, ReasonOK); row.Attempts != 2 {
			t.Errorf("got %d attempts, want 2", row.Attempts)
		}
	}
	r.settled()
	if n := len(receiver.Requests()); n != 600 {
		t.Errorf("got %d requests, want 600", n)
	}
	for _, w := range []*running{one, two} {
		if taken, waiting := w.worker.slots.inFlight(); taken+waiting != 0 || w.worker.due.flying.Load() != 0 {
			t.Errorf("%d slots are taken, %d wait, %d leases are in hand; want none", taken, waiting, w.worker.due.flying.Load())
		}
	}
}

// Rows that are due in the future are not touched; a nearer one that comes is not overlooked.
func TestWhatIsDueIsMadeWhenItIsDue(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.worker(quick())
	r.recorder()
	receiver := servertest.NewReceiver(t, servertest.Status(500), servertest.Status(500), servertest.Status(200))
	far := r.subscribe(receiver.URL, retries(time.Hour))
	r.waits(r.send(r.event(), far), ReasonServer)
	near := r.subscribe(receiver.URL, retries(300*time.Millisecond))
	id := r.send(r.event(), near)
	got := receiver.Wait(3)
	if gap := got[2].At.Sub(got[1].At); gap < 300*time.Millisecond {
		t.Errorf("the retry came after %s, want 300ms or more", gap)
	}
	r.ended(id, OutcomeDelivered, ReasonOK)
}

// A lease that ends before the attempt could is not used: another worker may have the delivery by then.
func TestALeaseMustOutlastTheAttempt(t *testing.T) {
	t.Parallel()
	w := &Worker{pulse: newPulse()}
	sub := &subscriptions.Subscription{Timeout: 10 * time.Second}
	for _, tt := range []struct {
		left time.Duration
		want bool
	}{{time.Minute, true}, {12 * time.Second, true}, {10 * time.Second, false}, {-time.Minute, false}} {
		f := &flight{until: time.Now().Add(tt.left), state: handed}
		if got := f.mayStart(w, sub); got != tt.want {
			t.Errorf("with %s of the lease left: got %v, want %v", tt.left, got, tt.want)
		}
	}
	if f := (&flight{}); !f.mayStart(w, sub) {
		t.Error("without a lease the task itself keeps the delivery")
	}
	if f := (&flight{state: lost}); f.mayStart(w, sub) {
		t.Error("what is lost may not be sent")
	}
	if f := (&flight{epoch: 1}); f.mayStart(w, sub) {
		t.Error("what was begun before a pause may not be sent")
	}
}

// An event that is nowhere any more ends its deliveries.
func TestWithoutItsEventADeliveryIsDead(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.worker(quick())
	r.recorder()
	receiver := servertest.NewReceiver(t, servertest.Status(500))
	sub := r.subscribe(receiver.URL, retries(100*time.Millisecond))
	e := r.event()
	r.forget(e)
	r.ended(r.send(e, sub), OutcomeDead, ReasonExpired)
	if n := len(receiver.Requests()); n != 1 {
		t.Errorf("got %d requests, want 1", n)
	}
}

// A retry that lies beyond the life of the stream of events keeps the event's bytes.
func TestALongWaitKeepsTheEvent(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	cfg := quick()
	cfg.EventsMaxAge = 24 * time.Hour
	r.worker(cfg)
	r.recorder()
	receiver := servertest.NewReceiver(t, servertest.Status(500))
	short, long := r.subscribe(receiver.URL, retries(time.Hour)), r.subscribe(receiver.URL, retries(48*time.Hour))
	r.waits(r.send(r.event(), short), ReasonServer)
	if n := r.count(`SELECT count(*) FROM event_data`); n != 0 {
		t.Errorf("%d events are kept for a retry in an hour, want none", n)
	}
	r.waits(r.send(r.event(), long), ReasonServer)
	if n := r.count(`SELECT count(*) FROM event_data`); n != 1 {
		t.Errorf("%d events are kept for a retry in two days, want 1", n)
	}
}

func TestEventsAreReadOnceAndTheCacheIsBounded(t *testing.T) {
	t.Parallel()
	reads := 0
	events := must(NewEvents(EventsConfig{CacheBytes: 4 * 2048, Read: func(_ context.Context, seq uint64) (*Event, error) {
		reads++
		e := &Event{ID: "e", Tenant: "acme", Seq: seq, Data: make([]byte, 768)}
		e.UID[15] = byte(seq)
		return e, nil
	}}, nil))(t)
	get := func(n byte) {
		e, err := events.Get(t.Context(), uuid.UUID{15: n}, uint64(n))
		if err != nil || e.Seq != uint64(n) {
			t.Fatalf("got %+v, %v", e, err)
		}
	}
	for range 3 {
		for n := range byte(4) {
			get(n)
		}
	}
	if reads != 4 {
		t.Errorf("four events were read %d times", reads)
	}
	for n := byte(4); n < 100; n++ {
		get(n)
	}
	if events.cache.Len() > 4 || events.bytes > 4*2048 {
		t.Errorf("the cache has %d events of %d bytes", events.cache.Len(), events.bytes)
	}
}
