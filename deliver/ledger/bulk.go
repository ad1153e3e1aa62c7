package ledger

import (
	"context"
	"database/sql"
	"fmt"

	"github.com/google/uuid"

	"github.com/fanfarehq/fanfare/deliver/outcome"
)

// HurryAll makes pending deliveries due now, within a transaction, as Retry does of one. It returns how many it found waiting.
func (r *Repeater) HurryAll(ctx context.Context, tx *sql.Tx, ids []uuid.UUID) (n int, err error) {
	return each(ctx, ids, func(id uuid.UUID) (sql.Result, error) { return tx.ExecContext(ctx, hurry, id) })
}

// CancelAll ends pending deliveries, within a transaction. It returns how many it found pending.
func (r *Repeater) CancelAll(ctx context.Context, tx *sql.Tx, ids []uuid.UUID) (n int, err error) {
	return each(ctx, ids, func(id uuid.UUID) (sql.Result, error) {
		return tx.ExecContext(ctx, CancelOne, id, string(outcome.ReasonCancelled))
	})
}

func each(ctx context.Context, ids []uuid.UUID, do func(uuid.UUID) (sql.Result, error)) (n int, err error) {
	for _, id := range ids {
		result, err := do(id)
		if err != nil {
			return n, fmt.Errorf("change delivery %s: %w", id, err)
		}
		changed, err := result.RowsAffected()
		if err != nil {
			return n, err
		}
		n += int(changed)
	}
	return n, ctx.Err()
}
