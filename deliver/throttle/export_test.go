package throttle

import (
	"github.com/google/uuid"
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

// Counts is how many counts a share is computed from.
const Counts = counts

// ElsewhereKept is how long a refusal for want of a share is remembered.
const ElsewhereKept = elsewhereKept

// Share is a worker's share of a subscription's max_in_flight.
func (w *Workers) Share(subscription uuid.UUID, most int) int { return w.share(subscription, most) }
