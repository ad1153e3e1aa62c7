package postgres

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"github.com/fanfarehq/fanfare/internal/retry"
)

const (
	// maxTries and the pauses between them bound what a Retry adds to the work itself to about two seconds.
	maxTries = 6
	// patience is when no new try begins: those before it may have been long, on a server that hangs.
	patience = 10 * time.Second
)

var pauses = retry.Pauses{First: 20 * time.Millisecond, Most: time.Second}

// ErrUnknown says that the connection was lost while a transaction was being committed: it may be committed
// or not. It comes together with ErrUnavailable.
var ErrUnknown = errors.New("unknown whether the transaction was committed")

// Retry runs fn in a transaction and commits it. The whole is tried again, a few times, when the server chose
// the transaction as the victim of a conflict or the connection was lost before the commit was sent. So fn
// may run several times; what it did before is rolled back.
//
// A commit whose answer was lost is not tried again: that is ErrUnknown. Where Postgres stays away, the
// error is ErrUnavailable, with the last cause.
func Retry(ctx context.Context, db *sql.DB, fn func(context.Context, *sql.Tx) error) error {
	return repeat(ctx, func() error { return transact(ctx, db, fn) })
}

// repeat repeats a piece of work that leaves nothing behind when it fails.
func repeat(ctx context.Context, work func() error) error {
	tries, start := 0, time.Now()
	return mark(retry.Until(ctx, pauses, work, func(err error) bool {
		tries++
		again := isConflict(err) || IsUnavailable(err) && !errors.Is(err, ErrUnknown)
		return again && tries < maxTries && time.Since(start) <= patience
	}))
}

// transact runs fn in one transaction.
func transact(ctx context.Context, db *sql.DB, fn func(context.Context, *sql.Tx) error) error {
	tx, err := db.BeginTx(ctx, nil)
	if err != nil {
		return fmt.Errorf("begin transaction: %w", err)
	}
	defer tx.Rollback() //nolint:errcheck // after a commit there is nothing to roll back; else the connection is lost
	if err := fn(ctx, tx); err != nil {
		return err
	}
	err = tx.Commit()
	switch {
	case err == nil:
		return nil
	case IsUnavailable(err):
		return fmt.Errorf("commit transaction: %w: %w", ErrUnknown, err)
	default:
		return fmt.Errorf("commit transaction: %w", err)
	}
}

// mark makes errors.Is(err, ErrUnavailable) true of what IsUnavailable says so of.
func mark(err error) error {
	if IsUnavailable(err) && !errors.Is(err, ErrUnavailable) {
		return fmt.Errorf("%w: %w", ErrUnavailable, err)
	}
	return err
}
