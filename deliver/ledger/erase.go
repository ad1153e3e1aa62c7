package ledger

import (
	"context"
	"database/sql"
	"fmt"

	"github.com/google/uuid"
	"github.com/lib/pq"

	"github.com/fanfarehq/fanfare/internal/postgres"
)

// Eraser removes what the ledger of deliveries knows of contents: pending deliveries are cancelled, responses and
// kept bytes go. The rows stay, and with them the counts. All may be repeated.
type Eraser struct {
	ledger *Ledger
}

// NewEraser makes an Eraser.
func NewEraser(db *sql.DB) *Eraser { return &Eraser{ledger: New(db)} }

// EraseTenant removes all deliveries of a tenant, with their attempts. It goes on where it was stopped.
func (e *Eraser) EraseTenant(ctx context.Context, tenant string) error {
	for _, table := range []string{"deferrals", "deliveries"} {
		if err := e.ledger.forget(ctx, table, tenant); err != nil {
			return fmt.Errorf("erase %s of tenant %s: %w", table, tenant, err)
		}
	}
	return nil
}

// countMost is how many rows of a table are counted: a count must not take longer than a turn of the erasure.
const countMost = 1_000_000

// CountTenant counts what EraseTenant has to remove, of each table no more than countMost rows.
func (e *Eraser) CountTenant(ctx context.Context, tenant string) (n int64, err error) {
	err = e.ledger.DB.QueryRowContext(ctx, `
SELECT (SELECT count(*) FROM (SELECT FROM deferrals WHERE tenant = $1 LIMIT $2) AS counted)
    + (SELECT count(*) FROM (SELECT FROM deliveries WHERE tenant = $1 LIMIT $2) AS counted)`, tenant, countMost).Scan(&n)
	if err != nil {
		return 0, fmt.Errorf("count deliveries of tenant %s: %w", tenant, err)
	}
	return n, nil
}

// EraseEvents removes the kept bytes of events.
func (e *Eraser) EraseEvents(ctx context.Context, events []uuid.UUID) error {
	if _, err := e.ledger.DB.ExecContext(ctx, `DELETE FROM event_data WHERE uid = ANY($1)`, pq.Array(events)); err != nil {
		return fmt.Errorf("erase kept events: %w", err)
	}
	return nil
}

// forget removes all rows of a tenant from one of the tables of deliveries, and what belongs to them: a range of ids in one
// transaction, so that none is long and each looks into few partitions.
func (l *Ledger) forget(ctx context.Context, table, tenant string) error {
	for {
		n := 0
		err := postgres.Retry(ctx, l.DB, func(ctx context.Context, tx *sql.Tx) (err error) {
			n, err = forgetRange(ctx, tx, table, tenant)
			return err
		})
		if err != nil || n < FollowChunk {
			return err
		}
	}
}

func forgetRange(ctx context.Context, tx *sql.Tx, table, tenant string) (n int, err error) {
	rows, err := tx.QueryContext(ctx, `SELECT id FROM `+table+` WHERE tenant = $1 ORDER BY id LIMIT $2`, tenant, FollowChunk)
	if err != nil {
		return 0, err
	}
	ids, err := collectIDs(rows)
	if err != nil || len(ids) == 0 {
		return 0, err
	}
	first, last := ids[0], ids[len(ids)-1]
	for _, statement := range []string{
		`DELETE FROM attempts WHERE delivery_id BETWEEN $1 AND $2 AND delivery_id = ANY($3)`,
		`DELETE FROM hidden_deliveries WHERE delivery_id BETWEEN $1 AND $2 AND delivery_id = ANY($3)`,
		`DELETE FROM ` + table + ` WHERE id BETWEEN $1 AND $2 AND id = ANY($3)`,
	} {
		if _, err := tx.ExecContext(ctx, statement, first, last, pq.Array(ids)); err != nil {
			return 0, err
		}
	}
	return len(ids), nil
}

func collectIDs(rows *sql.Rows) (ids []uuid.UUID, err error) {
	defer rows.Close()
	for rows.Next() {
		var id uuid.UUID
		if err := rows.Scan(&id); err != nil {
			return nil, err
		}
		ids = append(ids, id)
	}
	return ids, rows.Err()
}

// EraseEvent erases all deliveries of an event.
func (e *Eraser) EraseEvent(ctx context.Context, event uuid.UUID) error {
	if err := e.ledger.erase(ctx, erasure{
		pending:   `event_uid = $1`,
		responses: OfEvent,
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
func (l *Ledger) erase(ctx context.Context, of erasure) error {
	for _, statement := range []string{
		// Attempts first: they are found by deliveries that are still there.
		`WITH chunk AS (
    SELECT a.delivery_id, a.number FROM attempts a
    WHERE a.delivery_id IN (SELECT id FROM deferrals WHERE ` + of.pending + ` UNION ALL SELECT id FROM deliveries WHERE ` + of.responses + `)
        AND (a.response IS NOT NULL OR a.error <> '' OR a.response_headers IS NOT NULL) LIMIT $2),
done AS (UPDATE attempts a SET response = NULL, error = '', response_headers = NULL FROM chunk WHERE a.delivery_id = chunk.delivery_id AND a.number = chunk.number)
SELECT count(*) FROM chunk`,
		// Some may have ended meanwhile: a chunk is counted by the rows that it removed.
		cancelled("id IN (SELECT id FROM deferrals WHERE "+of.pending+" LIMIT $2)", "'cancelled'") +
			", ended AS (" + endCancelled("'cancelled'") + ") SELECT count(*) FROM gone",
		`WITH chunk AS (
    SELECT id FROM deliveries WHERE ` + of.responses + ` AND (response IS NOT NULL OR error <> '' OR response_headers IS NOT NULL) LIMIT $2),
done AS (UPDATE deliveries SET response = NULL, error = '', response_headers = NULL WHERE id IN (SELECT id FROM chunk))
SELECT count(*) FROM chunk`,
		`WITH gone AS (DELETE FROM event_data WHERE ` + of.kept + ` RETURNING uid) SELECT count(*) FROM gone`,
	} {
		if _, err := l.chunks(ctx, func(ctx context.Context, tx *sql.Tx) (int64, error) {
			var n int64
			err := tx.QueryRowContext(ctx, statement, append(of.args, FollowChunk)...).Scan(&n)
			return n, err
		}); err != nil {
			return err
		}
	}
	return nil
}
