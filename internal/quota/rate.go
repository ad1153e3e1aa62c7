package quota

import (
	"context"
	"fmt"
	"math"
	"time"

	"github.com/lib/pq"

	"github.com/fanfarehq/fanfare/internal/postgres"
)

const (
	// shareOf is the part of a limit from which on a process tells the others what it took of it: smaller loads matter to
	// no other process.
	shareOf = 0.1
	// rateStale is after how long what a process told counts no more.
	rateStale = 3 * time.Second
	// bucketIdle is after how long without an event a tenant's bucket is forgotten.
	bucketIdle = 10 * time.Second
)

// bucket holds a tenant to its events per second in this process.
type bucket struct {
	tokens float64 // may be negative: a request is taken whole or not at all
	at     time.Time
	taken  float64 // since the last share
	rate   float64 // per second, between the last two shares
	others rates
}

// rates are what other processes took, per second.
type rates struct {
	sum       float64
	processes int
}

// allowance is what this process may take per second: what the others leave, and never less than an even share.
func (b *bucket) allowance(most int64) float64 {
	return max(float64(most)-b.others.sum, float64(most)/float64(1+b.others.processes))
}

// Take takes so many events of a tenant's rate, all or none. A request of any size passes while the rate is not used up,
// and those after it wait until it is paid for. The error is an *api.LimitError.
func (q *Quotas) Take(tenant string, n int) error {
	if q == nil {
		return nil
	}
	most := q.Of(tenant).Most(EventsPerSecond)
	if most == math.MaxInt64 {
		return nil
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	now := q.now()
	b := q.buckets[tenant]
	if b == nil {
		b = &bucket{tokens: float64(most), at: now}
		q.buckets[tenant] = b
	}
	speed := b.allowance(most)
	b.tokens = min(b.tokens+speed*max(now.Sub(b.at).Seconds(), 0), speed) // at most a second's worth at once
	b.at = now
	if b.tokens < min(1, speed) {
		return exceeded(EventsPerSecond, most, time.Duration((1-b.tokens)/speed*float64(time.Second)))
	}
	b.tokens -= float64(n)
	b.taken += float64(n)
	return nil
}

// share exchanges the counts of this process with those of the others.
func (q *Quotas) share(ctx context.Context) error {
	tenants, taken, watched := q.measure()
	if len(watched) == 0 {
		return nil
	}
	if len(tenants) > 0 {
		_, err := q.db.ExecContext(ctx, `INSERT INTO event_rates AS r (tenant, process, per_second, at)
			SELECT t, $3, n, now() FROM unnest($1::text[], $2::float8[]) AS u (t, n) ORDER BY t
			ON CONFLICT (tenant, process) DO UPDATE SET per_second = excluded.per_second, at = excluded.at`,
			pq.Array(tenants), pq.Array(taken), q.process)
		if err != nil {
			return fmt.Errorf("write rates of events: %w", err)
		}
	}
	rows, err := q.db.QueryContext(ctx, `WITH old AS (DELETE FROM event_rates WHERE at < now() - interval '1 minute')
		SELECT tenant, sum(per_second), count(*) FROM event_rates
		WHERE tenant = ANY($1) AND process <> $2 AND at > now() - $3 * interval '1 millisecond' GROUP BY tenant`,
		pq.Array(watched), q.process, rateStale.Milliseconds())
	found := map[string]rates{}
	err = postgres.Each(rows, err, func() error {
		var tenant string
		var r rates
		if err := rows.Scan(&tenant, &r.sum, &r.processes); err != nil {
			return err
		}
		found[tenant] = r
		return nil
	})
	if err != nil {
		return fmt.Errorf("read rates of events: %w", err)
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	for _, tenant := range watched {
		if b := q.buckets[tenant]; b != nil {
			b.others = found[tenant]
		}
	}
	return nil
}

// measure returns the rates of tenants taken here, and all tenants whose rate is held here.
func (q *Quotas) measure() (tenants []string, taken []float64, watched []string) {
	q.mu.Lock()
	defer q.mu.Unlock()
	now := q.now()
	for tenant, b := range q.buckets {
		if now.Sub(b.at) > bucketIdle {
			delete(q.buckets, tenant)
			continue
		}
		watched = append(watched, tenant)
		b.rate, b.taken = b.taken/refreshEvery.Seconds(), 0
		if b.rate >= shareOf*float64(q.Of(tenant).Most(EventsPerSecond)) {
			tenants, taken = append(tenants, tenant), append(taken, b.rate)
		}
	}
	return tenants, taken, watched
}
