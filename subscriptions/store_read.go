package subscriptions

import (
	"context"
	"database/sql"
	"fmt"

	"github.com/google/uuid"
	"github.com/lib/pq"

	"github.com/fanfarehq/fanfare/internal/postgres"
)

// querier is a pool, a connection or a transaction.
type querier interface {
	QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error)
	QueryRowContext(ctx context.Context, query string, args ...any) *sql.Row
}

// loadChunk is how many rows one statement of a load reads: few enough to end before any timeout.
const loadChunk = 50_000

// selectRevision asks for the revision and up to which one deletions were cleaned up.
const selectRevision = `SELECT value, horizon FROM revision`

// readRevision reads the revision and up to which one deletions were cleaned up.
func readRevision(ctx context.Context, q querier) (value, horizon int64, err error) {
	if err := q.QueryRowContext(ctx, selectRevision).Scan(&value, &horizon); err != nil {
		return 0, 0, fmt.Errorf("read revision: %w", err)
	}
	return value, horizon, nil
}

// readAll reads every subscription that is not deleted. Rows that change meanwhile may come in either state.
func readAll(ctx context.Context, q querier, take func(*row) error) error {
	after := uuid.Nil
	for {
		n := 0
		err := readRows(ctx, q, func(r *row) error {
			n++
			after = r.id
			return take(r)
		}, `WHERE id > $1 AND NOT deleted ORDER BY id LIMIT $2`, after, loadChunk)
		if err != nil || n < loadChunk {
			return err
		}
	}
}

// readRows reads subscriptions, one by one. The row is take's only until it returns.
func readRows(ctx context.Context, q querier, take func(*row) error, where string, args ...any) error {
	rows, err := q.QueryContext(ctx, `SELECT `+columns+` FROM subscriptions `+where, args...)
	r := &row{}
	into := r.into()
	err = postgres.Each(rows, err, func() error {
		if err := rows.Scan(into...); err != nil {
			return err
		}
		if err := take(r); err != nil {
			return err
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("read subscriptions: %w", err)
	}
	return nil
}

// delta is the event types that changed up to a revision.
type delta struct {
	revision, horizon int64
	types             []*EventType
}

// readChanges reads what changed after a revision, all as of one moment; rows go to take.
func readChanges(ctx context.Context, db *sql.DB, after int64, take func(*row) error) (*delta, error) {
	tx, err := db.BeginTx(ctx, &sql.TxOptions{Isolation: sql.LevelRepeatableRead, ReadOnly: true})
	if err != nil {
		return nil, fmt.Errorf("begin to read changes: %w", err)
	}
	defer tx.Rollback() //nolint:errcheck // it only reads
	c := &delta{}
	if c.revision, c.horizon, err = readRevision(ctx, tx); err != nil {
		return nil, err
	}
	if err := readRows(ctx, tx, take, `WHERE revision > $1`, after); err != nil {
		return nil, err
	}
	if c.types, err = readEventTypes(ctx, tx, `revision > $1`, after); err != nil {
		return nil, err
	}
	return c, nil
}

// typeColumns are those of readEventTypes.
const typeColumns = `tenant, name, description, schema, sample, scopes, archived, created_at, updated_at, deleted, revision,
	deprecated, replaced_by, validation, schema_version, dialect`

func readEventTypes(ctx context.Context, q querier, where string, args ...any) ([]*EventType, error) {
	rows, err := q.QueryContext(ctx, `SELECT `+typeColumns+` FROM event_types WHERE `+where, args...)
	types, err := postgres.Collect(rows, err, func(rows *sql.Rows) (*EventType, error) {
		t := &EventType{}
		err := rows.Scan(&t.Tenant, &t.Name, &t.Description, (*[]byte)(&t.Schema), (*[]byte)(&t.Sample),
			pq.Array(&t.Scopes), &t.Archived, &t.CreatedAt, &t.UpdatedAt, &t.Deleted, &t.Revision,
			&t.Deprecated, &t.ReplacedBy, &t.Validation, &t.SchemaVersion, &t.Dialect)
		if err != nil {
			return t, err
		}
		return t, nil
	})
	if err != nil {
		return nil, fmt.Errorf("read event types: %w", err)
	}
	return types, nil
}
