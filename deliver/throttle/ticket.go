package throttle

import (
	"context"
	"math/rand/v2"
	"time"

	"github.com/fanfarehq/fanfare/subscriptions"
)

// Ticket is a delivery's place: first in the line of its subscription, then in the lane of its host, then
// in flight. The mutex of the gate guards it, but for what only its owner uses.
type Ticket struct {
	Request
	gate *Gate
	most int // requests at once that the subscription may have at this worker
	admission
	way way

	host    *host
	visitor *visitor
	line    *line
	lane    *share          // of the host
	share   *share          // of the worker
	turn    <-chan struct{} // closed when it has its place in line; nil if it has one at once
	ready   chan struct{}   // of what it waits for now
	asked   time.Time       // when it began to wait
	waitsIn *share          // the pool that it waits for
	entered time.Time
}

// grant ends a wait.
func (t *Ticket) grant() {
	t.waitsIn = nil
	close(t.ready)
	t.ready = nil
}

// Queued reports whether the delivery waits for the worker, and its tenant is not the cause: it holds less
// than its share, or its requests are quick.
func (t *Ticket) Queued() bool {
	g := t.gate
	g.mu.Lock()
	defer g.mu.Unlock()
	return t.queued(g.now())
}

func (t *Ticket) queued(now time.Time) bool {
	return t.waitsIn == t.share && t.share != nil && (t.share.below() || !t.share.slow(now))
}

// Enter waits until the attempt may be made. On an error the ticket is void: it is a Refusal, or the cause
// of the context's end.
func (t *Ticket) Enter(ctx context.Context) error {
	waited, err := t.awaitTurn(ctx)
	if err != nil {
		t.Leave()
		return err
	}
	if waited && !t.probe {
		a, err := t.gate.admitEndpoint(t) // It may have got into trouble since.
		if err != nil {
			t.Leave()
			return err
		}
		t.admission = a
	}
	return t.enterLane(ctx, waited)
}

// awaitTurn waits in line, and for the rate limit.
func (t *Ticket) awaitTurn(ctx context.Context) (waited bool, err error) {
	g := t.gate
	if t.turn != nil {
		t.yield()
		if err := t.wait(ctx, t.turn); err != nil {
			return true, err
		}
	}
	limited := t.Subscription.RateLimit != nil
	if limited {
		t.yield()
	}
	return t.turn != nil || limited, g.permits.wait(ctx, &t.Request)
}

// enterLane takes a place in the lane of the host, and then one of the worker.
func (t *Ticket) enterLane(ctx context.Context, waited bool) error {
	if !waited && t.placed() && t.occupyAtOnce() {
		return nil
	}
	inLane, err := t.occupy(ctx, t.lane)
	if err != nil {
		t.Leave()
		return err
	}
	if waited || inLane {
		err = t.admitHostAgain()
	}
	if err == nil {
		_, err = t.occupy(ctx, t.share)
	}
	if err == nil && !t.placed() {
		if err = t.gate.starts.begin(ctx, t.Subscription.Tenant); err != nil {
			t.vacate(t.share)
		}
	}
	if err != nil {
		t.vacate(t.lane)
		t.Leave()
		return err
	}
	t.entered = t.gate.now()
	return nil
}

// occupyAtOnce takes the place in the lane and that of the worker if both are free: the way of nearly all.
func (t *Ticket) occupyAtOnce() bool {
	g := t.gate
	now := g.now()
	g.mu.Lock()
	defer g.mu.Unlock()
	if !t.lane.free() || !t.share.free() {
		return false
	}
	t.lane.give(now)
	t.share.give(now)
	t.entered = now
	return true
}

// occupy takes a place of a pool.
func (t *Ticket) occupy(ctx context.Context, s *share) (waited bool, err error) {
	g := t.gate
	now := g.now()
	g.mu.Lock()
	if s.take(t, now) {
		g.mu.Unlock()
		return false, nil
	}
	ready := make(chan struct{})
	t.ready, t.asked, t.waitsIn = ready, now, s
	g.mu.Unlock()
	if s != t.share { // While the worker is full, another errand would only wait beside this one, with a stack of its own.
		t.yield()
	}
	return true, t.wait(ctx, ready)
}

// wait waits until ready is closed. On an error nothing is held that was waited for.
func (t *Ticket) wait(ctx context.Context, ready <-chan struct{}) error {
	timer := time.NewTimer(t.gate.cfg.Patience)
	defer timer.Stop()
	for {
		select {
		case <-ready:
			return nil
		case <-ctx.Done():
			if t.giveUp(true) != nil {
				return context.Cause(ctx)
			}
			return nil
		case <-timer.C:
			if err := t.giveUp(false); err != nil {
				return err
			}
			timer.Reset(t.gate.cfg.Patience)
		}
	}
}

// giveUp leaves the queue of a pool, unless the ticket was granted its place meanwhile or its tenant is
// not the cause of the wait. A ticket that waits in line stays there: Leave takes it out.
func (t *Ticket) giveUp(must bool) error {
	g := t.gate
	g.mu.Lock()
	defer g.mu.Unlock()
	now := g.now()
	switch s := t.waitsIn; {
	case t.ready == nil, !must && t.queued(now):
		return nil
	case s == nil:
		return g.lines.later(t.line, now)
	default:
		s.abandon(t)
		t.waitsIn, t.ready = nil, nil
		return busy(minBusy + rand.N(g.cfg.Patience))
	}
}

// admitHostAgain asks once more after a wait: the host may have become unreachable since.
func (t *Ticket) admitHostAgain() error {
	t.gate.mu.Lock()
	defer t.gate.mu.Unlock()
	return t.gate.reach.admitAgain(t)
}

func (t *Ticket) placed() bool { return t.Start != nil && t.Start.placed }

// yield lets another errand begin, as this one has to wait.
func (t *Ticket) yield() {
	if t.placed() {
		t.Start.placed = false
		t.gate.starts.end()
	}
}

// vacate gives a place of a pool back that was held for no request.
func (t *Ticket) vacate(s *share) {
	g := t.gate
	g.mu.Lock()
	defer g.mu.Unlock()
	s.put(g.now(), s.hold)
}

// Leave gives the place in line back without an attempt.
func (t *Ticket) Leave() {
	g := t.gate
	now := g.now()
	g.mu.Lock()
	g.lines.leave(t, now)
	g.mu.Unlock()
	t.forgo()
}

// Cancel gives the place back after Enter, as no attempt was made.
func (t *Ticket) Cancel() {
	g := t.gate
	now := g.now()
	g.mu.Lock()
	t.share.put(now, t.share.hold)
	t.lane.put(now, t.lane.hold)
	g.lines.exit(t.line, now)
	g.mu.Unlock()
	t.ended()
	t.forgo()
}

// Release gives the place back after an attempt and learns from its result. Excused says that the failure
// is that of the worker's own network: it counts for nobody, and the attempt is to be repeated after wait.
// It may take a second to find out.
func (t *Ticket) Release(ctx context.Context, r Result) (wait time.Duration, excused bool) {
	if r.Connection == Reached {
		// The breaker learns of the answer before the next request takes the place.
		t.learn(ctx, r)
		t.free(ctx, r)
		return 0, false
	}
	said := t.free(ctx, r)
	if wait, excused = t.excuse(ctx, said, r); excused {
		t.gate.health.forgo(receiverOf(t.Subscription), t.admission)
		return wait, true
	}
	t.learn(ctx, r)
	return 0, false
}

// learn tells the breaker of the endpoint.
func (t *Ticket) learn(ctx context.Context, r Result) {
	g := t.gate
	if r.Endpoint == Nothing {
		g.health.forgo(receiverOf(t.Subscription), t.admission)
		return
	}
	c := g.health.report(receiverOf(t.Subscription), t.admission, r, t.most)
	if c.from == c.to {
		return
	}
	g.metrics.turned(c.to)
	switch {
	case c.opened():
		g.log.Warn("breaker opened", "subscription", t.Subscription.ID, "tenant", t.Subscription.Tenant, "host", t.host.key)
	case c.closed():
		g.log.Info("breaker closed", "subscription", t.Subscription.ID, "tenant", t.Subscription.Tenant, "host", t.host.key)
		g.recovered(ctx, []*subscriptions.Subscription{t.Subscription})
	}
}

// free gives the places back and tells the host's breaker and the outage of the result. What others are to
// be told of it, is told after the mutex was left.
func (t *Ticket) free(ctx context.Context, r Result) news {
	g := t.gate
	now := g.now()
	took := now.Sub(t.entered)
	g.mu.Lock()
	n := g.reach.learn(t, r, now)
	t.share.put(now, took)
	t.lane.put(now, took)
	g.lines.learn(t.line, took, r.Connection == Reached)
	g.lines.exit(t.line, now)
	g.reach.leave(t)
	t.share.users--
	g.mu.Unlock()
	t.ended()
	g.spread(ctx, t, n)
	return n
}

// ended lets another request begin.
func (t *Ticket) ended() {
	if !t.placed() {
		t.gate.starts.end()
	}
}

// forgo gives back what the breakers allowed and lets go of the host, as no request was made.
func (t *Ticket) forgo() {
	g := t.gate
	g.health.forgo(receiverOf(t.Subscription), t.admission)
	g.mu.Lock()
	defer g.mu.Unlock()
	g.reach.forgo(t)
	g.reach.leave(t)
	t.share.users--
}
