package deliver

import (
	"context"
	"database/sql"
	"fmt"

	"github.com/google/uuid"
)

// Eraser removes what the ledger of deliveries knows of contents: pending deliveries are cancelled, responses and
// kept bytes go. The rows stay, and with them the counts. All may be repeated.
type Eraser struct {
	ledger *ledger
}

// NewEraser makes an Eraser.
func NewEraser(db *sql.DB) *Eraser { return &Eraser{ledger: newLedger(db)} }

// EraseTenant erases all deliveries of a tenant.
func (e *Eraser) EraseTenant(ctx context.Context, tenant string) error {
	if err := e.ledger.erase(ctx, erasure{
		pending:   `tenant = $1`,
		responses: `tenant = $1`,
		kept:      `uid IN (SELECT d.uid FROM event_data d JOIN events v ON v.uid = d.uid WHERE v.tenant = $1 LIMIT $2)`,
		args:      []any{tenant},
	}); err != nil {
		return fmt.Errorf("erase deliveries of tenant %s: %w", tenant, err)
	}
	return nil
}

// EraseEvent erases all deliveries of an event.
func (e *Eraser) EraseEvent(ctx context.Context, event uuid.UUID) error {
	if err := e.ledger.erase(ctx, erasure{
		pending:   `event_uid = $1`,
		responses: ofEvent,
		kept:      `uid IN (SELECT uid FROM event_data WHERE uid = $1 LIMIT $2)`,
		args:      []any{event},
	}); err != nil {
		return fmt.Errorf("erase deliveries of event %s: %w", event, err)
	}
	return nil
}

// erasure says which rows are meant, each condition with $1 and where it says so a bound $2.
type erasure struct {
	pending, responses, kept string
	args                     []any
}

// erase works in chunks, so that no transaction is long. An attempt in flight is not called back; what it brings back is
// void, as its row is gone.
func (l *ledger) erase(ctx context.Context, of erasure) error {
	for _, statement := range []string{
		// Attempts first: they are found by deliveries that are still there.
		`WITH chunk AS (
    SELECT a.delivery_id, a.number FROM attempts a
    WHERE a.delivery_id IN (SELECT id FROM deferrals WHERE ` + of.pending + ` UNION ALL SELECT id FROM deliveries WHERE ` + of.responses + `)
        AND (a.response IS NOT NULL OR a.error <> '') LIMIT $2)
UPDATE attempts a SET response = NULL, error = '' FROM chunk WHERE a.delivery_id = chunk.delivery_id AND a.number = chunk.number`,
		`WITH gone AS (
    DELETE FROM deferrals WHERE id IN (SELECT id FROM deferrals WHERE ` + of.pending + ` LIMIT $2)
    RETURNING id, number, tenant, event_uid, event_id, event_type, seq, subscription_id, generation, attempts, created_at
)
INSERT INTO deliveries (id, number, tenant, event_uid, event_id, event_type, seq, subscription_id, generation, state, reason,
    attempts, created_at, ended_at, duration_us, status, error)
SELECT id, number, tenant, event_uid, event_id, event_type, seq, subscription_id, generation, 'cancelled', 'cancelled',
    attempts, created_at, now(), 0, 0, '' FROM gone
ON CONFLICT DO NOTHING`,
		`UPDATE deliveries SET response = NULL, error = '' WHERE id IN (
    SELECT id FROM deliveries WHERE ` + of.responses + ` AND (response IS NOT NULL OR error <> '') LIMIT $2)`,
		`DELETE FROM event_data WHERE ` + of.kept,
	} {
		if _, err := l.chunks(ctx, func(ctx context.Context, tx *sql.Tx) (int64, error) {
			res, err := tx.ExecContext(ctx, statement, append(of.args, followChunk)...)
			if err != nil {
				return 0, err
			}
			return res.RowsAffected()
		}); err != nil {
			return err
		}
	}
	return nil
}

// Forget drops an event from the cache of this process.
func (e *Events) Forget(event uuid.UUID) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.cache.Remove(event)
}
