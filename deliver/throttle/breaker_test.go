package throttle_test

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/fanfarehq/fanfare/deliver/throttle"
	"github.com/fanfarehq/fanfare/subscriptions"
)

const most = 32

func newPatient(t *testing.T) (*desk, *subscriptions.Subscription) {
	return newDesk(t, throttle.Config{InFlight: 1024, BreakerAfter: 10}, nil), subOf("a", "https://a.test/", most)
}

// window demands how many requests at once are let through.
func (d *desk) window(sub *subscriptions.Subscription, want int) {
	d.t.Helper()
	ticket, err := d.Line(throttle.Request{Subscription: sub})
	if err != nil {
		d.t.Fatal(err)
	}
	if got := ticket.Limit(); got != want {
		d.t.Errorf("got %d requests at once, want %d", got, want)
	}
	ticket.Leave()
}

func TestBreakerOpensProbesAndRamps(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		d, sub := newPatient(t)
		d.send(9, sub, oops)
		d.send(1, sub, fine)
		d.send(9, sub, oops)
		d.window(sub, most)
		d.send(1, sub, oops)
		if wait := d.refused(sub, throttle.BreakerOpen); wait < throttle.FirstOpen || wait > throttle.FirstOpen*12/10 {
			t.Errorf("the first comes back in %s, want about %s", wait, throttle.FirstOpen)
		}
		time.Sleep(throttle.FirstOpen * 11 / 10)
		// One probe, and while it is away no other request.
		probe := d.enter(sub)
		if !probe.Probe() || probe.Limit() != 1 {
			t.Fatal("got no probe")
		}
		d.refused(sub, throttle.BreakerOpen)
		probe.Release(t.Context(), oops)
		time.Sleep(2*throttle.FirstOpen - time.Millisecond)
		d.refused(sub, throttle.BreakerOpen)
		time.Sleep(throttle.FirstOpen)
		d.send(1, sub, fine)
		for want := 1; want < most; want++ {
			d.window(sub, want)
			d.send(1, sub, fine)
		}
		d.window(sub, most)
		if endpoints, _, _, _ := d.Remembered(); endpoints != 0 {
			t.Errorf("%d endpoints are remembered that do well", endpoints)
		}
		if d.said("breaker opened") != 1 || d.said("breaker closed") != 1 || len(d.recovered) != 1 || d.recovered[0] != sub {
			t.Errorf("logged %q and told of %d", d.logged, len(d.recovered))
		}
	})
}

func TestBreakerWaitsLongerEachTime(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		d, sub := newPatient(t)
		d.send(10, sub, oops)
		for _, want := range []time.Duration{5, 10, 20, 40, 80, 160, 300, 300, 300} {
			least := want * time.Second
			if wait := d.refused(sub, throttle.BreakerOpen); wait < least || wait > least*11/10+time.Second {
				t.Errorf("got open for %s, want %s", wait, least)
			}
			time.Sleep(least * 11 / 10)
			d.send(1, sub, oops)
		}
	})
}

func TestRetryAfterHoldsForTheWholeEndpoint(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		d, sub := newPatient(t)
		before := d.enter(sub)
		said := heavy
		said.RetryAfter = time.Minute
		d.send(1, sub, said)
		if wait := d.refused(sub, throttle.RetryAfter); wait != time.Minute {
			t.Errorf("comes back in %s, want a minute", wait)
		}
		// One that had been sent before says nothing against it.
		before.Release(t.Context(), fine)
		time.Sleep(time.Minute - time.Millisecond)
		d.refused(sub, throttle.RetryAfter)
		time.Sleep(time.Millisecond)
		d.send(1, sub, fine)
		d.window(sub, 1)
		said.RetryAfter = 1000 * time.Hour
		d.send(1, sub, said)
		time.Sleep(24*time.Hour - time.Millisecond)
		d.refused(sub, throttle.RetryAfter)
		time.Sleep(time.Millisecond)
		d.send(1, sub, fine)
	})
}

func TestACrowdedEndpointGetsLessAtOnce(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		d, sub := newPatient(t)
		d.send(5, sub, heavy) // all at once: that is one sign
		d.window(sub, most/2)
		time.Sleep(throttle.BackOffEvery)
		d.send(1, sub, heavy)
		d.window(sub, most/4)
		d.send(9, sub, fine)
		d.window(sub, most/4+1)
		d.send(10*most*most, sub, fine)
		d.window(sub, most)
	})
}

// What is refused is spread, in order, and never beyond a bound, however much it is.
func TestABacklogIsSpread(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		d, sub := newPatient(t)
		d.send(10, sub, oops)
		last := time.Duration(0)
		for i := range 60_000 {
			wait := d.refused(sub, throttle.BreakerOpen)
			if wait > throttle.FirstOpen*11/10+throttle.PutOffMost {
				t.Fatalf("delivery %d comes back in %s", i, wait)
			}
			if i < 40_000 && wait < last+throttle.PutOffGap && i > 0 {
				t.Fatalf("delivery %d comes back %s after the one before", i, wait-last)
			}
			last = wait
		}
	})
}

// A probe that is not made leaves its turn to another.
func TestAProbeThatIsNotMade(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		d, sub := newPatient(t)
		d.send(10, sub, oops)
		time.Sleep(throttle.FirstOpen * 11 / 10)
		probe := d.enter(sub)
		d.refused(sub, throttle.BreakerOpen)
		probe.Cancel()
		other := d.enter(sub)
		if !other.Probe() {
			t.Fatal("got no other probe")
		}
		d.refused(sub, throttle.BreakerOpen)
		other.Release(t.Context(), fine)
		d.send(1, sub, fine)
	})
}
