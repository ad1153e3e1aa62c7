package throttle_test

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/uuid"

	"github.com/fanfarehq/fanfare/deliver/throttle"
)

// settled returns the workers of an installation after each has counted all others.
func settled(n int) []*throttle.Workers {
	all := make([]*throttle.Workers, n)
	for rank := range all {
		all[rank] = throttle.NewWorkers()
		for range throttle.Counts {
			all[rank].Count(n, rank)
		}
	}
	return all
}

func sharesOf(all []*throttle.Workers, id uuid.UUID, most int) (sum, least, largest int) {
	least = most
	for _, w := range all {
		share := w.Share(id, most)
		sum, least, largest = sum+share, min(least, share), max(largest, share)
	}
	return sum, least, largest
}

func TestSharesAddUpToTheWhole(t *testing.T) {
	t.Parallel()
	for n := 1; n <= 17; n++ {
		all := settled(n)
		for most := 1; most <= 40; most++ {
			for range 5 {
				id := uuid.New()
				if sum, least, largest := sharesOf(all, id, most); sum != most || largest-least > 1 {
					t.Fatalf("%d workers, max_in_flight %d: shares of %s from %d to %d add up to %d", n, most, id, least, largest, sum)
				}
			}
		}
	}
}

// The remainders of many subscriptions do not all go to the same worker.
func TestRemaindersAreSpread(t *testing.T) {
	t.Parallel()
	all := settled(3)
	held := make([]int, len(all))
	for range 3000 {
		id := uuid.New()
		for i, w := range all {
			held[i] += w.Share(id, 1)
		}
	}
	for i, n := range held {
		if n < 800 || n > 1200 {
			t.Errorf("worker %d has %d of 3000 subscriptions of one request, want about 1000", i, n)
		}
	}
}

// Whatever joins or leaves: if each worker counts once per round, the shares never add up to more than the whole.
func TestSharesWhileWorkersComeAndGo(t *testing.T) {
	t.Parallel()
	const most = 8
	ids := []uuid.UUID{uuid.New(), uuid.New(), uuid.New()}
	var all []*throttle.Workers
	within := func(round string) {
		t.Helper()
		for _, id := range ids {
			if sum, _, _ := sharesOf(all, id, most); sum > most {
				t.Errorf("%s: shares add up to %d, want %d at most", round, sum, most)
			}
		}
	}
	for _, join := range []bool{true, true, false, true, true, false, false, true} {
		if join {
			// Its id is the lowest, so the ranks of all others change.
			all = append([]*throttle.Workers{throttle.NewWorkers()}, all...)
		} else {
			all = all[1:]
		}
		for range throttle.Counts + 1 {
			for rank, w := range all {
				w.Count(len(all), rank)
				within("while they count")
			}
		}
		if sum, _, _ := sharesOf(all, ids[0], most); sum != most {
			t.Errorf("%d workers that all counted have %d of %d", len(all), sum, most)
		}
	}
}

func TestAWorkerAloneHasTheWholeAtOnce(t *testing.T) {
	t.Parallel()
	alone, second := throttle.NewWorkers(), throttle.NewWorkers()
	alone.Count(1, 0)
	<-alone.Counted()
	if got := alone.Share(uuid.New(), 8); got != 8 {
		t.Errorf("a worker alone has %d of 8", got)
	}
	second.Count(2, 1)
	select {
	case <-second.Counted():
		t.Error("a second worker begins before the first knows of it")
	default:
	}
}

// A worker without a share refuses at once and leaves what is due to others, until it has a share.
func TestAWorkerWithoutAShare(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := throttle.NewWorkers()
		w.Count(1, 0)
		d := newDeskOf(t, throttle.Config{InFlight: 100}, throttle.Deps{Workers: w})
		sub := subOf("a", "https://a.test/", 1)
		d.send(1, sub, fine)
		rank := 0
		for w.Count(2, rank); w.Share(sub.ID, 1) > 0; w.Count(2, rank) {
			rank = 1 - rank
		}
		for range throttle.Counts {
			w.Count(2, rank)
		}
		if wait := d.refused(sub, throttle.Busy); wait > 2*throttle.MinBusy {
			t.Errorf("comes back after %s", wait)
		}
		if got := d.Elsewhere(); len(got) != 1 || got[0] != sub.ID {
			t.Errorf("leaves %v to others, want %s", got, sub.ID)
		}
		time.Sleep(throttle.ElsewhereKept + time.Second)
		if got := d.Elsewhere(); len(got) != 0 {
			t.Errorf("leaves %v to others although nothing asked for it", got)
		}
		d.refused(sub, throttle.Busy)
		for range throttle.Counts {
			w.Count(1, 0)
		}
		if got := d.Elsewhere(); len(got) != 0 {
			t.Errorf("leaves %v to others although it has a share", got)
		}
		d.send(1, sub, fine)
		d.idle()
	})
}

// A share that shrinks holds for deliveries that wait already.
func TestAShareShrinksForThoseInLine(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := throttle.NewWorkers()
		w.Count(1, 0)
		d := newDeskOf(t, throttle.Config{InFlight: 100, Patience: time.Hour}, throttle.Deps{Workers: w})
		sub := subOf("a", "https://a.test/", 4)
		c := d.come(repeat(sub, 20)...)
		for range 4 {
			c.end(1, fine)
		}
		if n := c.entered(); n != 4 {
			t.Fatalf("%d in flight, want 4", n)
		}
		w.Count(4, 0)
		c.end(4, fine)
		if n := c.entered(); n != 1 {
			t.Errorf("%d in flight after three more workers came, want 1", n)
		}
		c.drain()
		d.idle()
	})
}
