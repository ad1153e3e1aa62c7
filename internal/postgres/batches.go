package postgres

import (
	"context"
	"database/sql"
)

// InBatches repeats a statement that touches size rows at most, each time in a transaction of its own, until it finds fewer.
func InBatches(ctx context.Context, db *sql.DB, size int64, statement string, args ...any) error {
	for {
		res, err := db.ExecContext(ctx, statement, args...)
		if err != nil {
			return err
		}
		if n, err := res.RowsAffected(); err != nil || n < size {
			return err
		}
	}
}
