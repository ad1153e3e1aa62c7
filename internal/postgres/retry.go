package postgres

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"
)

const (
	// maxTries and the pauses between them bound what a Retry adds to the work itself to about two seconds.
	maxTries   = 6
	firstPause = 20 * time.Millisecond
	maxPause   = time.Second
	// patience is when no new try begins: those before it may have been long, on a server that hangs.
	patience = 10 * time.Second
)

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
	return retry(ctx, func() error { return transact(ctx, db, fn) })
}

// retry repeats a piece of work that leaves nothing behind when it fails.
func retry(ctx context.Context, work func() error) error {
	pause, start := firstPause, time.Now()
	for try := 1; ; try++ {
		err := work()
		again := isConflict(err) || IsUnavailable(err) && !errors.Is(err, ErrUnknown)
		if !again || ctx.Err() != nil || try == maxTries || time.Since(start) > patience {
			return mark(err)
		}
		select {
		case <-ctx.Done():
			return mark(err)
		case <-time.After(pause/2 + rand.N(pause)):
		}
		pause = min(2*pause, maxPause)
	}
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
