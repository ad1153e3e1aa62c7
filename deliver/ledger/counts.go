package ledger

import (
	"context"
	"database/sql"
	"fmt"
	"log/slog"
	"math"
	"time"

	"github.com/google/uuid"

	"github.com/fanfarehq/fanfare/deliver/outcome"
	"github.com/fanfarehq/fanfare/internal/postgres"
)

// countKey is what outcomes are counted by.
type countKey struct {
	minute       int64 // Unix minutes
	tenant       string
	subscription uuid.UUID
	eventType    string
	reason       outcome.Reason
	class, ended int
	bucket       int
}

// The values of countKey.ended, and the bucket without an attempt.
const (
	notEnded = iota
	endedDelivered
	endedDead
	endedCancelled

	noBucket = -1
)

// bucketsPerOctave is how finely durations are counted: a percentile is right to within 10 %.
const bucketsPerOctave = 4

// BucketOf is the bucket of a duration in microseconds.
func BucketOf(micros int64) int {
	return int(math.Round(bucketsPerOctave * math.Log2(float64(max(micros, 1)))))
}

// BucketMS is the duration, in milliseconds, that a bucket stands for.
func BucketMS(bucket int) float64 { return math.Exp2(float64(bucket)/bucketsPerOctave) / 1000 }

// keyOf returns how an outcome is counted; false if it is neither an attempt nor an end.
func keyOf(r *outcome.Record) (countKey, bool) {
	k := countKey{tenant: r.Tenant, subscription: r.Subscription, eventType: r.EventType, reason: r.Reason, bucket: noBucket}
	at := r.At
	switch r.Outcome {
	case outcome.Delivered:
		k.ended = endedDelivered
	case outcome.Dead:
		k.ended = endedDead
	case outcome.Cancelled:
		k.ended = endedCancelled
	}
	if a := r.Attempt; a != nil {
		k.class, k.bucket = a.Status/100, BucketOf(a.Micros)
		at = a.StartedAt.Add(time.Duration(a.Micros) * time.Microsecond)
	} else if k.ended == notEnded {
		return k, false
	}
	k.minute = at.Unix() / 60
	return k, true
}

const writePacket = `
INSERT INTO count_packets (at, tenant, subscription_id, event_type, reason, class, ended, bucket, n)
VALUES ($1::timestamptz[], $2::text[], $3::uuid[], $4::text[], $5::text[], $6::smallint[], $7::smallint[], $8::smallint[], $9::bigint[])`

// count writes what the records of a transaction come to, as one row: a row for each series would cost as much as the deliveries
// themselves, and recorders would wait for each other's rows.
func (l *Ledger) count(ctx context.Context, tx *sql.Tx, lists ...[]*outcome.Record) error {
	sums := map[countKey]int64{}
	for _, records := range lists {
		for _, r := range records {
			if k, ok := keyOf(r); ok {
				sums[k]++
			}
		}
	}
	if len(sums) == 0 {
		return nil
	}
	c := postgres.Columns(9, len(sums))
	for k, n := range sums {
		c[0].Time(time.Unix(k.minute*60, 0))
		c[1].Text(k.tenant)
		c[2].UUID(k.subscription)
		c[3].Text(k.eventType)
		c[4].Text(string(k.reason))
		c[5].Int16(k.class)
		c[6].Int16(k.ended)
		c[7].Int16(k.bucket)
		c[8].Int64(n)
	}
	if _, err := l.exec(ctx, tx, writePacket, postgres.Args(c)...); err != nil {
		return fmt.Errorf("count outcomes: %w", err)
	}
	return nil
}

// countCancelled counts the deliveries of gone, which are cancelled for a reason: an expression of SQL.
func countCancelled(reason string) string {
	return `counted AS (
    INSERT INTO count_packets (at, tenant, subscription_id, event_type, reason, class, ended, bucket, n)
    SELECT array_agg(date_trunc('minute', now(), 'UTC')), array_agg(tenant), array_agg(subscription_id), array_agg(event_type),
        array_agg((` + reason + `)::text), array_agg(0::smallint), array_agg(3::smallint), array_agg((-1)::smallint), array_agg(n)
    FROM (SELECT tenant, subscription_id, event_type, count(*) AS n FROM gone GROUP BY 1, 2, 3) g HAVING count(*) > 0
)`
}

// Counter folds packets into sums, and drops old sums.
type Counter struct {
	db  *sql.DB
	log *slog.Logger
}

// NewCounter makes a Counter; Run does the work.
func NewCounter(db *sql.DB, log *slog.Logger) *Counter { return &Counter{db: db, log: log} }

const (
	// foldEvery is how late a sum is at most.
	foldEvery = 2 * time.Second
	// foldChunk is how many packets one transaction folds.
	foldChunk = 200
	// KeepMinutes is how long sums by minute are kept.
	KeepMinutes = 48 * time.Hour
	// KeepHours is how long sums by hour are kept.
	KeepHours = 90 * 24 * time.Hour
	// sweepChunk is how many sums one statement drops.
	sweepChunk = 5000
)

// fold adds packets to the sums, in the order of the key, so that two that fold wait for each other and do not lock up.
const fold = `
WITH packet AS (
    DELETE FROM count_packets WHERE id IN (SELECT id FROM count_packets ORDER BY id LIMIT $1 FOR UPDATE SKIP LOCKED) RETURNING *
), item AS ( -- Sums of bigint would be numeric, which costs several times as much.
    SELECT u.at, u.tenant, u.subscription_id, u.event_type, u.reason, u.class, u.ended, u.bucket, sum(u.n::integer) AS n
    FROM packet p, unnest(p.at, p.tenant, p.subscription_id, p.event_type, p.reason, p.class, p.ended, p.bucket, p.n)
        AS u (at, tenant, subscription_id, event_type, reason, class, ended, bucket, n)
    GROUP BY 1, 2, 3, 4, 5, 6, 7, 8
), sums AS (
    INSERT INTO delivery_counts AS d (tenant, step, at, subscription_id, event_type, reason, class, ended, bucket, n)
    SELECT tenant, 1, at, subscription_id, event_type, reason, class, ended, bucket, n FROM item
    UNION ALL
    SELECT tenant, 60, date_trunc('hour', at, 'UTC'), subscription_id, event_type, reason, class, ended, bucket, sum(n)::bigint
    FROM item GROUP BY 1, 2, 3, 4, 5, 6, 7, 8, 9
    ORDER BY 1, 2, 3, 4, 5, 6, 7, 8, 9
    ON CONFLICT (tenant, step, at, subscription_id, event_type, reason, class, ended, bucket) DO UPDATE SET n = d.n + excluded.n
)
SELECT count(*) FROM packet`

// Run folds until ctx ends; any number may run.
func (c *Counter) Run(ctx context.Context) error {
	tick := time.NewTicker(foldEvery)
	defer tick.Stop()
	var swept time.Time
	for {
		if err := c.Fold(ctx); err != nil && ctx.Err() == nil {
			c.log.WarnContext(ctx, "counts wait to be folded", "error", err)
		}
		if time.Since(swept) > time.Hour {
			swept = time.Now()
			if err := c.Sweep(ctx, swept); err != nil && ctx.Err() == nil {
				c.log.WarnContext(ctx, "old counts were not dropped", "error", err)
			}
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

// Fold folds all packets that there are.
func (c *Counter) Fold(ctx context.Context) error {
	for {
		var n int
		err := postgres.Retry(ctx, c.db, func(ctx context.Context, tx *sql.Tx) error {
			return tx.QueryRowContext(ctx, fold, foldChunk).Scan(&n)
		})
		if err != nil {
			return fmt.Errorf("fold counts: %w", err)
		}
		if n < foldChunk {
			return nil
		}
	}
}

// Sweep drops sums that are too old.
func (c *Counter) Sweep(ctx context.Context, now time.Time) error {
	for _, of := range []struct {
		step   int
		before time.Time
	}{{1, now.Add(-KeepMinutes)}, {60, now.Add(-KeepHours)}} {
		for {
			res, err := c.db.ExecContext(ctx, `DELETE FROM delivery_counts WHERE ctid = ANY (ARRAY(
    SELECT ctid FROM delivery_counts WHERE step = $1 AND at < $2 LIMIT $3))`, of.step, of.before, sweepChunk)
			if err != nil {
				return fmt.Errorf("drop old counts: %w", err)
			}
			if n, err := res.RowsAffected(); err != nil || n < sweepChunk {
				break
			}
		}
	}
	return nil
}

// EraseTenant drops a tenant's sums.
func (c *Counter) EraseTenant(ctx context.Context, tenant string) error {
	if err := c.Fold(ctx); err != nil {
		return err
	}
	for {
		res, err := c.db.ExecContext(ctx, `DELETE FROM delivery_counts WHERE ctid = ANY (ARRAY(
    SELECT ctid FROM delivery_counts WHERE tenant = $1 LIMIT $2))`, tenant, sweepChunk)
		if err != nil {
			return fmt.Errorf("erase counts of tenant %s: %w", tenant, err)
		}
		if n, err := res.RowsAffected(); err != nil || n < sweepChunk {
			return err
		}
	}
}
