package throttle_test

import (
	"errors"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/uuid"

	"github.com/fanfarehq/fanfare/deliver/throttle"
	"github.com/fanfarehq/fanfare/subscriptions"
)

// A worker that has just started knows nothing of a receiver with a backlog. It finds out how fast the receiver is, and the backlog is
// done about as soon as the receiver allows: no delivery waits for a time that was computed when nothing was known.
func TestABacklogAfterAStart(t *testing.T) {
	t.Parallel()
	const backlog = 2000
	for _, tt := range []struct {
		name  string
		takes time.Duration
		most  int // requests at once
		spare time.Duration
	}{
		{"quick", 50 * time.Millisecond, 32, 10 * time.Second},
		{"slow", 1200 * time.Millisecond, 32, 20 * time.Second},
		{"slow, with many at once", 1200 * time.Millisecond, 500, 30 * time.Second},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				d := newDesk(t, throttle.Config{InFlight: 1024}, nil)
				took := d.drain(subOf("a", "https://a.test/", tt.most), tt.takes, backlog)
				if most := tt.takes*backlog/time.Duration(tt.most) + tt.spare; took > most {
					t.Errorf("done after %v, want at most %v", took, most)
				}
			})
		})
	}
}

// drain makes due deliveries of a subscription as a worker does, and returns after how long all were made.
func (d *desk) drain(sub *subscriptions.Subscription, takes time.Duration, backlog int) time.Duration {
	const atOnce, poll = 256, 50 * time.Millisecond // as in package deliver
	begun := time.Now()
	due := make([]time.Time, backlog)
	put, made := make(chan time.Time, backlog), make(chan struct{}, backlog)
	for flying, done := 0, 0; done < backlog; time.Sleep(poll) {
		for ; len(put) > 0; flying-- {
			due = append(due, <-put)
		}
		for ; len(made) > 0; flying-- {
			<-made
			done++
		}
		slices.SortFunc(due, time.Time.Compare)
		for len(due) > 0 && flying < atOnce && !due[0].After(time.Now()) {
			due = due[1:]
			flying++
			go func() {
				ticket, err := d.Enter(d.t.Context(), throttle.Request{Subscription: sub, Delivery: uuid.New(), Due: true})
				if refusal, ok := errors.AsType[throttle.Refusal](err); ok {
					put <- time.Now().Add(refusal.Wait)
					return
				}
				if err != nil {
					d.t.Error(err)
					return
				}
				time.Sleep(takes)
				ticket.Release(d.t.Context(), fine)
				made <- struct{}{}
			}()
		}
		synctest.Wait()
	}
	return time.Since(begun)
}
