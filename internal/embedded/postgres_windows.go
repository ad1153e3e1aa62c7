package embedded

import (
	"context"
	"errors"
)

// Postgres is a private Postgres server, which Windows has not: StartPostgres always fails.
type Postgres struct{}

// StartPostgres refuses. The private Postgres has a Unix socket instead of a port and a password, runs as an account of its
// own, and must end with this process.
func StartPostgres(context.Context, PostgresConfig) (*Postgres, error) {
	return nil, errors.New("Fanfare runs no Postgres of its own on Windows: set FANFARE_POSTGRES_URL to a server of yours")
}

// URL is empty.
func (*Postgres) URL() string { return "" }

// PID is 0.
func (*Postgres) PID() int { return 0 }

// Done is never closed.
func (*Postgres) Done() <-chan struct{} { return nil }

// Supervise waits until ctx ends.
func (*Postgres) Supervise(ctx context.Context) error {
	<-ctx.Done()
	return nil
}

// Stop does nothing.
func (*Postgres) Stop() error { return nil }
