package throttle

import (
	"context"
	"database/sql"
	"log/slog"
	"math/rand/v2"
	"sync"
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
	// Workers divides max_in_flight among all workers; nil gives the whole to this one.
	Workers *Workers
	// Go runs a function in a goroutine.
	Go func(func())
	// TenantRate is how many requests per second a tenant may make, over all workers; 0 is any number. Nil bounds none.
	TenantRate func(tenant string) int
	// Recovered is called when the endpoints of subscriptions can be reached again, outside of all locks, with the context of
	// the Release that learned it. It must not block.
	Recovered func(context.Context, []*subscriptions.Subscription)
}

// Gate decides what one worker may send now.
type Gate struct {
	cfg       Config
	metrics   *Metrics
	log       *slog.Logger
	recovered func(context.Context, []*subscriptions.Subscription)
	now       func() time.Time

	store   *store
	permits *permits
	starts  *starts
	health  *health[receiverURL]
	workers *Workers

	forgotten uuid.UUID // where the next page of Forget begins

	mu    sync.Mutex // guards the rest; nothing is called out under it
	pool  pool
	lines lines
	reach *reach
	// elsewhere holds subscriptions that were refused because this worker has no share of their max_in_flight.
	elsewhere map[uuid.UUID]shareless
}

// shareless is a subscription of whose max_in_flight this worker has no share.
type shareless struct {
	most int // its max_in_flight
	used time.Time
}

// Request asks for one attempt.
type Request struct {
	Subscription *subscriptions.Subscription
	Delivery     uuid.UUID
	Due          bool   // it was put off before; of these, few of one tenant wait at a time
	Limited      bool   // it has been refused for the rate limit before
	Excused      int    // how many of its attempts have been excused
	Start        *Start // of the errand that asks; nil if it is not within one
}

// New returns a Gate.
func New(cfg Config, deps Deps) *Gate {
	g := &Gate{
		cfg: cfg, metrics: deps.Metrics, log: deps.Logger, recovered: deps.Recovered, now: deps.Now,
		store: &store{deps.DB}, starts: newStarts(deps.Go), pool: newPool(cfg.InFlight),
		health: newHealth[receiverURL](cfg.BreakerAfter, deps.Now, rand.Float64),
		reach:  newReach(cfg, deps.Now, rand.Float64), workers: deps.Workers, elsewhere: make(map[uuid.UUID]shareless),
	}
	if deps.TenantRate == nil {
		deps.TenantRate = func(string) int { return 0 }
	}
	g.permits = newPermits(g.store, deps.TenantRate, deps.Now)
	g.lines = lines{pool: &g.pool, workers: g.workers, crowded: g.starts.crowded, all: make(map[uuid.UUID]*line)}
	return g
}

// Go runs do once a request may begin: few requests begin at the same time, so that they do not wait for
// each other's processor. Tenants take turns. May is false if the gate has been stopped.
func (g *Gate) Go(tenant string, start *Start, do func(may bool)) {
	g.starts.Go(tenant, errand{start: start, do: do})
}

// Stop refuses the errands that have not begun.
func (g *Gate) Stop() { g.starts.stop() }

// Enter returns when the attempt may be made. The error is a Refusal or the cause of the context's end.
func (g *Gate) Enter(ctx context.Context, r Request) (*Ticket, error) {
	t, err := g.Line(r)
	if err != nil {
		return nil, err
	}
	return t, t.Enter(ctx)
}

// Line takes a place in the line of a subscription, in the order of the calls, without waiting. The error
// is a Refusal. The ticket must be used: by Enter, or by Leave.
func (g *Gate) Line(r Request) (*Ticket, error) {
	t := &Ticket{gate: g, Request: r, most: g.share(r.Subscription)}
	if t.most == 0 {
		return nil, g.refuseShareless(r.Subscription)
	}
	a, err := g.admitEndpoint(t)
	if err == nil {
		t.admission = a
		err = g.line(t)
	}
	if err != nil {
		g.health.forgo(receiverOf(t.Subscription), a)
		return nil, err
	}
	return t, nil
}

// line asks the network and the host, and takes a place in line.
func (g *Gate) line(t *Ticket) error {
	now := g.now()
	g.mu.Lock()
	defer g.mu.Unlock()
	g.reach.find(t, now)
	t.share = g.pool.of(t.Subscription.Tenant, now)
	err := g.reach.outage.admit(t.Subscription.Tenant, t.host, now)
	if err == nil {
		if err = g.reach.admit(t); err == nil {
			if err = g.lines.take(t, t.admission.limit, now); err != nil {
				g.reach.forgo(t)
			}
		}
	}
	if err != nil {
		g.reach.leave(t)
		t.share.users--
	}
	return err
}

// admitEndpoint asks the endpoint.
func (g *Gate) admitEndpoint(t *Ticket) (admission, error) {
	a, err := g.health.admit(receiverOf(t.Subscription), t.most)
	if a.probe {
		g.metrics.turned(halfOpen)
	}
	return a, err
}

// Ease lets the deliveries that a subscription held begin one by one.
func (g *Gate) Ease(sub *subscriptions.Subscription) {
	g.health.ease(receiverOf(sub), max(g.share(sub), 1))
}

// share is how many requests at once of a subscription are this worker's.
func (g *Gate) share(sub *subscriptions.Subscription) int { return g.workers.share(sub.ID, most(sub)) }

// refuseShareless puts a delivery off until a worker with a share of its subscription claims it. It comes back soon:
// that worker has its own queue and delays.
func (g *Gate) refuseShareless(sub *subscriptions.Subscription) Refusal {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.elsewhere[sub.ID] = shareless{most(sub), g.now()}
	return busy(minBusy + rand.N(minBusy))
}

// Elsewhere returns the subscriptions of whose max_in_flight this worker has no share: those that it refused lately.
// Their due deliveries are other workers' to claim.
func (g *Gate) Elsewhere() []uuid.UUID {
	if g.workers == nil {
		return nil
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	var ids []uuid.UUID
	for id, s := range g.elsewhere {
		if g.workers.share(id, s.most) > 0 || g.now().Sub(s.used) > elsewhereKept {
			delete(g.elsewhere, id)
			continue
		}
		ids = append(ids, id)
	}
	return ids
}

// elsewhereKept is how long a refusal for want of a share is remembered. One delivery is claimed in vain after it; and
// max_in_flight may have been raised meanwhile.
const elsewhereKept = 10 * time.Second

// Retune applies a subscription's rate limit as it is now, and reports whether it was another before. Then
// the times given to waiting deliveries are void.
func (g *Gate) Retune(ctx context.Context, sub *subscriptions.Subscription) (changed bool, err error) {
	gap := int64(0)
	if sub.RateLimit != nil {
		gap = paceOf(*sub.RateLimit).gap
	}
	return g.store.retune(ctx, sub.ID, gap)
}

// Forget removes the rate limits of subscriptions that are gone: each call looks at the next page of them. One goroutine may call it.
func (g *Gate) Forget(ctx context.Context) (err error) {
	g.forgotten, err = g.store.forget(ctx, g.forgotten, forgetPage)
	return err
}

// Free returns how many places of the worker are not taken.
func (g *Gate) Free() int {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.pool.free
}

// InFlight returns how many places are taken, and how many deliveries wait in line.
func (g *Gate) InFlight() (taken, waiting int) {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.pool.size - g.pool.free, g.lines.waiting
}

// Down reports whether there is an outage of the worker's own network, for some tenant at least.
func (g *Gate) Down() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.reach.outage.down
}

// Sweep drops stale state and sets the gauges. It is to be called every few seconds.
func (g *Gate) Sweep() {
	g.permits.sweep()
	open := g.health.sweep()
	taken, waiting, away := g.sweep()
	g.metrics.open.Set(float64(open))
	g.metrics.hosts.Set(float64(away))
	g.metrics.inFlight.Set(float64(taken))
	g.metrics.waiting.Set(float64(waiting))
}

func (g *Gate) sweep() (taken, waiting, away int) {
	g.mu.Lock()
	defer g.mu.Unlock()
	now := g.now()
	g.pool.sweep(now)
	g.lines.sweep(now)
	away = g.reach.sweep(now)
	return g.pool.size - g.pool.free, g.lines.waiting, away
}

// most is how many requests at once a subscription may have.
func most(sub *subscriptions.Subscription) int {
	if sub.MaxInFlight <= 0 {
		return subscriptions.DefaultMaxInFlight
	}
	return sub.MaxInFlight
}
