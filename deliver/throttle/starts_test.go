package throttle_test

import (
	"runtime"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/fanfarehq/fanfare/deliver/throttle"
)

// errands counts those that run.
type errands struct {
	mu                 sync.Mutex
	now, most, may, no int
	order              []int
}

// do returns an errand that takes a time.
func (e *errands) do(n int, takes time.Duration) func(bool) {
	return func(may bool) {
		e.mu.Lock()
		if !may {
			e.no++
			e.mu.Unlock()
			return
		}
		e.may++
		e.now++
		e.most = max(e.most, e.now)
		e.order = append(e.order, n)
		e.mu.Unlock()
		time.Sleep(takes)
		e.mu.Lock()
		e.now--
		e.mu.Unlock()
	}
}

func atOnce() int { return throttle.YoungPerCore * runtime.GOMAXPROCS(0) }

// Few quick requests begin at once, in their order.
func TestErrandsBeginInTheirOrder(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		d := newDesk(t, throttle.Config{InFlight: 10_000}, nil)
		e := new(errands)
		n := 10 * atOnce()
		for i := range n {
			d.Go("a", new(throttle.Start), e.do(i, time.Millisecond))
		}
		time.Sleep(time.Second)
		synctest.Wait()
		if e.may != n || e.most != atOnce() {
			t.Errorf("%d of %d errands, %d at once, want %d", e.may, n, e.most, atOnce())
		}
		for i, n := range e.order {
			if n < i-atOnce() || n > i+atOnce() { // Those that begin together may do so in any order.
				t.Fatalf("errand %d came as number %d", n, i)
			}
		}
	})
}

// Slow requests are soon not counted: any number of them may be in flight.
func TestSlowRequestsMakeRoom(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		d := newDesk(t, throttle.Config{InFlight: 10_000}, nil)
		e := new(errands)
		for range 10 * atOnce() {
			d.Go("a", new(throttle.Start), e.do(0, time.Hour))
		}
		time.Sleep(time.Second)
		synctest.Wait()
		if e.most != 10*atOnce() {
			t.Errorf("%d of %d have begun", e.most, 10*atOnce())
		}
		time.Sleep(2 * time.Hour)
	})
}

// Tenants take turns to begin.
func TestErrandsOfTenantsTakeTurns(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		d := newDesk(t, throttle.Config{InFlight: 10_000}, nil)
		e := new(errands)
		for range 5 * atOnce() {
			d.Go("a", new(throttle.Start), e.do(0, time.Millisecond))
		}
		d.Go("b", new(throttle.Start), e.do(1, time.Millisecond))
		time.Sleep(time.Second)
		synctest.Wait()
		for i, n := range e.order {
			if n == 1 && i > 2*atOnce() {
				t.Errorf("the other tenant's errand came as number %d", i)
			}
		}
	})
}

// Once a gate is stopped, each errand learns that it may not begin.
func TestErrandsLearnOfTheEnd(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		d := newDesk(t, throttle.Config{InFlight: 10_000}, nil)
		e := new(errands)
		for range atOnce() + 3 {
			d.Go("a", new(throttle.Start), e.do(0, time.Millisecond))
		}
		synctest.Wait()
		d.Stop()
		d.Go("a", new(throttle.Start), e.do(0, time.Millisecond))
		time.Sleep(time.Second)
		synctest.Wait()
		if e.may != atOnce() || e.no != 4 {
			t.Errorf("%d began and %d learned that they may not; want %d and 4", e.may, e.no, atOnce())
		}
	})
}

// An errand that has to wait lets another begin.
func TestAnErrandThatWaitsLetsAnotherBegin(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		d := newDesk(t, throttle.Config{InFlight: 10_000}, nil)
		sub := subOf("a", "https://a.test/", 1)
		holder := d.enter(sub)
		e := new(errands)
		for range 8 {
			start := new(throttle.Start)
			d.Go("a", start, func(bool) {
				ticket, err := d.Enter(t.Context(), throttle.Request{Subscription: sub, Start: start})
				if err != nil {
					t.Error(err)
					return
				}
				ticket.Release(t.Context(), fine)
			})
		}
		for range atOnce() {
			d.Go("a", new(throttle.Start), e.do(0, time.Hour))
		}
		synctest.Wait()
		if e.most < atOnce()-1 {
			t.Errorf("%d of %d have begun", e.most, atOnce())
		}
		holder.Release(t.Context(), fine)
		time.Sleep(2 * time.Hour)
		d.idle()
	})
}
