package postgres

import (
	"context"
	"database/sql"
	"fmt"

	"github.com/fanfarehq/fanfare/internal/group"
)

// Batch writes the rows of many callers by one statement: what arrives while a statement runs goes together in the
// next one.
type Batch[T any] struct {
	rows *group.Committer[T]
}

// NewBatch makes a Batch. The statement inserts from arrays, one for each column, and must bear a row that is
// there already, for a group whose answer was lost may be written twice:
//
//	INSERT INTO t (a, b) SELECT * FROM unnest($1::text[], $2::bigint[]) ON CONFLICT DO NOTHING
//
// columns makes the arguments of the rows of a group, such as pq.Array(names), pq.Array(sizes), or Args of Columns.
func NewBatch[T any](db *sql.DB, limits group.Limits, statement string, columns func([]T) []any) *Batch[T] {
	write := func(ctx context.Context, rows []T) error {
		args := columns(rows)
		return repeat(ctx, func() error {
			_, err := db.ExecContext(ctx, statement, args...)
			return err
		})
	}
	return &Batch[T]{group.New(limits, nil, write)}
}

// Write returns when the row is committed. If the statement fails, every row of its group gets its error;
// ErrUnavailable when Postgres stays away.
func (b *Batch[T]) Write(ctx context.Context, row T) error {
	if err := b.rows.Do(ctx, row); err != nil {
		return fmt.Errorf("write a row: %w", err)
	}
	return nil
}
