package throttle

import (
	"context"
	"time"

	"github.com/fanfarehq/fanfare/subscriptions"
)

// news is what a result changed, to be told after the mutex was left.
type news struct {
	host      change
	began     bool // an outage, or that it holds for all tenants
	ended     bool
	wide      bool // of began: it holds for all tenants
	silent    int  // of began: how many hosts cannot be reached
	lasted    time.Duration
	recovered []*subscriptions.Subscription
	changed   <-chan struct{} // closed when there is more to tell of an outage
	down      bool            // there is an outage for the tenant
}

// learn tells the host's breaker and the outage of a result.
func (r *reach) learn(t *Ticket, result Result, now time.Time) (n news) {
	n.host = r.report(t, result, now)
	if n.host.closed() {
		n.recovered = t.host.release()
	}
	o := &r.outage
	switch {
	case result.Elsewhere != "" || result.Connection == Untried:
	case result.Connection == Reached:
		if n.ended = o.answered(); n.ended {
			n.lasted = now.Sub(o.since)
			n.recovered = append(n.recovered, o.held...)
			o.held = nil
		}
	case result.Connection == Missed:
		if n.began = o.missed(t.Subscription.Tenant, t.host, now); n.began {
			n.wide, n.silent = o.wide, len(o.silent)
			r.acquit()
		}
	}
	n.changed, n.down = o.changed, o.holds(t.Subscription.Tenant)
	return n
}

// acquit closes the breakers of the hosts that an outage made silent: the fault was our own.
func (r *reach) acquit() {
	for h := range r.outage.silent {
		r.breakers.drop(h.key)
		r.outage.held = append(r.outage.held, h.release()...)
	}
}

// spread tells of news.
func (g *Gate) spread(ctx context.Context, t *Ticket, n news) {
	switch {
	case n.host.opened():
		g.log.Warn("host unreachable", "host", t.host.key)
	case n.host.closed():
		g.log.Info("host reachable again", "host", t.host.key, "subscriptions", len(n.recovered))
	}
	switch {
	case n.began && n.wide:
		g.metrics.outage.Set(1)
		g.log.Warn("network outage began", "hosts", n.silent)
	case n.began:
		g.metrics.outage.Set(1)
		g.log.Warn("network outage began", "hosts", n.silent, "tenant", t.Subscription.Tenant)
	case n.ended:
		g.metrics.outage.Set(0)
		g.log.Info("network outage ended", "lasted", n.lasted)
	}
	if len(n.recovered) > 0 {
		g.recovered(ctx, n.recovered)
	}
}

// excuse judges a result without an answer: whether not the receiver is away but we are. It may take
// evidenceTime to find out.
func (t *Ticket) excuse(ctx context.Context, n news, r Result) (wait time.Duration, excused bool) {
	if r.Connection == Untried || t.Excused >= maxExcused {
		return 0, false
	}
	if r.Connection == Missed && !n.down {
		timer := time.NewTimer(evidenceTime)
		defer timer.Stop()
		select {
		case <-n.changed:
		case <-timer.C:
			return 0, false
		case <-ctx.Done():
			return 0, false
		}
	}
	g := t.gate
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.reach.outage.pause(g.now()), g.reach.outage.holds(t.Subscription.Tenant)
}
