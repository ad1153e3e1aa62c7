package throttle

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/uuid"
)

// hold takes both slots of one delivery; the test fails if it does not get them.
func hold(t *testing.T, s *slots, id uuid.UUID, limit int) {
	t.Helper()
	if err := s.enter(t.Context(), id, limit, time.Minute); err != nil {
		t.Fatal(err)
	}
	if err := s.start(t.Context()); err != nil {
		t.Fatal(err)
	}
}

func TestASubscriptionGetsItsShareInOrder(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := newSlots(100, newStarts(inGoroutine), time.Now)
		id := uuid.New()
		hold(t, s, id, 2)
		hold(t, s, id, 2)
		var order []int
		var mu sync.Mutex
		var wg sync.WaitGroup
		for i := range 5 {
			wg.Go(func() {
				hold(t, s, id, 2)
				mu.Lock()
				defer mu.Unlock()
				order = append(order, i)
			})
			synctest.Wait() // so that they wait in this order
		}
		if taken, waiting := s.inFlight(); taken != 2 || waiting != 5 {
			t.Errorf("got %d in flight and %d waiting, want 2 and 5", taken, waiting)
		}
		for range 7 {
			s.release(id)
			synctest.Wait()
		}
		wg.Wait()
		for i, got := range order {
			if got != i {
				t.Fatalf("served in the order %v", order)
			}
		}
		if len(s.gates) != 0 {
			t.Errorf("%d subscriptions are remembered that nothing is in flight for", len(s.gates))
		}
	})
}

func TestTheWorkerHasSoManySlots(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := newSlots(3, newStarts(inGoroutine), time.Now)
		ids := []uuid.UUID{uuid.New(), uuid.New(), uuid.New(), uuid.New()}
		for _, id := range ids[:3] {
			hold(t, s, id, 10)
		}
		if s.free() != 0 {
			t.Errorf("%d slots are free, want none", s.free())
		}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		if err := s.enter(ctx, ids[3], 10, time.Minute); err != nil {
			t.Fatal(err)
		}
		go func() { done <- s.start(ctx) }()
		synctest.Wait()
		cancel()
		if err := <-done; !errors.Is(err, context.Canceled) {
			t.Errorf("got %v, want that it was cancelled", err)
		}
		s.exit(ids[3])
		for _, id := range ids[:3] {
			s.release(id)
		}
		if s.free() != 3 || len(s.gates) != 0 {
			t.Errorf("%d of 3 slots are free, %d subscriptions remembered", s.free(), len(s.gates))
		}
	})
}

// A receiver that does not move has a short queue; what finds no room comes back at the receiver's speed.
func TestASlowReceiverHasAShortQueue(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := newSlots(1000, newStarts(inGoroutine), time.Now)
		id := uuid.New()
		for range 4 {
			hold(t, s, id, 4)
		}
		ctx, cancel := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		for range minWaiting {
			wg.Go(func() { _ = s.enter(ctx, id, 4, time.Hour) })
		}
		synctest.Wait()
		time.Sleep(slowQueue + time.Millisecond)
		var last time.Duration
		for i := range 10 {
			var full Refusal
			if err := s.enter(ctx, id, 4, time.Hour); !errors.As(err, &full) {
				t.Fatalf("got %v, want that there is no room", err)
			}
			if i > 0 && full.Wait <= last {
				t.Errorf("delivery %d comes back after %s, the one before after %s", i, full.Wait, last)
			}
			last = full.Wait
		}
		for range 1000 {
			var full Refusal
			if err := s.enter(ctx, id, 4, time.Hour); !errors.As(err, &full) || full.Wait > maxBusy {
				t.Fatalf("got %v (%s), want no room, for at most %s", err, full.Wait, maxBusy)
			}
		}
		cancel()
		wg.Wait()
		if _, waiting := s.inFlight(); waiting != 0 {
			t.Errorf("%d wait still", waiting)
		}
		for range 4 {
			s.release(id)
		}
		time.Sleep(2 * maxBusy)
		s.sweep()
		if len(s.gates) != 0 {
			t.Errorf("%d subscriptions are remembered", len(s.gates))
		}
	})
}

// Of a receiver that is known to be slow no more wait than a few, from the first moment, and it has only a part of the
// slots that are left.
func TestAReceiverKnownToBeSlow(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := newSlots(64, newStarts(inGoroutine), time.Now)
		id := uuid.New()
		hold(t, s, id, 1000)
		s.took(id, 8*slowHold+time.Second)
		taken := 1
		for ; ; taken++ {
			w, err := s.take(id, 1000)
			if err != nil {
				t.Fatal(err)
			}
			if w != nil {
				break
			}
			if err := s.start(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		if most := 64 / mostShare; taken > most {
			t.Errorf("it has %d of 64 slots, want %d at most", taken, most)
		}
		waiting := 1
		for ; waiting < 64; waiting++ {
			if _, err := s.take(id, 1000); err != nil {
				break
			}
		}
		if waiting > minWaiting {
			t.Errorf("%d wait for a slow receiver, want %d at most", waiting, minWaiting)
		}
	})
}

// One subscription has no more than its share of a worker, however many requests it may have.
func TestASubscriptionsShareOfAWorker(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := newSlots(64, newStarts(inGoroutine), time.Now)
		id := uuid.New()
		for range 64 / mostShare {
			hold(t, s, id, 1000)
		}
		if w, err := s.take(id, 1000); w == nil || err != nil {
			t.Errorf("it has more than %d of 64 slots (%v)", 64/mostShare, err)
		}
		hold(t, s, uuid.New(), 1000)
	})
}

// A quick receiver may have many waiting.
func TestAQuickReceiverHasALongQueue(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := newSlots(1000, newStarts(inGoroutine), time.Now)
		id := uuid.New()
		var wg sync.WaitGroup
		for range 500 {
			wg.Go(func() {
				hold(t, s, id, 2)
				time.Sleep(time.Millisecond)
				s.release(id)
			})
		}
		wg.Wait()
	})
}

func TestPatienceEnds(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := newSlots(10, newStarts(inGoroutine), time.Now)
		id := uuid.New()
		hold(t, s, id, 1)
		var full Refusal
		if err := s.enter(t.Context(), id, 1, time.Second); !errors.As(err, &full) || full.Wait < minBusy {
			t.Errorf("got %v, want that there is no room", err)
		}
		s.release(id)
		hold(t, s, id, 1)
		s.release(id)
	})
}

// Whoever comes, waits, gives up or is served: no slot is lost, and no bound broken.
func TestSlotsUnderStress(t *testing.T) {
	t.Parallel()
	const limit, all = 3, 8
	s := newSlots(all, newStarts(inGoroutine), time.Now)
	ids := []uuid.UUID{uuid.New(), uuid.New(), uuid.New(), uuid.New(), uuid.New()}
	var worker atomic.Int64
	var each [5]atomic.Int64
	var wg sync.WaitGroup
	for i := range 4000 {
		wg.Go(func() {
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			if i%5 == 0 {
				go cancel()
			}
			n := i % len(ids)
			if s.enter(ctx, ids[n], limit, time.Duration(i%7)*time.Millisecond) != nil {
				return
			}
			if each[n].Add(1) > limit {
				t.Error("more than its share")
			}
			err := s.start(ctx)
			if err == nil && worker.Add(1) > all {
				t.Error("more than the worker has")
			}
			each[n].Add(-1)
			if err != nil {
				s.exit(ids[n])
				return
			}
			worker.Add(-1)
			s.release(ids[n])
		})
	}
	wg.Wait()
	for _, id := range ids {
		for range limit {
			hold(t, s, id, limit)
			s.release(id)
		}
	}
	if taken, waiting := s.inFlight(); taken != 0 || waiting != 0 {
		t.Errorf("%d taken, %d waiting, want none", taken, waiting)
	}
}
