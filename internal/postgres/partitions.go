package postgres

import (
	"context"
	"database/sql"
	"encoding/binary"
	"fmt"
	"log/slog"
	"time"

	"github.com/google/uuid"
	"github.com/lib/pq"
)

// partitioned are the tables that have a partition for each day, with the column that holds the UUIDv7.
var partitioned = []struct{ table, column string }{
	{"events", "uid"}, {"deliveries", "id"}, {"attempts", "delivery_id"}, {"event_refs", "uid"},
}

const day = 24 * time.Hour

// EnsurePartitions makes the partitions of the UTC days from..to, both included, of every table that has them:
// <table>_YYYYMMDD. What is there already is left alone. Rows of such a day that went to the table's
// partition for the rest are moved.
func EnsurePartitions(ctx context.Context, db *sql.DB, from, to time.Time) error {
	for at := from.UTC().Truncate(day); !at.After(to); at = at.Add(day) {
		for _, of := range partitioned {
			if err := ensurePartition(ctx, db, of.table, of.column, at); err != nil {
				return fmt.Errorf("make the partition of %s for %s: %w", of.table, at.Format(time.DateOnly), err)
			}
		}
	}
	return nil
}

// ensurePartition makes one partition. The table is made aside, filled and then attached: unlike CREATE TABLE
// PARTITION OF, that does not stop those who use other partitions. A row that is on its way to the rest just then
// is refused there; Retry knows.
func ensurePartition(ctx context.Context, db *sql.DB, table, column string, at time.Time) error {
	const isThere = `SELECT EXISTS (SELECT FROM pg_inherits JOIN pg_class ON oid = inhrelid
		WHERE inhparent = $1::regclass AND relname = $2)`
	name := table + at.Format("_20060102")
	var there bool
	if err := db.QueryRowContext(ctx, isThere, table, name).Scan(&there); err != nil || there {
		return err
	}
	from, to := pq.QuoteLiteral(firstID(at).String()), pq.QuoteLiteral(firstID(at.Add(day)).String())
	return Retry(ctx, db, func(ctx context.Context, tx *sql.Tx) error {
		// One process at a time; later ones find the partition.
		if _, err := tx.ExecContext(ctx, "SELECT pg_advisory_xact_lock($1)", int64(partitionLock)); err != nil {
			return err
		}
		if err := tx.QueryRowContext(ctx, isThere, table, name).Scan(&there); err != nil || there {
			return err
		}
		_, err := tx.ExecContext(ctx, fmt.Sprintf(`
			CREATE TABLE %[1]s (LIKE %[2]s INCLUDING ALL);
			LOCK TABLE %[2]s_rest IN ACCESS EXCLUSIVE MODE;
			WITH moved AS (DELETE FROM %[2]s_rest WHERE %[3]s >= %[4]s AND %[3]s < %[5]s RETURNING *)
				INSERT INTO %[1]s SELECT * FROM moved;
			ALTER TABLE %[2]s ATTACH PARTITION %[1]s FOR VALUES FROM (%[4]s) TO (%[5]s)`,
			name, table, column, from, to))
		return err
	})
}

const partitionLock = migrationLock + 1

// firstID is the smallest UUIDv7 of a time's millisecond and later; it is none itself, for its version is zero.
func firstID(at time.Time) uuid.UUID {
	var id uuid.UUID
	binary.BigEndian.PutUint64(id[:8], uint64(at.UnixMilli())<<16)
	return id
}

// Partitions keeps the partitions of the days around now in being.
type Partitions struct {
	db     *sql.DB
	logger *slog.Logger
	now    func() time.Time
}

const (
	// Yesterday's partition takes rows accepted before midnight and written after it.
	daysBack = 1
	// The days ahead are how long making them may fail before rows go to the partitions for the rest.
	daysAhead = 3
	upkeep    = time.Hour
)

// NewPartitions makes the maintainer; Run does the work.
func NewPartitions(db *sql.DB, logger *slog.Logger) *Partitions {
	return &Partitions{db: db, logger: logger, now: time.Now}
}

// Ensure makes the partitions from yesterday to three days ahead.
func (p *Partitions) Ensure(ctx context.Context) error {
	now := p.now()
	return EnsurePartitions(ctx, p.db, now.Add(-daysBack*day), now.Add(daysAhead*day))
}

// Run calls Ensure at once and then every hour until ctx ends. A failure is logged and tried again in the next
// hour: there are days of slack.
func (p *Partitions) Run(ctx context.Context) error {
	tick := time.NewTicker(upkeep)
	defer tick.Stop()
	for {
		if err := p.Ensure(ctx); err != nil && ctx.Err() == nil {
			p.logger.ErrorContext(ctx, "partitions could not be made", "error", err)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}
