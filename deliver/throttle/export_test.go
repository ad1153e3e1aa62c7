package throttle

import (
	"time"

	"github.com/google/uuid"

	"github.com/fanfarehq/fanfare/subscriptions"
)

// Limit is how many requests at once the breaker of the endpoint allows.
func (t *Ticket) Limit() int { return t.admission.limit }

// Probe reports whether the ticket finds out if its endpoint is back.
func (t *Ticket) Probe() bool { return t.admission.probe }

// Remembered is how many endpoints, subscriptions, hosts and tenants a gate remembers.
func (g *Gate) Remembered() (endpoints, subs, hosts, tenants int) {
	g.health.mu.Lock()
	defer g.health.mu.Unlock()
	g.mu.Lock()
	defer g.mu.Unlock()
	return len(g.health.subs), len(g.lines.all), len(g.reach.hosts), len(g.pool.tenants)
}

// The bounds that tests go by.
const (
	FirstOpen    = firstOpen
	PutOffGap    = putOffGap
	PutOffMost   = putOffMost
	BackOffEvery = backOffEvery
	MinWaiting   = minWaiting
	SlowQueue    = slowQueue
	SlowHold     = slowHold
	MinBusy      = minBusy
	MaxBusy      = maxBusy
	Lately       = lately
	MaxExcused   = maxExcused
	OutageProbe  = outageProbe
	YoungPerCore = youngPerCore
)

// Meter is a rate limit and its state.
type Meter struct {
	pace  pace
	meter meter
}

// Ask, Grant and PermitSoon are what a Meter works with.
type (
	Ask   struct{ Queued, Fresh, Spare int }
	Grant struct{ Permits, Waits []int64 }
)

// PermitSoon is how long a delivery waits for its permit.
const PermitSoon = permitSoon

// NewMeter returns the meter of a new rate limit.
func NewMeter(limit subscriptions.RateLimit) *Meter {
	p := paceOf(limit)
	return &Meter{pace: p, meter: meter{gap: p.gap}}
}

// Retune changes the limit.
func (m *Meter) Retune(limit subscriptions.RateLimit) { m.pace = paceOf(limit) }

// Gap is the time between two requests.
func (m *Meter) Gap() time.Duration { return time.Duration(m.pace.gap) * time.Microsecond }

// Take hands out permits and times.
func (m *Meter) Take(now int64, a Ask) Grant {
	g := m.pace.take(&m.meter, now, ask{queued: a.Queued, fresh: a.Fresh, spare: a.Spare})
	return Grant{Permits: g.permits, Waits: g.waits}
}

// Counts is how many counts a share is computed from.
const Counts = counts

// ElsewhereKept is how long a refusal for want of a share is remembered.
const ElsewhereKept = elsewhereKept

// Share is a worker's share of a subscription's max_in_flight.
func (w *Workers) Share(subscription uuid.UUID, most int) int { return w.share(subscription, most) }

// YoungAfter is how many requests may be young at once on so many looks at the waits for a processor.
func YoungAfter(waits ...time.Duration) (most int) {
	s := newStarts(func(f func()) { go f() })
	for _, wait := range waits {
		s.adapt(wait)
	}
	return s.most
}
