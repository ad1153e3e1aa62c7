package ledger

import (
	"context"
	"database/sql"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/google/uuid"
	"github.com/lib/pq"

	"github.com/fanfarehq/fanfare/deliver/outcome"
	"github.com/fanfarehq/fanfare/internal/event"
	"github.com/fanfarehq/fanfare/internal/postgres"
	"github.com/fanfarehq/fanfare/internal/tenantkeys"
)

// Ledger is what Postgres holds of deliveries, and all SQL of this package: the writing of outcomes is in
// ledger_record.go, ledger_fresh.go and ledger_attempts.go, leases are in ledger_lease.go, what follows a subscription's
// change is in ledger_follow.go, and what the API reads is in ledger_read.go and ledger_walk.go.
type Ledger struct {
	DB   *sql.DB
	Keys *tenantkeys.Keys // nil: contents are stored in the clear

	allNew atomic.Bool // the last group that was written had no repeat: see writeOrdered

	mu    sync.Mutex
	stmts map[string]*sql.Stmt
}

// New makes the Ledger of a database; Close ends its prepared statements.
func New(db *sql.DB) *Ledger {
	return &Ledger{DB: db, stmts: make(map[string]*sql.Stmt)}
}

// With has the ledger seal and open contents with keys.
func (l *Ledger) With(keys *tenantkeys.Keys) *Ledger {
	l.Keys = keys
	return l
}

// prepare prepares statements that it has not prepared yet. It is called before a transaction begins: within
// one, the statement would wait for a second connection, which a small pool may not have.
func (l *Ledger) prepare(ctx context.Context, queries ...string) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, query := range queries {
		if l.stmts[query] != nil {
			continue
		}
		stmt, err := l.DB.PrepareContext(ctx, query) // It is kept until Close.
		if err != nil {
			return fmt.Errorf("prepare statement: %w", err)
		}
		l.stmts[query] = stmt
	}
	return nil
}

// exec runs a statement within a transaction, prepared if it has been.
func (l *Ledger) exec(ctx context.Context, tx *sql.Tx, query string, args ...any) (sql.Result, error) {
	l.mu.Lock()
	stmt := l.stmts[query]
	l.mu.Unlock()
	if stmt == nil {
		return tx.ExecContext(ctx, query, args...)
	}
	return tx.StmtContext(ctx, stmt).ExecContext(ctx, args...) // The transaction closes it.
}

// Close gives the prepared statements back.
func (l *Ledger) Close() {
	l.mu.Lock()
	defer l.mu.Unlock()
	for query, stmt := range l.stmts {
		_ = stmt.Close() // its connection may be gone
		delete(l.stmts, query)
	}
}

// query asks within a transaction, by a prepared statement if there is one.
func (l *Ledger) query(ctx context.Context, tx *sql.Tx, query string, args ...any) (*sql.Rows, error) {
	l.mu.Lock()
	stmt := l.stmts[query]
	l.mu.Unlock()
	if stmt == nil {
		return tx.QueryContext(ctx, query, args...)
	}
	return tx.StmtContext(ctx, stmt).QueryContext(ctx, args...) // The transaction closes it.
}

// Write records in one transaction of its own.
func (l *Ledger) Write(ctx context.Context, records []*outcome.Record) error {
	_, err := l.writeOrdered(ctx, records)
	return err
}

// Known returns which of the deliveries the ledger has, ended or put off.
func (l *Ledger) known(ctx context.Context, ids []uuid.UUID) (map[uuid.UUID]bool, error) {
	low, high := span(ids)
	texts := make([]string, len(ids))
	for i, id := range ids {
		texts[i] = id.String()
	}
	// The bounds say nothing new, but let Postgres leave out the partitions that cannot hold any.
	rows, err := l.DB.QueryContext(ctx, `
SELECT id FROM deliveries WHERE id = ANY($1) AND id BETWEEN $2 AND $3
UNION ALL
SELECT id FROM deferrals WHERE id = ANY($1)`, pq.Array(texts), low, high)
	known := make(map[uuid.UUID]bool)
	err = postgres.Each(rows, err, func() error {
		var id uuid.UUID
		if err := rows.Scan(&id); err != nil {
			return err
		}
		known[id] = true
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("read delivery ids: %w", err)
	}
	return known, nil
}

// span returns the lowest and the highest of ids.
func span(ids []uuid.UUID) (low, high uuid.UUID) {
	low = uuid.Max
	for _, id := range ids {
		if string(id[:]) < string(low[:]) {
			low = id
		}
		if string(id[:]) > string(high[:]) {
			high = id
		}
	}
	return low, high
}

// Clock returns the time by Postgres, which all leases go by.
func (l *Ledger) Clock(ctx context.Context) (t time.Time, err error) {
	if err := l.DB.QueryRowContext(ctx, `SELECT clock_timestamp()`).Scan(&t); err != nil {
		return t, fmt.Errorf("ask the time: %w", err)
	}
	return t, nil
}

// EventBody returns the kept bytes of an event; ErrEventGone where there are none.
func (l *Ledger) EventBody(ctx context.Context, uid uuid.UUID) ([]byte, error) {
	var body []byte
	switch err := l.DB.QueryRowContext(ctx, `SELECT body FROM event_data WHERE uid = $1`, uid).Scan(&body); err {
	case nil:
		return body, nil
	case sql.ErrNoRows:
		return nil, event.ErrGone
	default:
		return nil, fmt.Errorf("read event %s: %w", uid, err)
	}
}
