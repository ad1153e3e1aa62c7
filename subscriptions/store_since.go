package subscriptions

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"

	"github.com/fanfarehq/fanfare/internal/postgres"
)

// Backfill begins to send a new subscription the events accepted since a time, as part of the transaction that creates
// it, and returns the id by which its progress is asked for. An *Invalid says that the time cannot be had.
type Backfill func(ctx context.Context, tx *sql.Tx, sub *Subscription, since time.Time) (uuid.UUID, error)

// errNoBackfill says that this Store was told of nobody who sends the past.
var errNoBackfill = errors.New("no backfill")

// OnSince says who sends the past to subscriptions that ask for it. It is called before the Store is used.
func (s *Store) OnSince(b Backfill) { s.birth = b }

// CreateSince is Create for a subscription that also receives the events accepted since a time. It returns the
// backfill's id. The subscription and its backfill are there together, or neither is.
func (s *Store) CreateSince(ctx context.Context, sub *Subscription, since time.Time) (backfill uuid.UUID, err error) {
	if s.birth == nil {
		return uuid.Nil, errNoBackfill
	}
	if since.After(s.now()) {
		return uuid.Nil, &Invalid{Faults: []Fault{{Field: "since", Message: "must not be in the future"}}}
	}
	args, err := s.birthArgs(ctx, sub)
	if err != nil {
		return uuid.Nil, err
	}
	err = postgres.Retry(ctx, s.db, func(ctx context.Context, tx *sql.Tx) (err error) {
		if backfill, err = s.birth(ctx, tx, sub, since); err != nil {
			return err
		}
		// Last, as the revision is locked from here to the commit.
		return s.insert(ctx, tx, sub, args)
	})
	if err != nil {
		return uuid.Nil, fmt.Errorf("create subscription with its past: %w", err)
	}
	return backfill, nil
}
