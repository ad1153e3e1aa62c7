package ledger

import (
	"context"
	"database/sql"
	"fmt"
	"log/slog"
	"time"

	"github.com/fanfarehq/fanfare/internal/postgres"
)

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
		err := postgres.InBatches(ctx, c.db, sweepChunk, `DELETE FROM delivery_counts WHERE ctid = ANY (ARRAY(
    SELECT ctid FROM delivery_counts WHERE step = $1 AND at < $2 LIMIT $3))`, of.step, of.before, sweepChunk)
		if err != nil {
			return fmt.Errorf("drop old counts: %w", err)
		}
	}
	return nil
}

// EraseTenant drops a tenant's sums.
func (c *Counter) EraseTenant(ctx context.Context, tenant string) error {
	if err := c.Fold(ctx); err != nil {
		return err
	}
	err := postgres.InBatches(ctx, c.db, sweepChunk, `DELETE FROM delivery_counts WHERE ctid = ANY (ARRAY(
    SELECT ctid FROM delivery_counts WHERE tenant = $1 LIMIT $2))`, tenant, sweepChunk)
	if err != nil {
		return fmt.Errorf("erase counts of tenant %s: %w", tenant, err)
	}
	return nil
}
