package throttle

import (
	"context"
	"database/sql"
	"log/slog"
	"math/rand/v2"
	"time"

	"github.com/google/uuid"

	"github.com/fanfarehq/fanfare/subscriptions"
)

// Deps are the things that a Gate works with.
type Deps struct {
	DB      *sql.DB // holds the rate limits
	Metrics *Metrics
	Logger  *slog.Logger
	Now     func() time.Time
	// Go runs a function in a goroutine.
	Go func(func())
	// TenantRate is how many requests per second a tenant may make, over all workers; 0 is any number. Nil bounds none.
	TenantRate func(tenant string) int
	// Recovered is called when the endpoints of subscriptions can be reached again, outside of all locks.
	// It must not block.
	Recovered func([]*subscriptions.Subscription)
}

// Gate decides what one worker may send now.
type Gate struct {
	cfg       Config
	metrics   *Metrics
	recovered func([]*subscriptions.Subscription)
	now       func() time.Time

	store   *store
	starts  *starts
	slots   *slots
	hosts   *hosts
	health  *health[receiverURL]
	network *network
	permits *permits
}

// Request asks for one attempt.
type Request struct {
	Subscription *subscriptions.Subscription
	Delivery     uuid.UUID
	Limited      bool   // it has been refused for the rate limit before
	Start        *Start // of the errand that asks; nil if it is not within one
}

// New returns a Gate.
func New(cfg Config, deps Deps) *Gate {
	g := &Gate{cfg: cfg, metrics: deps.Metrics, recovered: deps.Recovered, now: deps.Now, store: &store{deps.DB}}
	g.starts = newStarts(deps.Go)
	g.slots = newSlots(cfg.InFlight, g.starts, deps.Now)
	g.health = newHealth[receiverURL](cfg.BreakerAfter, deps.Now, rand.Float64, func(to breaker) {
		g.metrics.breakers.WithLabelValues(string(to)).Inc()
	})
	g.hosts = newHosts(cfg, deps.Now)
	if deps.TenantRate == nil {
		deps.TenantRate = func(string) int { return 0 }
	}
	g.permits = newPermits(g.store, deps.TenantRate, deps.Now)
	g.network = newNetwork(deps.Now, rand.Float64, func(down bool) {
		if held := g.hosts.reset(); !down && len(held) > 0 {
			g.recovered(held)
		}
		if down {
			g.metrics.outage.Set(1)
			deps.Logger.Error("no endpoint can be reached: failures to connect count for nobody until one answers")
		} else {
			g.metrics.outage.Set(0)
			deps.Logger.Info("endpoints can be reached again")
		}
	})
	return g
}

// Go runs do once a request may begin: few requests begin at the same time, so that they do not wait for
// each other's processor. May is false if the gate has been stopped.
func (g *Gate) Go(start *Start, do func(may bool)) { g.starts.Go(errand{start: start, do: do}) }

// Stop refuses the errands that have not begun.
func (g *Gate) Stop() { g.starts.stop() }

// Line takes a place in the line of a subscription, in the order of the calls, without waiting. The error
// is a Refusal. The ticket must be used: by Enter and Release, or by Leave.
func (g *Gate) Line(r Request) (*Ticket, error) {
	t := &Ticket{gate: g, Request: r, limit: most(r.Subscription), host: hostOf(r.Subscription)}
	if err := g.admit(t); err != nil {
		return nil, err
	}
	var err error
	if t.waiter, err = g.slots.take(r.Subscription.ID, t.admission.limit); err != nil {
		t.forgo()
		return nil, err
	}
	return t, nil
}

// admit asks the network, the host and the endpoint.
func (g *Gate) admit(t *Ticket) error {
	err := g.network.admit()
	if err != nil {
		return err
	}
	if t.way, err = g.hosts.admit(t.host, t.Subscription); err != nil {
		return err
	}
	if t.admission, err = g.health.admit(receiverOf(t.Subscription), t.limit); err != nil {
		g.hosts.health.forgo(t.host, t.way)
	}
	return err
}

// Ease lets the deliveries that a subscription held begin one by one.
func (g *Gate) Ease(sub *subscriptions.Subscription) { g.health.ease(receiverOf(sub), most(sub)) }

// Retune applies a subscription's rate limit as it is now, and reports whether it was another before. Then
// the times given to waiting deliveries are void.
func (g *Gate) Retune(ctx context.Context, sub *subscriptions.Subscription) (changed bool, err error) {
	gap := int64(0)
	if sub.RateLimit != nil {
		gap = paceOf(*sub.RateLimit).gap
	}
	return g.store.retune(ctx, sub.ID, gap)
}

// Forget removes the rate limits of subscriptions that are gone.
func (g *Gate) Forget(ctx context.Context) error { return g.store.forget(ctx) }

// Free returns how many places of the worker are not taken.
func (g *Gate) Free() int { return g.slots.free() }

// InFlight returns how many places are taken, and how many deliveries wait for one.
func (g *Gate) InFlight() (taken, waiting int) { return g.slots.inFlight() }

// Down reports whether there is an outage of the worker's own network.
func (g *Gate) Down() bool { return g.network.isDown() }

// Sweep forgets what is stale and sets the gauges. It is to be called every few seconds.
func (g *Gate) Sweep() {
	g.slots.sweep()
	g.permits.sweep()
	g.metrics.open.Set(float64(g.health.sweep()))
	g.metrics.hosts.Set(float64(g.hosts.sweep()))
	taken, waiting := g.slots.inFlight()
	g.metrics.inFlight.Set(float64(taken))
	g.metrics.waiting.Set(float64(waiting))
}

// most is how many requests at once a subscription may have.
func most(sub *subscriptions.Subscription) int {
	if sub.MaxInFlight <= 0 {
		return subscriptions.DefaultMaxInFlight
	}
	return sub.MaxInFlight
}
