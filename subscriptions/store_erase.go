package subscriptions

import (
	"context"
	"database/sql"
	"fmt"
	"time"

	"github.com/fanfarehq/fanfare/internal/postgres"
)

// minTombstoneAge is how long tombstones are kept at least: longer than any Directory reads while it loads.
const minTombstoneAge = time.Hour

// eraseChunk is how many subscriptions or event types of a tenant one statement removes.
const eraseChunk = 1000

// EraseTenant removes all of a tenant's subscriptions and event types. It may be called again, and goes on where it was stopped.
func (s *Store) EraseTenant(ctx context.Context, tenant string) error {
	for _, chunk := range []string{
		`UPDATE subscriptions SET ` + wiped + ` FROM r WHERE id IN (
	SELECT id FROM subscriptions WHERE tenant = $2 AND NOT deleted LIMIT $3)`,
		`UPDATE event_types SET ` + wipedType + ` FROM r WHERE (tenant, name) IN (
	SELECT tenant, name FROM event_types WHERE tenant = $2 AND NOT deleted LIMIT $3)`,
	} {
		if err := postgres.InBatches(ctx, s.db, eraseChunk, nextRevision+chunk, s.now(), tenant, eraseChunk); err != nil {
			return fmt.Errorf("erase subscriptions of tenant %s: %w", tenant, err)
		}
	}
	if err := postgres.InBatches(ctx, s.db, eraseChunk, `DELETE FROM event_type_versions WHERE ctid IN (
	SELECT ctid FROM event_type_versions WHERE tenant = $1 LIMIT $2)`, tenant, eraseChunk); err != nil {
		return fmt.Errorf("erase versions of event types of tenant %s: %w", tenant, err)
	}
	return nil
}

// sweepChunk is how many tombstones one transaction removes.
const sweepChunk = 10_000

// Sweep removes the tombstones of resources deleted longer than age ago (at least an hour) and returns how many
// they were. A Directory that knows nothing newer than the youngest of them loads everything anew.
func (s *Store) Sweep(ctx context.Context, age time.Duration) (total int64, err error) {
	before := s.now().Add(-max(age, minTombstoneAge))
	for {
		var n int64
		err := postgres.Retry(ctx, s.db, func(ctx context.Context, tx *sql.Tx) (err error) {
			n, err = sweep(ctx, tx, before)
			return err
		})
		if err != nil {
			return total, fmt.Errorf("sweep tombstones: %w", err)
		}
		if total += n; n < sweepChunk {
			return total, nil
		}
	}
}

// sweep removes a chunk. It locks the revision first, as everybody who changes something does.
func sweep(ctx context.Context, tx *sql.Tx, before time.Time) (n int64, err error) {
	if _, err := tx.ExecContext(ctx, `SELECT value FROM revision FOR UPDATE`); err != nil {
		return 0, err
	}
	err = tx.QueryRowContext(ctx, `
WITH s AS (DELETE FROM subscriptions WHERE id IN
         (SELECT id FROM subscriptions WHERE deleted AND updated_at < $1 LIMIT $2) RETURNING revision),
     e AS (DELETE FROM event_types WHERE (tenant, name) IN
         (SELECT tenant, name FROM event_types WHERE deleted AND updated_at < $1 LIMIT $2) RETURNING revision),
     gone AS (SELECT revision FROM s UNION ALL SELECT revision FROM e),
     h AS (UPDATE revision SET horizon = greatest(horizon, (SELECT max(revision) FROM gone)) WHERE EXISTS (SELECT 1 FROM gone))
SELECT count(*) FROM gone`, before, sweepChunk).Scan(&n)
	return n, err
}
