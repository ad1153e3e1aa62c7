package postgres

import (
	"context"
	"fmt"
	"time"

	"github.com/lib/pq"
)

// sizeKept is the age below which no day is dropped for its size: for a day an event's id stands for that event.
const sizeKept = 25 * time.Hour

// partition is a day of one table.
type partition struct {
	table, name string
	day         time.Time // zero for the rest
	bytes       int64
}

// Protect has days kept, whatever their size, that ended after a time: events of the ledger that the stream still holds would
// look as if they had never been matched.
func (r *Retention) Protect(since func(context.Context) (time.Time, error)) { r.protect = since }

// shrink drops the oldest days of which everything has ended, until the ledger is no larger than it may be.
func (r *Retention) shrink(ctx context.Context) error {
	if r.cfg.MaxBytes == 0 {
		return nil
	}
	days, total, err := r.days(ctx)
	if err != nil || total <= r.cfg.MaxBytes {
		return err
	}
	before := r.now().Add(-sizeKept)
	if r.protect != nil {
		oldest, err := r.protect(ctx)
		if err != nil {
			return err
		}
		if !oldest.IsZero() && oldest.Before(before) {
			before = oldest
		}
	}
	for len(days) > 0 && total > r.cfg.MaxBytes && !days[0][0].day.Add(day).After(before) {
		freed, err := r.dropDay(ctx, days[0])
		if err != nil {
			return err
		}
		total -= freed
		days = days[1:]
	}
	if total > r.cfg.MaxBytes {
		r.log.WarnContext(ctx, "ledger exceeds its size: no older day can be dropped", "bytes", total, "setting", "FANFARE_LEDGER_MAX_BYTES", "max_bytes", r.cfg.MaxBytes)
	}
	return nil
}

// days returns the partitions of each day, oldest first, and the size of all partitions. Of a day the events come first:
// without their rows nothing misses deliveries, without deliveries an audit would.
func (r *Retention) days(ctx context.Context) (days [][]partition, total int64, err error) {
	rows, err := r.db.QueryContext(ctx, `
SELECT inhparent::regclass::text, relname, pg_total_relation_size(oid) FROM pg_inherits JOIN pg_class ON oid = inhrelid
WHERE inhparent IN ('events'::regclass, 'deliveries'::regclass, 'attempts'::regclass)
ORDER BY right(relname, 8), inhparent = 'events'::regclass DESC, inhparent = 'deliveries'::regclass DESC`)
	err = Each(rows, err, func() error {
		var p partition
		if err := rows.Scan(&p.table, &p.name, &p.bytes); err != nil {
			return err
		}
		total += p.bytes
		if p.day, err = time.Parse(p.table+"_20060102", p.name); err != nil {
			return nil // It is the rest, or no day of ours.
		}
		if n := len(days); n > 0 && days[n-1][0].day.Equal(p.day) {
			days[n-1] = append(days[n-1], p)
		} else {
			days = append(days, []partition{p})
		}
		return nil
	})
	if err != nil {
		return nil, 0, fmt.Errorf("measure partitions: %w", err)
	}
	return days, total, nil
}

// dropDay drops a day unless something needs it that has not ended, and returns how many bytes that frees.
func (r *Retention) dropDay(ctx context.Context, of []partition) (freed int64, err error) {
	from, to := firstID(of[0].day), firstID(of[0].day.Add(day))
	var open bool
	err = r.db.QueryRowContext(ctx, `SELECT EXISTS (SELECT FROM deferrals WHERE event_uid >= $1 AND event_uid < $2)
    OR EXISTS (SELECT FROM deferrals WHERE id >= $1 AND id < $2)`, from, to).Scan(&open)
	if err != nil || open {
		return 0, err
	}
	for _, p := range of {
		if _, err := r.db.ExecContext(ctx, `DROP TABLE `+pq.QuoteIdentifier(p.name)); err != nil {
			return freed, fmt.Errorf("drop partition %s: %w", p.name, err)
		}
		freed += p.bytes
	}
	r.log.InfoContext(ctx, "a day was dropped to make room", "day", of[0].day.Format(time.DateOnly), "bytes", freed, "setting", "FANFARE_LEDGER_MAX_BYTES")
	err = InBatches(ctx, r.db, sweepChunk, `DELETE FROM event_data WHERE uid IN (SELECT uid FROM event_data WHERE uid >= $1 AND uid < $2 LIMIT $3)`,
		from, to, sweepChunk)
	if err != nil {
		return freed, fmt.Errorf("clean event data: %w", err)
	}
	return freed, nil
}
