package throttle

import (
	"cmp"
	"context"
	"sync/atomic"
	"time"

	"github.com/fanfarehq/fanfare/subscriptions"
)

// Ticket is a delivery's place in line and then its place in flight.
type Ticket struct {
	Request
	gate   *Gate
	waiter *waiter
	limit  int // requests at once that the subscription may have
	admission
	host string
	way  admission // to the host
	// queued says that it waits for a place of the worker, which is not the fault of its subscription.
	queued atomic.Bool
}

// Queued reports whether the delivery waits for the worker alone.
func (t *Ticket) Queued() bool { return t.queued.Load() }

// Enter waits until the attempt may be made. On an error the ticket is void: it is a Refusal, or the
// cause of the context's end.
func (t *Ticket) Enter(ctx context.Context) error {
	g := t.gate
	if t.waiter != nil || t.Subscription.RateLimit != nil {
		t.yield()
	}
	if err := g.slots.wait(ctx, t.Subscription.ID, t.waiter, g.cfg.Patience); err != nil {
		t.forgo()
		return err
	}
	err := g.permits.wait(ctx, &t.Request)
	if err == nil {
		err = t.admitAgain()
	}
	if err == nil {
		err = t.begin(ctx)
	}
	if err != nil {
		g.slots.exit(t.Subscription.ID)
		t.forgo()
	}
	return err
}

// admitAgain asks once more after a delivery has waited: its endpoint may have got into trouble since.
func (t *Ticket) admitAgain() error {
	if t.probe || t.waiter == nil && t.Subscription.RateLimit == nil {
		return nil
	}
	a, err := t.gate.health.admit(receiverOf(t.Subscription), t.limit)
	if err == nil {
		t.admission = a
	}
	return err
}

// begin waits until the host has room, and then the worker.
func (t *Ticket) begin(ctx context.Context) error {
	g := t.gate
	if turn := g.hosts.take(t.host, t.way.limit); turn != nil {
		t.yield()
		if err := g.hosts.wait(ctx, t.host, turn, g.cfg.Patience); err != nil {
			return err
		}
	}
	err := t.admitHostAgain()
	if err == nil {
		t.queued.Store(true)
		if t.placed() {
			err = g.slots.occupy(ctx)
		} else {
			err = g.slots.start(ctx)
		}
		t.queued.Store(false)
	}
	if err != nil {
		g.hosts.exit(t.host)
	}
	return err
}

// admitHostAgain asks once more after a wait: the host may have become unreachable since.
func (t *Ticket) admitHostAgain() error {
	if t.way.probe {
		return nil
	}
	way, err := t.gate.hosts.admit(t.host, t.Subscription)
	if err == nil {
		t.way = way
	}
	return err
}

func (t *Ticket) placed() bool { return t.Start != nil && t.Start.placed }

// yield lets another errand begin, as this one has to wait.
func (t *Ticket) yield() {
	if t.placed() {
		t.Start.placed = false
		t.gate.starts.end()
	}
}

// Leave gives the place in line back without an attempt.
func (t *Ticket) Leave() {
	t.gate.slots.leave(t.Subscription.ID, t.waiter)
	t.forgo()
}

// Cancel gives the place back after Enter, as no attempt was made.
func (t *Ticket) Cancel() {
	t.gate.hosts.exit(t.host)
	t.free()
	t.forgo()
}

// Release gives the place back after an attempt and learns from its result. Excused says that the failure
// is that of the worker's own network: it counts for nobody, and the attempt is to be repeated after wait.
// It may take a second to find out.
func (t *Ticket) Release(ctx context.Context, r Result, took time.Duration) (wait time.Duration, excused bool) {
	g := t.gate
	g.slots.took(t.Subscription.ID, took)
	g.hosts.exit(t.host)
	if r.Connection == Reached {
		// The breaker learns of the answer before the next request takes the place.
		defer t.free()
	} else {
		t.free()
	}
	t.reportHost(r)
	if g.network.excuses(ctx, cmp.Or(r.Elsewhere, t.host), r) {
		t.forgo()
		return g.network.excuse(), true
	}
	if r.Endpoint == Nothing {
		t.forgo()
	} else if g.health.report(receiverOf(t.Subscription), t.admission, r, t.limit) {
		g.recovered([]*subscriptions.Subscription{t.Subscription})
	}
	return 0, false
}

// reportHost reports whether the host can be connected to. It does not wait until it is known whose fault
// a failure is: meanwhile all others would try it as well. In an outage it is forgotten again.
func (t *Ticket) reportHost(r Result) {
	g := t.gate
	if g.network.isDown() {
		g.hosts.health.forgo(t.host, t.way)
	} else if list := g.hosts.report(t.host, t.way, r); len(list) > 0 {
		g.recovered(list)
	}
	t.way.probe = false // It is reported.
}

// free gives back the places of the worker and of the subscription.
func (t *Ticket) free() {
	if t.placed() {
		t.gate.slots.vacate(t.Subscription.ID)
	} else {
		t.gate.slots.release(t.Subscription.ID)
	}
}

// forgo gives back what the breakers allowed, as no request was made.
func (t *Ticket) forgo() {
	t.gate.health.forgo(receiverOf(t.Subscription), t.admission)
	t.gate.hosts.health.forgo(t.host, t.way)
}
