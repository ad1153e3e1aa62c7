package postgres

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
)

// poolerRounds is how often two connections are compared: a pooler in transaction mode may give both servers of their own
// a few times.
const poolerRounds = 4

// errTransactionPooling is a URL that leads to a pooler which gives a session to each transaction. Fanfare prepares
// statements, sets timeouts and holds locks for a session, which would meet those of other clients there.
var errTransactionPooling = errors.New("a connection pooler in transaction (or statement) mode is between; Fanfare needs " +
	"sessions of its own: connect to Postgres itself, or to a pool in session mode (PgBouncer: pool_mode = session)")

// refuseTransactionPooling finds out whether each connection keeps its server process. Two connections that are open at once
// never share one, and one never changes it, unless a pooler hands them out for each transaction.
func refuseTransactionPooling(ctx context.Context, db *sql.DB) error {
	if db.Stats().MaxOpenConnections == 1 {
		return nil // two connections would wait for each other
	}
	first, err := db.Conn(ctx)
	if err != nil {
		return fmt.Errorf("connect to Postgres: %w", err)
	}
	defer first.Close()
	second, err := db.Conn(ctx)
	if err != nil {
		return fmt.Errorf("connect to Postgres: %w", err)
	}
	defer second.Close()
	seen := map[int]*sql.Conn{}
	for range poolerRounds {
		for _, conn := range []*sql.Conn{first, second} {
			var pid int
			if err := conn.QueryRowContext(ctx, "SELECT pg_backend_pid()").Scan(&pid); err != nil {
				return fmt.Errorf("connect to Postgres: %w", err)
			}
			if other, ok := seen[pid]; ok && other != conn {
				return errTransactionPooling
			}
			seen[pid] = conn
		}
	}
	if len(seen) != 2 {
		return errTransactionPooling
	}
	return nil
}
