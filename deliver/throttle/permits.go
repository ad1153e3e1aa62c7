package throttle

import (
	"bytes"
	"context"
	"slices"
	"sync"
	"time"

	"github.com/google/uuid"

	"github.com/fanfarehq/fanfare/internal/group"
	"github.com/fanfarehq/fanfare/subscriptions"
)

// The bounds of asking Postgres for permits.
const (
	permitTimeout = 3 * time.Second
	// permitsAhead is for how much of its limit a worker takes permits at once, so that a quick limit costs few
	// questions; permits that are not used by permitStale expire.
	permitsAhead = 50 * time.Millisecond
	permitStale  = 200 * time.Millisecond
	// permitsAway is after how long to ask again that could not be asked, because Postgres is away.
	permitsAway = 5 * time.Second
)

// permits holds subscriptions to their rate limits, over all workers: Postgres hands out the times at which requests
// may be made, a few at once to each worker.
type permits struct {
	group *group.Committer[*applicant]
	now   func() time.Time
	// tenantRate is how many requests per second a tenant may make; 0 is any number.
	tenantRate func(tenant string) int

	mu    sync.Mutex
	spare map[uuid.UUID][]time.Time
}

// applicant is a delivery that wants a permit.
type applicant struct {
	subscription uuid.UUID
	delivery     uuid.UUID
	pace         pace
	queued       bool

	granted bool
	at      time.Time // when the request may be made, or, not granted, when to ask again
}

func newPermits(s *store, tenantRate func(string) int, now func() time.Time) *permits {
	p := &permits{now: now, tenantRate: tenantRate, spare: make(map[uuid.UUID][]time.Time)}
	p.group = group.New(group.Limits{Timeout: permitTimeout}, nil, func(ctx context.Context, list []*applicant) error {
		return p.commit(ctx, s, list)
	})
	return p
}

// wait returns once the request may be made. Otherwise the error is a Refusal: for a time of its own, or, as Postgres is
// away, for a while. So whatever happens no more is sent than the limit allows.
func (p *permits) wait(ctx context.Context, q *Request) error {
	if limit := q.Subscription.RateLimit; limit != nil {
		if err := p.ask(ctx, &applicant{subscription: q.Subscription.ID, delivery: q.Delivery, pace: paceOf(*limit), queued: q.Limited}); err != nil {
			return err
		}
	}
	rate := p.tenantRate(q.Subscription.Tenant)
	if rate == 0 {
		return nil
	}
	// After the subscription's own: a permit that a subscription cannot use would be lost to the tenant's others.
	limit := subscriptions.RateLimit{Limit: rate, Per: time.Second}
	return p.ask(ctx, &applicant{subscription: meterOf(q.Subscription.Tenant), delivery: q.Delivery, pace: paceOf(limit), queued: q.Limited})
}

// meterOf is the id of a tenant's rate limit among those of subscriptions. They are told apart by their version: 5, and 7
// of subscriptions.
func meterOf(tenant string) uuid.UUID { return uuid.NewSHA1(uuid.Nil, []byte("tenant "+tenant)) }

// ask gets a permit and waits until it is due.
func (p *permits) ask(ctx context.Context, r *applicant) error {
	if !p.useSpare(r) {
		if err := p.group.Do(ctx, r); err != nil {
			if ctx.Err() != nil {
				return context.Cause(ctx)
			}
			return Refusal{Wait: permitsAway, Reason: RateLimited}
		}
	}
	pause := r.at.Sub(p.now())
	if !r.granted {
		return Refusal{Wait: max(pause, 0), Reason: RateLimited}
	}
	if pause <= 0 {
		return nil
	}
	timer := time.NewTimer(pause)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// useSpare takes a permit that is at hand.
func (p *permits) useSpare(r *applicant) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	list := p.spare[r.subscription]
	stale := p.now().Add(-permitStale)
	for len(list) > 0 && list[0].Before(stale) {
		list = list[1:]
	}
	if len(list) > 0 {
		r.granted, r.at = true, list[0]
		list = list[1:]
	}
	if len(list) == 0 {
		delete(p.spare, r.subscription)
	} else {
		p.spare[r.subscription] = list
	}
	return r.granted
}

// party holds the applicants of one subscription.
type party struct {
	subscription uuid.UUID
	pace         pace
	applicants   []*applicant
	ask          ask
}

// commit asks for a group of requests.
func (p *permits) commit(ctx context.Context, s *store, list []*applicant) error {
	parties := partiesOf(list)
	grants, clock, err := s.permit(ctx, parties)
	if err != nil {
		return err
	}
	// Postgres' clock counts; what passed since it was read only makes the times later.
	shift := p.now().UnixMicro() - clock
	local := func(at int64) time.Time { return time.UnixMicro(at + shift) }
	p.mu.Lock()
	defer p.mu.Unlock()
	for i, party := range parties {
		g := grants[i]
		for n, r := range party.applicants {
			if r.granted = n < len(g.permits); r.granted {
				r.at = local(g.permits[n])
			} else {
				r.at = local(g.waits[n-len(g.permits)])
			}
		}
		for _, at := range g.permits[min(len(party.applicants), len(g.permits)):] {
			p.spare[party.subscription] = append(p.spare[party.subscription], local(at))
		}
	}
	return nil
}

// partiesOf sorts requests by subscription, so that two workers lock rows in the same order, and those of one: first
// those that have waited, each kind in the order of arrival.
func partiesOf(list []*applicant) []*party {
	slices.SortFunc(list, func(a, b *applicant) int {
		if c := bytes.Compare(a.subscription[:], b.subscription[:]); c != 0 {
			return c
		}
		if a.queued != b.queued {
			if a.queued {
				return -1
			}
			return 1
		}
		return bytes.Compare(a.delivery[:], b.delivery[:])
	})
	var parties []*party
	for _, r := range list {
		var last *party
		if n := len(parties); n > 0 && parties[n-1].subscription == r.subscription {
			last = parties[n-1]
		} else {
			last = &party{subscription: r.subscription}
			parties = append(parties, last)
		}
		last.pace = r.pace
		last.applicants = append(last.applicants, r)
		if r.queued {
			last.ask.queued++
		} else {
			last.ask.fresh++
		}
	}
	for _, y := range parties {
		y.ask.spare = max(int(permitsAhead.Microseconds()/y.pace.gap)-len(y.applicants), 0)
	}
	return parties
}

// sweep forgets permits that were not used.
func (p *permits) sweep() {
	p.mu.Lock()
	defer p.mu.Unlock()
	stale := p.now().Add(-permitStale)
	for id, list := range p.spare {
		if list[len(list)-1].Before(stale) {
			delete(p.spare, id)
		}
	}
}
