package ledger

import (
	"context"
	"database/sql"
	"fmt"
	"log/slog"
	"time"

	"github.com/fanfarehq/fanfare/internal/postgres"
	"github.com/fanfarehq/fanfare/internal/trouble"
)

// Counter folds packets into sums, and drops old sums.
type Counter struct {
	db      *sql.DB
	trouble *trouble.Log

	types, rows int // bounds of a bin; see MostTypes and MostRows
	take        int // how many rows the next transaction folds, about
}

// NewCounter makes a Counter; Run does the work.
func NewCounter(db *sql.DB, log *slog.Logger) *Counter {
	return &Counter{db: db, trouble: trouble.New(log), types: MostTypes, rows: MostRows, take: foldRows}
}

const (
	// foldEvery is how late a sum is at most.
	foldEvery = 2 * time.Second
	// KeepMinutes is how long sums by minute are kept.
	KeepMinutes = 48 * time.Hour
	// KeepHours is how long sums by hour are kept.
	KeepHours = 90 * 24 * time.Hour
	// sweepChunk is how many sums one statement drops.
	sweepChunk = 5000
)

// Run folds until ctx ends; any number may run, and one at a time folds.
func (c *Counter) Run(ctx context.Context) error {
	tick := time.NewTicker(foldEvery)
	defer tick.Stop()
	var swept time.Time
	for {
		if err := c.Fold(ctx); err != nil && ctx.Err() == nil {
			c.trouble.Note("counts wait to be folded", err)
		}
		if time.Since(swept) > time.Hour {
			swept = time.Now()
			if err := c.Sweep(ctx, swept); err != nil && ctx.Err() == nil {
				c.trouble.Note("old counts were not dropped", err)
			}
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

// Sweep drops sums that are too old.
func (c *Counter) Sweep(ctx context.Context, now time.Time) error {
	for _, of := range []struct {
		step   int
		before time.Time
	}{{1, now.Add(-KeepMinutes)}, {60, now.Add(-KeepHours)}} {
		for _, table := range []string{"delivery_counts", "count_bins", "delivery_totals"} {
			if err := postgres.InBatches(ctx, c.db, sweepChunk, dropOld(table), of.step, of.before, sweepChunk); err != nil {
				return fmt.Errorf("drop old counts: %w", err)
			}
		}
	}
	return nil
}

func dropOld(table string) string {
	return fmt.Sprintf(`DELETE FROM %[1]s WHERE ctid = ANY (ARRAY(SELECT ctid FROM %[1]s WHERE step = $1 AND at < $2 LIMIT $3))`, table)
}

// withoutTenant takes a tenant's counts out of a page of packets: a packet that has some is written again with the rest of it.
const withoutTenant = `
WITH page AS MATERIALIZED (
    SELECT id FROM count_packets WHERE id > $2 ORDER BY id LIMIT $3
), gone AS (
    DELETE FROM count_packets WHERE id IN (SELECT id FROM page) AND $1 = ANY (tenant) RETURNING *
), rest AS (
    INSERT INTO count_packets (at, tenant, subscription_id, event_type, reason, class, ended, bucket, n)
    SELECT array_agg(u.at), array_agg(u.tenant), array_agg(u.subscription_id), array_agg(u.event_type), array_agg(u.reason), array_agg(u.class),
        array_agg(u.ended), array_agg(u.bucket), array_agg(u.n)
    FROM gone g, unnest(g.at, g.tenant, g.subscription_id, g.event_type, g.reason, g.class, g.ended, g.bucket, g.n)
        AS u (at, tenant, subscription_id, event_type, reason, class, ended, bucket, n)
    WHERE u.tenant <> $1 GROUP BY g.id
)
SELECT coalesce(max(id), $2), count(*) FROM page`

// EraseTenant drops a tenant's counts, in packets first: packets that are folded meanwhile are then among the sums. The totals over all tenants
// name none, and stay.
func (c *Counter) EraseTenant(ctx context.Context, tenant string) error {
	const packets = 200
	for last, n := int64(0), packets; n == packets; {
		if err := c.db.QueryRowContext(ctx, withoutTenant, tenant, last, packets).Scan(&last, &n); err != nil {
			return fmt.Errorf("erase packets of counts of tenant %s: %w", tenant, err)
		}
	}
	for _, table := range []string{"delivery_counts", "count_bins"} {
		erase := fmt.Sprintf(`DELETE FROM %[1]s WHERE ctid = ANY (ARRAY(SELECT ctid FROM %[1]s WHERE tenant = $1 LIMIT $2))`, table)
		if err := postgres.InBatches(ctx, c.db, sweepChunk, erase, tenant, sweepChunk); err != nil {
			return fmt.Errorf("erase counts of tenant %s: %w", tenant, err)
		}
	}
	return nil
}
