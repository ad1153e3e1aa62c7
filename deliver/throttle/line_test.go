package throttle_test

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/uuid"

	"github.com/fanfarehq/fanfare/deliver/throttle"
	"github.com/fanfarehq/fanfare/subscriptions"
)

func repeat(sub *subscriptions.Subscription, n int) []*subscriptions.Subscription {
	list := make([]*subscriptions.Subscription, n)
	for i := range list {
		list[i] = sub
	}
	return list
}

func TestASubscriptionIsServedInOrder(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		d := newDesk(t, throttle.Config{InFlight: 100}, nil)
		sub := subOf("a", "https://a.test/", 1)
		holder := d.enter(sub)
		var order []int
		for i := range 5 {
			ticket, err := d.Line(throttle.Request{Subscription: sub, Delivery: uuid.New()})
			if err != nil {
				t.Fatal(err)
			}
			go func() {
				if err := ticket.Enter(t.Context()); err != nil {
					t.Error(err)
				}
				order = append(order, i)
				ticket.Release(t.Context(), fine)
			}()
		}
		synctest.Wait()
		if taken, waiting := d.InFlight(); taken != 1 || waiting != 5 {
			t.Errorf("got %d in flight and %d waiting, want 1 and 5", taken, waiting)
		}
		holder.Release(t.Context(), fine)
		synctest.Wait()
		for i, got := range order {
			if got != i || len(order) != 5 {
				t.Fatalf("served in the order %v", order)
			}
		}
		d.idle()
	})
}

// A receiver that does not move has a short line. What finds no room comes back at the receiver's speed, each
// at a time of its own.
func TestASlowReceiverHasAShortLine(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		d := newDesk(t, throttle.Config{InFlight: 1000, Patience: time.Hour}, nil)
		sub := subOf("a", "https://slow.test/", 2)
		c := d.come(repeat(sub, 2+throttle.MinWaiting)...)
		time.Sleep(throttle.SlowQueue + time.Millisecond)
		var last time.Duration
		for i := range 10 {
			wait := d.refused(sub, throttle.Busy)
			if i > 0 && wait <= last {
				t.Errorf("delivery %d comes back after %s, the one before after %s", i, wait, last)
			}
			last = wait
		}
		for range 1000 {
			if wait := d.refused(sub, throttle.Busy); wait > throttle.MaxBusy {
				t.Fatalf("comes back after %s, want %s at most", wait, throttle.MaxBusy)
			}
		}
		c.drain()
		d.idle()
	})
}

// A receiver known to be slow has a quarter of the places that are free, and a short line from the first moment.
func TestASlowReceiverHasAPartOfWhatIsFree(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		d := newDesk(t, throttle.Config{InFlight: 64, Patience: time.Hour}, nil)
		sub := subOf("a", "https://slow.test/", 1000)
		warm := d.come(repeat(sub, 40)...)
		for range 6 { // It is quick at first, and so may have many.
			warm.end(1, fine)
		}
		warm.drain()
		for range 4 {
			ticket := d.enter(sub)
			time.Sleep(8 * throttle.SlowHold)
			ticket.Release(t.Context(), fine)
		}
		c := d.come(repeat(sub, 13+throttle.MinWaiting)...)
		// The n-th is let in while it holds less than a quarter of the 64-n that are free.
		if n := c.entered(); n < 10 || n > 16 {
			t.Errorf("it has %d of 64 places, want about a quarter of what is left", n)
		}
		d.refused(sub, throttle.Busy)
		c.drain()
		d.idle()
	})
}

// One subscription has no more than a quarter of a worker, however many requests it may have.
func TestASubscriptionsShareOfAWorker(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		d := newDesk(t, throttle.Config{InFlight: 64}, nil)
		c := d.come(repeat(subOf("a", "https://a.test/", 1000), 200)...)
		for range 6 {
			c.end(1, fine)
		}
		if n := c.entered(); n != 16 {
			t.Errorf("it has %d of 64 places, want 16", n)
		}
		c.drain()
		d.idle()
	})
}

func TestPatienceEnds(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		d := newDesk(t, throttle.Config{InFlight: 10, Patience: time.Second}, nil)
		sub := subOf("a", "https://a.test/", 1)
		holder := d.enter(sub)
		_, err := d.Enter(t.Context(), throttle.Request{Subscription: sub})
		if refusal, ok := errors.AsType[throttle.Refusal](err); !ok || refusal.Wait < throttle.MinBusy || refusal.Reason != throttle.Busy {
			t.Errorf("got %v, want that there is no room", err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if _, err := d.Enter(ctx, throttle.Request{Subscription: sub}); !errors.Is(err, context.Canceled) {
			t.Errorf("got %v, want that it was cancelled", err)
		}
		holder.Release(t.Context(), fine)
		d.send(1, sub, fine)
		d.idle()
	})
}

// A delivery that waits for the worker is the worker's to wait for, unless its own tenant fills the worker with
// slow requests.
func TestWhoseFaultAWaitIs(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		d := newDesk(t, throttle.Config{InFlight: 8, Patience: time.Minute}, nil)
		full := d.come(many(7, "a", "")...)
		ticket, err := d.Line(throttle.Request{Subscription: subOf("a", "https://next.test/", 1)})
		if err != nil {
			t.Fatal(err)
		}
		entered := make(chan error, 1)
		go func() { entered <- ticket.Enter(t.Context()) }()
		synctest.Wait()
		if !ticket.Queued() {
			t.Error("a wait of a moment is its own fault")
		}
		time.Sleep(2 * throttle.SlowHold)
		if ticket.Queued() {
			t.Error("the worker is to wait for it though its tenant's requests are slow")
		}
		full.end(1, fine)
		if err := <-entered; err != nil {
			t.Fatal(err)
		}
		ticket.Cancel()
		full.drain()
		d.idle()
	})
}

// Whatever comes, waits, gives up or is served: no place is lost, and no bound broken.
func TestPlacesUnderStress(t *testing.T) {
	t.Parallel()
	const limit, all = 3, 8
	d := newDesk(t, throttle.Config{InFlight: all, Patience: 3 * time.Millisecond}, nil)
	subs := append(many(3, "a", "https://shared.test/"), many(3, "b", "")...)
	for _, s := range subs {
		s.MaxInFlight = limit
	}
	var worker atomic.Int64
	each := make([]atomic.Int64, len(subs))
	var wg sync.WaitGroup
	for i := range 4000 {
		wg.Go(func() {
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			if i%5 == 0 {
				go cancel()
			}
			n := i % len(subs)
			ticket, err := d.Enter(ctx, throttle.Request{Subscription: subs[n]})
			if err != nil {
				return
			}
			if each[n].Add(1) > limit || worker.Add(1) > all {
				t.Error("more than its share")
			}
			each[n].Add(-1)
			worker.Add(-1)
			if i%7 == 0 {
				ticket.Cancel()
			} else {
				ticket.Release(ctx, fine)
			}
		})
	}
	wg.Wait()
	d.idle()
	for _, sub := range subs {
		d.send(limit, sub, fine)
	}
}
