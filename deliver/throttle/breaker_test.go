package throttle

import (
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/uuid"
)

// patient is a health whose clock is the test's, with one endpoint.
type patient struct {
	t *testing.T
	*health[uuid.UUID]
	id      uuid.UUID
	changes []breaker
}

const patientLimit = 32

func newPatient(t *testing.T) *patient {
	p := &patient{t: t, id: uuid.New()}
	p.health = newHealth[uuid.UUID](10, time.Now, func() float64 { return 0 }, func(to breaker) { p.changes = append(p.changes, to) })
	return p
}

// sends makes attempts with a result and demands that each is let through.
func (p *patient) sends(n int, r Result) (recovered bool) {
	p.t.Helper()
	for range n {
		a, err := p.admit(p.id, patientLimit)
		if err != nil {
			p.t.Fatalf("got %v, want a request", err)
		}
		recovered = p.report(p.id, a, r, patientLimit)
	}
	return recovered
}

// refuses demands that nothing is sent, for a reason.
func (p *patient) refuses(reason string) time.Duration {
	p.t.Helper()
	_, err := p.admit(p.id, patientLimit)
	var later Refusal
	if !errors.As(err, &later) || later.Reason != reason {
		p.t.Fatalf("got %v, want that it is put off: %s", err, reason)
	}
	return later.Wait
}

// window demands how many requests at once are let through.
func (p *patient) window(want int) {
	p.t.Helper()
	a, err := p.admit(p.id, patientLimit)
	if err != nil || a.limit != want {
		p.t.Errorf("got %d requests at once (%v), want %d", a.limit, err, want)
	}
}

var (
	fine  = Result{Connection: Reached, Endpoint: Works}
	oops  = Result{Connection: Reached, Endpoint: Fails}
	bad   = Result{Connection: Reached, Endpoint: Works}
	heavy = Result{Connection: Reached, Endpoint: Fails, Crowded: true}
)

func TestBreakerOpensProbesAndRamps(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p := newPatient(t)
		p.sends(9, oops)
		p.sends(1, fine)
		p.sends(9, oops)
		p.window(patientLimit)
		p.sends(1, oops)
		if wait := p.refuses(BreakerOpen); wait != firstOpen {
			t.Errorf("the first comes back in %s, want %s", wait, firstOpen)
		}
		time.Sleep(firstOpen)
		// One probe, and while it is away nobody else.
		a, err := p.admit(p.id, patientLimit)
		if err != nil || !a.probe || a.limit != 1 {
			t.Fatalf("got %+v (%v), want a probe", a, err)
		}
		p.refuses(BreakerOpen)
		p.report(p.id, a, oops, patientLimit)
		time.Sleep(2*firstOpen - time.Millisecond)
		p.refuses(BreakerOpen)
		time.Sleep(time.Millisecond)
		if !p.sends(1, fine) {
			t.Error("the probe succeeded, but the endpoint has not recovered")
		}
		for want := 1; want < patientLimit; want++ {
			p.window(want)
			p.sends(1, fine)
		}
		p.window(patientLimit)
		if len(p.subs) != 0 {
			t.Errorf("%d endpoints are remembered that do well", len(p.subs))
		}
		want := []breaker{open, halfOpen, open, halfOpen, closed}
		if len(p.changes) != len(want) {
			t.Fatalf("got changes %v, want %v", p.changes, want)
		}
		for i := range want {
			if p.changes[i] != want[i] {
				t.Fatalf("got changes %v, want %v", p.changes, want)
			}
		}
	})
}

func TestBreakerWaitsLongerEachTime(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p := newPatient(t)
		p.sends(10, oops)
		for _, want := range []time.Duration{5, 10, 20, 40, 80, 160, 300, 300, 300} {
			c := p.subs[p.id]
			if got := time.Until(c.until); got != want*time.Second {
				t.Errorf("got open for %s, want %d s", got, want)
			}
			time.Sleep(time.Until(c.until))
			p.sends(1, oops)
		}
	})
}

// What an endpoint thinks of a delivery says nothing of the endpoint.
func TestRefusalsOpenNoBreaker(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p := newPatient(t)
		p.sends(100, bad)
		p.sends(9, oops)
		p.sends(1, bad)
		p.sends(9, oops)
		p.window(patientLimit)
	})
}

func TestRetryAfterHoldsForTheWholeEndpoint(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p := newPatient(t)
		before, err := p.admit(p.id, patientLimit)
		if err != nil {
			t.Fatal(err)
		}
		p.sends(1, Result{Connection: Reached, Endpoint: Fails, Crowded: true, RetryAfter: time.Minute})
		if wait := p.refuses(RetryAfter); wait != time.Minute {
			t.Errorf("comes back in %s, want a minute", wait)
		}
		// One that had been sent before says nothing against it.
		p.report(p.id, before, fine, patientLimit)
		time.Sleep(time.Minute - time.Millisecond)
		p.refuses(RetryAfter)
		time.Sleep(time.Millisecond)
		p.sends(1, fine)
		p.window(1)
		p.sends(1, Result{Connection: Reached, Endpoint: Fails, Crowded: true, RetryAfter: 1000 * time.Hour})
		time.Sleep(24*time.Hour - time.Millisecond)
		p.refuses(RetryAfter)
		time.Sleep(time.Millisecond)
		p.sends(1, fine)
	})
}

func TestACrowdedEndpointGetsLessAtOnce(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p := newPatient(t)
		p.sends(5, heavy) // all at once: that is one sign
		p.window(patientLimit / 2)
		time.Sleep(backOffEvery)
		p.sends(1, heavy)
		p.window(patientLimit / 4)
		p.sends(9, fine)
		p.window(patientLimit/4 + 1)
		for range 10 * patientLimit * patientLimit {
			p.sends(1, fine)
		}
		p.window(patientLimit)
		if len(p.subs) != 0 {
			t.Errorf("%d endpoints are remembered that do well", len(p.subs))
		}
	})
}

// What is put off is spread, in order, and never beyond a bound, however much it is.
func TestABacklogIsSpread(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p := newPatient(t)
		p.random = func() float64 { return 0.5 }
		p.sends(10, oops)
		last := time.Duration(0)
		for i := range 100_000 {
			wait := p.refuses(BreakerOpen)
			if wait > firstOpen*11/10+putOffMost {
				t.Fatalf("delivery %d comes back in %s", i, wait)
			}
			if i < 40_000 && wait < last+putOffGap && i > 0 {
				t.Fatalf("delivery %d comes back %s after the one before", i, wait-last)
			}
			last = wait
		}
	})
}

// A probe that never comes back, or is not made, keeps nobody out for ever.
func TestALostProbe(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p := newPatient(t)
		p.sends(10, oops)
		time.Sleep(firstOpen)
		a, _ := p.admit(p.id, patientLimit)
		p.refuses(BreakerOpen)
		p.forgo(p.id, a)
		a, err := p.admit(p.id, patientLimit)
		if err != nil || !a.probe {
			t.Fatalf("got %+v (%v), want another probe", a, err)
		}
		p.refuses(BreakerOpen)
		time.Sleep(probeTime)
		p.sends(1, fine)
		time.Sleep(3 * putOffMost)
		if n := p.sweep(); n != 0 || len(p.subs) != 0 {
			t.Errorf("%d breakers are open and %d endpoints remembered", n, len(p.subs))
		}
	})
}
