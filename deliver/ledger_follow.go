package deliver

import (
	"context"
	"database/sql"
	"fmt"

	"github.com/google/uuid"

	"github.com/fanfarehq/fanfare/internal/postgres"
)

// followChunk is how many deferrals one transaction sets free or cancels: enough to be quick, few enough not to be
// in anybody's way.
const followChunk = 2000

// change is a subscription whose deferrals may have to follow it.
type change struct {
	id       uuid.UUID
	status   string
	deleted  bool
	revision int64
}

// revision returns that of the subscriptions.
func (l *ledger) revision(ctx context.Context) (n int64, err error) {
	if err := l.db.QueryRowContext(ctx, `SELECT value FROM revision`).Scan(&n); err != nil {
		return 0, fmt.Errorf("read revision: %w", err)
	}
	return n, nil
}

// changedSince returns the subscriptions that changed after a revision, in order.
func (l *ledger) changedSince(ctx context.Context, revision int64) ([]change, error) {
	return l.changes(ctx, `
SELECT id, status, deleted, revision FROM subscriptions WHERE revision > $1
ORDER BY revision FETCH FIRST 1000 ROWS WITH TIES`, revision)
}

// straying returns the subscriptions whose deferrals have not followed them: what changed while no worker ran.
func (l *ledger) straying(ctx context.Context) ([]change, error) {
	return l.changes(ctx, `
SELECT w.id, coalesce(s.status, ''), coalesce(s.deleted, true), coalesce(s.revision, 0)
FROM (SELECT DISTINCT subscription_id AS id, held AND NOT waits AS held FROM deferrals) w LEFT JOIN subscriptions s ON s.id = w.id
WHERE s.id IS NULL OR s.deleted OR s.status = 'disabled' OR (w.held AND s.status <> 'paused')`)
}

func (l *ledger) changes(ctx context.Context, query string, args ...any) ([]change, error) {
	rows, err := l.db.QueryContext(ctx, query, args...)
	if err != nil {
		return nil, fmt.Errorf("read changed subscriptions: %w", err)
	}
	defer rows.Close()
	var list []change
	for rows.Next() {
		var c change
		if err := rows.Scan(&c.id, &c.status, &c.deleted, &c.revision); err != nil {
			return nil, fmt.Errorf("read changed subscription: %w", err)
		}
		list = append(list, c)
	}
	if err := rows.Err(); err != nil {
		return nil, fmt.Errorf("read changed subscriptions: %w", err)
	}
	return list, nil
}

// setFree makes what is held of a subscription due, in the order of arrival: a microsecond apart, since claims
// go by time. What waits for its turn stays held.
const setFree = `
WITH free AS (
    SELECT id, row_number() OVER (ORDER BY id) AS place FROM (
        SELECT id FROM deferrals WHERE subscription_id = $1 AND held AND NOT waits ORDER BY id LIMIT $2 FOR UPDATE SKIP LOCKED
    ) first
)
UPDATE deferrals d SET held = false, due_at = now() + free.place * interval '1 microsecond',
    claim_at = now() + free.place * interval '1 microsecond', worker = ''
FROM free WHERE d.id = free.id`

// cancelPending ends what is pending of a subscription. What is in flight is left to its worker: the next claim
// finds out for itself.
const cancelPending = `
WITH gone AS (
    DELETE FROM deferrals WHERE id IN (
        SELECT id FROM deferrals WHERE subscription_id = $1 AND (worker = '' OR claim_at <= now())
        ORDER BY id LIMIT $2 FOR UPDATE SKIP LOCKED
    ) RETURNING id, number, tenant, event_uid, event_id, event_type, seq, subscription_id, generation, attempts, created_at
), ended AS (
    INSERT INTO deliveries (id, number, tenant, event_uid, event_id, event_type, seq, subscription_id, generation, state, reason,
        attempts, created_at, ended_at, duration_us, status, error)
    SELECT id, number, tenant, event_uid, event_id, event_type, seq, subscription_id, generation, 'cancelled', $3,
        attempts, created_at, now(), 0, 0, '' FROM gone
    ON CONFLICT DO NOTHING
)
SELECT count(*) FROM gone`

// setFree sets free what is held of a subscription and returns how much that was.
func (l *ledger) setFree(ctx context.Context, subscription uuid.UUID) (int64, error) {
	return l.chunks(ctx, func(ctx context.Context, tx *sql.Tx) (n int64, err error) {
		res, err := tx.ExecContext(ctx, setFree, subscription, followChunk)
		if err != nil {
			return 0, fmt.Errorf("set free deferrals of %s: %w", subscription, err)
		}
		return res.RowsAffected()
	})
}

// cancelPending cancels what is pending of a subscription and returns how much that was.
func (l *ledger) cancelPending(ctx context.Context, subscription uuid.UUID, reason Reason) (int64, error) {
	return l.chunks(ctx, func(ctx context.Context, tx *sql.Tx) (n int64, err error) {
		if err := tx.QueryRowContext(ctx, cancelPending, subscription, followChunk, string(reason)).Scan(&n); err != nil {
			return 0, fmt.Errorf("cancel deferrals of %s: %w", subscription, err)
		}
		return n, nil
	})
}

// chunks repeats a transaction until it has less to do than it could.
func (l *ledger) chunks(ctx context.Context, do func(context.Context, *sql.Tx) (int64, error)) (total int64, err error) {
	for {
		var n int64
		err := postgres.Retry(ctx, l.db, func(ctx context.Context, tx *sql.Tx) (err error) {
			n, err = do(ctx, tx)
			return err
		})
		if err != nil {
			return total, err
		}
		total += n
		if n < followChunk {
			return total, nil
		}
	}
}
