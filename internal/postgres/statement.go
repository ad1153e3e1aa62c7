package postgres

import (
	"context"
	"database/sql"
	"fmt"
	"sync"
)

// Statement is a statement of a hot path: it is prepared at its first use, on each connection that it comes to, so that the
// server parses and plans it there once. It lives as long as its pool.
type Statement struct {
	db    *sql.DB
	query string

	mu       sync.Mutex
	prepared *sql.Stmt
}

// NewStatement makes a Statement; it asks nothing of the server.
func NewStatement(db *sql.DB, query string) *Statement { return &Statement{db: db, query: query} }

// Exec runs the statement.
func (s *Statement) Exec(ctx context.Context, args ...any) (sql.Result, error) {
	if err := s.prepare(ctx); err != nil {
		return nil, err
	}
	return s.prepared.ExecContext(ctx, args...)
}

// Scan runs the statement, which takes no arguments, and reads its only row.
func (s *Statement) Scan(ctx context.Context, into ...any) error {
	if err := s.prepare(ctx); err != nil {
		return err
	}
	return s.prepared.QueryRowContext(ctx).Scan(into...)
}

// prepare prepares the statement once; from then on prepared does not change. Whoever comes meanwhile waits.
func (s *Statement) prepare(ctx context.Context) (err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.prepared != nil {
		return nil
	}
	if s.prepared, err = s.db.PrepareContext(ctx, s.query); err != nil {
		return fmt.Errorf("prepare statement: %w", err)
	}
	return nil
}
