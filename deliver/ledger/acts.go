package ledger

import (
	"context"
	"database/sql"
	"fmt"
	"time"

	"github.com/google/uuid"

	"github.com/fanfarehq/fanfare/deliver/outcome"
	"github.com/fanfarehq/fanfare/internal/postgres"
)

// hurry makes a pending delivery due now, unless it is in flight. Asked for by hand, it is attempted once even if its
// subscription is paused. What waits for its turn goes on waiting.
const hurry = `
UPDATE deferrals SET due_at = now(), claim_at = now(), by_hand = by_hand OR held, held = false, worker = ''
WHERE id = $1 AND NOT waits AND (worker = '' OR claim_at <= now())`

// again makes a delivery of a later generation, due now, or once it has its turn. It has not failed yet, so it waits for a place.
var again = IntoOrder + `)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, CASE WHEN $11::uuid IS NULL THEN 'busy' ELSE 'key_blocked' END, 0, 1,
    $9, $11::uuid IS NOT NULL, $10, now(), now(), $11::uuid, $11::uuid IS NOT NULL)`

// Retry makes a delivery due now: itself while it is pending, else a new generation of it, which takes its place in the
// order of a key, if there is one. It returns which.
func (l *Ledger) Retry(ctx context.Context, e Entry, key uuid.NullUUID, now time.Time) (id uuid.UUID, err error) {
	err = postgres.Retry(ctx, l.DB, func(ctx context.Context, tx *sql.Tx) error {
		// Two who ask at the same time get the same generation.
		if _, err := tx.ExecContext(ctx, `SELECT pg_advisory_xact_lock(hashtextextended($1, 0))`, e.EventUID.String()+e.Subscription.String()); err != nil {
			return err
		}
		last, err := ScanEntry(tx.QueryRowContext(ctx, `
SELECT `+EndedEntry+` FROM deliveries WHERE `+OfEvent+` AND subscription_id = $2
UNION ALL
SELECT `+PendingEntry+` FROM deferrals WHERE event_uid = $1 AND subscription_id = $2
ORDER BY generation DESC, state LIMIT 1`, e.EventUID, e.Subscription))
		if err != nil {
			return err
		}
		if last.State == outcome.Pending {
			id = last.ID
			_, err = tx.ExecContext(ctx, hurry, id)
			return err
		}
		id = outcome.ID(e.EventUID, e.Subscription, last.Generation+1, now)
		if _, err = tx.ExecContext(ctx, again, id, e.Tenant, e.EventUID, e.EventID, e.EventType, int64(e.Seq), e.Subscription,
			last.Generation+1, e.Test, now, key); err != nil {
			return err
		}
		_, err = tx.ExecContext(ctx, supersedeOne, e.EventUID, e.Subscription, id)
		return err
	})
	if err != nil {
		return id, fmt.Errorf("retry delivery %s: %w", e.ID, err)
	}
	return id, nil
}

// CancelOne ends one pending delivery; an attempt in flight is not called back, but changes nothing any more.
var CancelOne = cancelled("id = $1", "$2") + endCancelled("$2")

// Cancel ends a pending delivery.
func (l *Ledger) Cancel(ctx context.Context, id uuid.UUID) error {
	return postgres.Retry(ctx, l.DB, func(ctx context.Context, tx *sql.Tx) error {
		if _, err := tx.ExecContext(ctx, CancelOne, id, string(outcome.ReasonCancelled)); err != nil {
			return fmt.Errorf("cancel delivery %s: %w", id, err)
		}
		return nil
	})
}
