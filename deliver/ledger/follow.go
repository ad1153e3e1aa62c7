package ledger

import (
	"context"
	"database/sql"
	"fmt"

	"github.com/google/uuid"

	"github.com/fanfarehq/fanfare/deliver/outcome"
	"github.com/fanfarehq/fanfare/internal/postgres"
)

// FollowChunk is how many deferrals one transaction sets free or cancels: enough to be quick, few enough not to be
// in anybody's way.
const FollowChunk = 2000

// Change is a subscription whose deferrals may have to follow it.
type Change struct {
	ID       uuid.UUID
	Tenant   string
	Status   string
	Deleted  bool
	Revision int64
	stray    bool  // it has deferrals that have not followed it
	Count    int64 // of deferrals that followed it
}

// Revision returns that of the subscriptions.
func (l *Ledger) Revision(ctx context.Context) (n int64, err error) {
	if err := l.DB.QueryRowContext(ctx, `SELECT value FROM revision`).Scan(&n); err != nil {
		return 0, fmt.Errorf("read revision: %w", err)
	}
	return n, nil
}

// ChangedSince returns the subscriptions that changed after a revision, in order.
func (l *Ledger) ChangedSince(ctx context.Context, revision int64) ([]Change, error) {
	return l.changes(ctx, `
SELECT id, tenant, status, deleted, revision, false FROM subscriptions WHERE revision > $1
ORDER BY revision FETCH FIRST 1000 ROWS WITH TIES`, revision)
}

// strayPage is how many subscriptions one page of straying looks at.
const strayPage = 500

// nextStrays walks over the subscriptions that have deferrals, from one to the next by the index: its cost goes by the
// subscriptions of the page, not by their deferrals.
const nextStrays = `
WITH RECURSIVE page AS (
    (SELECT subscription_id AS id, 1 AS n FROM deferrals WHERE subscription_id > $1 ORDER BY subscription_id LIMIT 1)
    UNION ALL
    SELECT next.id, page.n + 1 FROM page CROSS JOIN LATERAL (
        SELECT subscription_id AS id FROM deferrals WHERE subscription_id > page.id ORDER BY subscription_id LIMIT 1
    ) next WHERE page.n < $2
)
SELECT w.id, coalesce(s.tenant, ''), coalesce(s.status, ''), coalesce(s.deleted, true), coalesce(s.revision, 0),
    s.id IS NULL OR s.deleted OR s.status = 'disabled'
        OR s.status <> 'paused' AND EXISTS (SELECT FROM deferrals d WHERE d.subscription_id = w.id AND d.held AND NOT d.waits)
FROM page w LEFT JOIN subscriptions s ON s.id = w.id ORDER BY w.id`

// Straying returns those of the next page of subscriptions after one whose deferrals may have not followed them, where the page
// ends, and whether there are more.
func (l *Ledger) Straying(ctx context.Context, after uuid.UUID) (list []Change, last uuid.UUID, more bool, err error) {
	page, err := l.changes(ctx, nextStrays, after, strayPage)
	if err != nil || len(page) == 0 {
		return nil, after, false, err
	}
	for _, c := range page {
		if c.stray {
			list = append(list, c)
		}
	}
	return list, page[len(page)-1].ID, len(page) == strayPage, nil
}

func (l *Ledger) changes(ctx context.Context, query string, args ...any) ([]Change, error) {
	rows, err := l.DB.QueryContext(ctx, query, args...)
	list, err := postgres.Collect(rows, err, func(rows *sql.Rows) (Change, error) {
		var c Change
		if err := rows.Scan(&c.ID, &c.Tenant, &c.Status, &c.Deleted, &c.Revision, &c.stray); err != nil {
			return c, err
		}
		return c, nil
	})
	if err != nil {
		return nil, fmt.Errorf("read changed subscriptions: %w", err)
	}
	return list, nil
}

// setFree makes the held deliveries of a subscription due, in the order of arrival: a microsecond apart, since claims
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

// cancelPending ends the pending deliveries of a subscription. Deliveries in flight are left to their worker: the next claim
// finds out for itself.
var cancelPending = cancelled(`id IN (
    SELECT id FROM deferrals WHERE subscription_id = $1 AND (worker = '' OR claim_at <= now())
    ORDER BY id LIMIT $2 FOR UPDATE SKIP LOCKED)`, "$3") + ", ended AS (" + endCancelled("$3") + ") SELECT count(*) FROM gone"

// FreeChunk sets free the first held deferrals of a subscription and returns how many those were.
func (l *Ledger) FreeChunk(ctx context.Context, subscription uuid.UUID) (n int64, err error) {
	err = postgres.Retry(ctx, l.DB, func(ctx context.Context, tx *sql.Tx) error {
		res, err := tx.ExecContext(ctx, setFree, subscription, FollowChunk)
		if err != nil {
			return fmt.Errorf("set free deferrals of %s: %w", subscription, err)
		}
		n, err = res.RowsAffected()
		return err
	})
	return n, err
}

// SetFree sets free all that is held of a subscription and returns how much that was.
func (l *Ledger) SetFree(ctx context.Context, subscription uuid.UUID) (total int64, err error) {
	for {
		n, err := l.FreeChunk(ctx, subscription)
		total += n
		if err != nil || n < FollowChunk {
			return total, err
		}
	}
}

// CancelChunk cancels the first pending deferrals of a subscription and returns how many those were.
func (l *Ledger) CancelChunk(ctx context.Context, subscription uuid.UUID, reason outcome.Reason) (n int64, err error) {
	err = postgres.Retry(ctx, l.DB, func(ctx context.Context, tx *sql.Tx) error {
		if err := tx.QueryRowContext(ctx, cancelPending, subscription, FollowChunk, string(reason)).Scan(&n); err != nil {
			return fmt.Errorf("cancel deferrals of %s: %w", subscription, err)
		}
		return nil
	})
	return n, err
}

// chunks repeats a transaction until it has less to do than it could.
func (l *Ledger) chunks(ctx context.Context, do func(context.Context, *sql.Tx) (int64, error)) (total int64, err error) {
	for {
		var n int64
		err := postgres.Retry(ctx, l.DB, func(ctx context.Context, tx *sql.Tx) (err error) {
			n, err = do(ctx, tx)
			return err
		})
		if err != nil {
			return total, err
		}
		total += n
		if n < FollowChunk {
			return total, nil
		}
	}
}
