package postgres

import (
	"context"
	"database/sql"
	"fmt"
	"log/slog"
	"time"

	"github.com/lib/pq"
)

// RetentionConfig says how long the ledger is kept. What has not ended is kept longer, with all that belongs to it.
type RetentionConfig struct {
	Events     time.Duration `envconfig:"KEEP_EVENTS" default:"2160h" desc:"how long the ledger keeps events; a day longer than FANFARE_EVENTS_MAX_AGE or more"`
	Deliveries time.Duration `envconfig:"KEEP_DELIVERIES" default:"2160h" desc:"how long the ledger keeps ended deliveries and the data of dead ones; not shorter than events"`
	Attempts   time.Duration `envconfig:"KEEP_ATTEMPTS" default:"720h" desc:"how long the ledger keeps attempts that did not end their delivery"`
	MaxBytes   int64         `envconfig:"LEDGER_MAX_BYTES" default:"0" desc:"bytes that events, deliveries and attempts of the ledger take at most: beyond it the oldest days go of which everything has ended, but not the last two; 0: no bound"`
	Quarantine time.Duration `envconfig:"KEEP_QUARANTINE" default:"720h" desc:"how long messages that were no valid event are kept"`
}

// leastKept is less than which nothing is kept: an idempotency key stands for a day.
const leastKept = 2 * day

// Validate names the first variable that cannot be used.
func (c RetentionConfig) Validate() error {
	for _, v := range []struct {
		name string
		keep time.Duration
	}{{"EVENTS", c.Events}, {"DELIVERIES", c.Deliveries}, {"ATTEMPTS", c.Attempts}, {"QUARANTINE", c.Quarantine}} {
		if v.keep < leastKept {
			return fmt.Errorf("FANFARE_KEEP_%s must be %s or more, not %s", v.name, leastKept, v.keep)
		}
	}
	if c.MaxBytes < 0 {
		return fmt.Errorf("FANFARE_LEDGER_MAX_BYTES must be 0 or more, not %d", c.MaxBytes)
	}
	if c.Deliveries < c.Events {
		return fmt.Errorf("FANFARE_KEEP_DELIVERIES must not be shorter than FANFARE_KEEP_EVENTS, which is %s", c.Events)
	}
	return nil
}

// Retention drops expired rows: whole partitions, and rows of the tables that have none.
type Retention struct {
	cfg RetentionConfig
	db  *sql.DB
	log *slog.Logger
	now func() time.Time

	protect func(context.Context) (time.Time, error) // see Protect
}

// NewRetention makes a Retention; Run does the work.
func NewRetention(cfg RetentionConfig, db *sql.DB, logger *slog.Logger) *Retention {
	return &Retention{cfg: cfg, db: db, log: logger, now: time.Now}
}

// retentionEvery is how often it is looked at: partitions are days.
const retentionEvery = time.Hour

// Run drops until ctx ends; any number may run.
func (r *Retention) Run(ctx context.Context) error {
	return RunChore(ctx, r.db, r.log, Chore{Name: "retention", Every: retentionEvery, Do: func(ctx context.Context, place time.Time) (time.Time, error) {
		return place, r.Apply(ctx)
	}})
}

// AttemptsSince says from when on all attempts are kept.
func (r *Retention) AttemptsSince() time.Time { return r.now().Add(-r.cfg.Attempts + day) }

// Apply drops expired rows.
func (r *Retention) Apply(ctx context.Context) error {
	now := r.now()
	for _, of := range []struct {
		table, column string
		before        time.Time
		// needed says that something that has not ended needs rows of ids from $1 to $2.
		needed string
	}{
		{"attempts", "delivery_id", now.Add(-r.cfg.Attempts), `SELECT EXISTS (SELECT FROM deferrals WHERE id >= $1 AND id < $2)`},
		{"deliveries", "id", now.Add(-r.cfg.Deliveries), `SELECT EXISTS (SELECT FROM deferrals WHERE event_uid >= $1 AND event_uid < $2)`},
		{"events", "uid", now.Add(-r.cfg.Events), `SELECT EXISTS (SELECT FROM deferrals WHERE event_uid >= $1 AND event_uid < $2)`},
		{"event_refs", "uid", now.Add(-r.cfg.Events), `SELECT EXISTS (SELECT FROM deferrals WHERE event_uid >= $1 AND event_uid < $2)`},
	} {
		if err := r.dropPartitions(ctx, of.table, of.needed, of.before); err != nil {
			return fmt.Errorf("drop partitions of %s: %w", of.table, err)
		}
		if err := r.sweepRest(ctx, of.table, of.column, of.needed, of.before); err != nil {
			return fmt.Errorf("clean the rest of %s: %w", of.table, err)
		}
	}
	if err := r.sweepRows(ctx, now); err != nil {
		return err
	}
	if err := r.shrink(ctx); err != nil {
		return fmt.Errorf("make the ledger smaller: %w", err)
	}
	if err := r.sweepKeys(ctx, now); err != nil {
		return fmt.Errorf("clean tenant keys: %w", err)
	}
	return nil
}

// dropPartitions drops the days that ended before a time. Whoever reads the table just then is waited for no longer
// than lock_timeout; then it is tried again in an hour.
func (r *Retention) dropPartitions(ctx context.Context, table, needed string, before time.Time) error {
	rows, err := r.db.QueryContext(ctx, `SELECT relname FROM pg_inherits JOIN pg_class ON oid = inhrelid
WHERE inhparent = $1::regclass AND relname ~ '_[0-9]{8}$' ORDER BY relname`, table)
	if err != nil {
		return err
	}
	defer rows.Close()
	var names []string
	for rows.Next() {
		var name string
		if err := rows.Scan(&name); err != nil {
			return err
		}
		names = append(names, name)
	}
	if err := rows.Err(); err != nil {
		return err
	}
	for _, name := range names {
		at, err := time.Parse(table+"_20060102", name)
		if err != nil || at.Add(day).After(before) {
			continue // It is no day of ours, or too young.
		}
		var open bool
		if err := r.db.QueryRowContext(ctx, needed, firstID(at), firstID(at.Add(day))).Scan(&open); err != nil {
			return err
		}
		if open {
			continue
		}
		if _, err := r.db.ExecContext(ctx, `DROP TABLE `+pq.QuoteIdentifier(name)); err != nil {
			return err
		}
		r.log.InfoContext(ctx, "a day was dropped", "partition", name)
	}
	return nil
}

// sweepRest deletes old rows of days that have no partition.
func (r *Retention) sweepRest(ctx context.Context, table, column, needed string, before time.Time) error {
	var open bool
	if err := r.db.QueryRowContext(ctx, needed, firstID(time.UnixMilli(0)), firstID(before)).Scan(&open); err != nil || open {
		return err
	}
	return InBatches(ctx, r.db, sweepChunk, fmt.Sprintf(`DELETE FROM %[1]s_rest WHERE ctid IN (SELECT ctid FROM %[1]s_rest WHERE %[2]s < $1 LIMIT $2)`, table, column), firstID(before), sweepChunk)
}

// sweepChunk is how many rows one statement removes.
const sweepChunk = 2000

// sweepRows removes rows of the tables without partitions.
func (r *Retention) sweepRows(ctx context.Context, now time.Time) error {
	for _, of := range []struct {
		what, statement string
		arg             any
	}{
		{"event data", `DELETE FROM event_data WHERE uid IN (SELECT uid FROM event_data d WHERE uid < $1
    AND NOT EXISTS (SELECT FROM deferrals p WHERE p.event_uid = d.uid) LIMIT $2)`, firstID(now.Add(-r.cfg.Deliveries))},
		{"quarantine", `DELETE FROM quarantine WHERE id IN (SELECT id FROM quarantine WHERE id < $1 LIMIT $2)`, firstID(now.Add(-r.cfg.Quarantine))},
		{"replays", `DELETE FROM replays WHERE id IN (SELECT id FROM replays WHERE ended_at < $1 LIMIT $2)`, now.Add(-r.cfg.Deliveries)},
	} {
		if err := InBatches(ctx, r.db, sweepChunk, of.statement, of.arg, sweepChunk); err != nil {
			return fmt.Errorf("clean %s: %w", of.what, err)
		}
	}
	return nil
}

// sweepKeys deletes the tenant keys of days of which nothing is kept any more.
func (r *Retention) sweepKeys(ctx context.Context, now time.Time) error {
	oldest := now.Add(-max(r.cfg.Events, r.cfg.Deliveries, r.cfg.Attempts, r.cfg.Quarantine) - 2*day)
	rows, err := r.db.QueryContext(ctx, `SELECT DISTINCT day FROM tenant_keys WHERE day < $1 ORDER BY day`, oldest.Unix()/int64(day.Seconds()))
	if err != nil {
		return err
	}
	defer rows.Close()
	var days []int64
	for rows.Next() {
		var nth int64
		if err := rows.Scan(&nth); err != nil {
			return err
		}
		days = append(days, nth)
	}
	if err := rows.Err(); err != nil {
		return err
	}
	for _, nth := range days {
		begin := time.Unix(nth*int64(day.Seconds()), 0)
		var needed bool
		if err := r.db.QueryRowContext(ctx, `SELECT EXISTS (SELECT FROM deferrals WHERE event_uid >= $1 AND event_uid < $2)
    OR EXISTS (SELECT FROM deferrals WHERE id >= $1 AND id < $2) OR EXISTS (SELECT FROM event_data WHERE uid >= $1 AND uid < $2)`,
			firstID(begin), firstID(begin.Add(day))).Scan(&needed); err != nil {
			return err
		}
		if needed {
			continue
		}
		if err := InBatches(ctx, r.db, sweepChunk, `DELETE FROM tenant_keys WHERE day = $1 AND tenant IN (SELECT tenant FROM tenant_keys WHERE day = $1 LIMIT $2)`, nth, sweepChunk); err != nil {
			return err
		}
	}
	return nil
}
