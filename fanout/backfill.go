package fanout

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"

	"github.com/fanfarehq/fanfare/deliver"
	"github.com/fanfarehq/fanfare/internal/api"
	"github.com/fanfarehq/fanfare/subscriptions"
)

// Backfill gives new subscriptions their past. It is a replay that makes only what was never made: what was accepted
// around a subscription's birth is matched live or not, so it waits until that is decided and in the ledger.
type Backfill struct {
	DB *sql.DB
	// MaxAge is how long the stream keeps events: what is older cannot be had.
	MaxAge time.Duration
	Now    func() time.Time // nil means time.Now
}

var _ subscriptions.Backfill = Backfill{}.Begin

// Begin writes the replay of a subscription that is being created. A Replayer does the rest.
func (b Backfill) Begin(ctx context.Context, tx *sql.Tx, sub *subscriptions.Subscription, since time.Time) (uuid.UUID, error) {
	now := time.Now()
	if b.Now != nil {
		now = b.Now()
	}
	if oldest := now.Add(-b.MaxAge); since.Before(oldest) {
		return uuid.Nil, &subscriptions.Invalid{Faults: []subscriptions.Fault{{Field: "since", Message: fmt.Sprintf(
			"must not be before %s: events are kept for %s", oldest.UTC().Add(time.Second).Format(time.RFC3339), b.MaxAge)}}}
	}
	made, err := newReplayStore(b.DB).createIn(ctx, tx, &replay{
		id: newID(now), tenant: sub.Tenant, subscription: uuid.NullUUID{UUID: sub.ID, Valid: true}, only: deliver.OnlyMissing,
		span: deliver.Span{Since: api.Instant(since), Until: api.Instant(now)}, rate: defaultRate,
	})
	if errors.Is(err, errManyReplays) {
		return uuid.Nil, tooMany()
	}
	if err != nil {
		return uuid.Nil, fmt.Errorf("begin backfill: %w", err)
	}
	return made.id, nil
}

// settlePoll is how often a backfill looks whether what was accepted before it is in the ledger.
const settlePoll = 100 * time.Millisecond

// settlePatience bounds one wait for the recorder, well below a lease.
const settlePatience = 3 * time.Second

// settling is how far a backfill has waited. Another process begins anew, with a later end: that is as good.
type settling struct {
	seen   bool
	events uint64    // the last event that was in the stream after the subscription was created
	until  time.Time // just after its acceptance

	matched bool   // all up to there are matched
	tasks   uint64 // the last message of tasks then
}

// settle waits for the moment from which on the ledger tells which events the subscription got live. Whatever is stored
// later than the last event seen here is matched against subscriptions that are known with this one, and is none
// of the backfill's. What is before went through fan-out, then through a worker, then through a recorder; each is
// waited for, so that no pair is made twice.
func (r *Replayer) settle(ctx context.Context, p *replay, at *settling) (time.Duration, error) {
	if !at.seen {
		stream, err := r.JetStream.Stream(ctx, Stream)
		if err != nil {
			return 0, fmt.Errorf("look at stream %s: %w", Stream, err)
		}
		state := stream.CachedInfo().State
		at.events, at.until, at.seen = state.LastSeq, p.span.Until, true
		if end := state.LastTime.Add(time.Millisecond); end.After(at.until) {
			at.until = end
		}
	}
	if !at.matched {
		consumer, err := r.JetStream.Consumer(ctx, Stream, Durable)
		if err != nil {
			return 0, fmt.Errorf("look at consumer %s: %w", Durable, err)
		}
		info := consumer.CachedInfo()
		if info.AckFloor.Stream < at.events && (info.NumPending > 0 || info.NumAckPending > 0) {
			return settlePoll, nil
		}
		if at.tasks, err = r.Books.TasksEnd(ctx); err != nil {
			return 0, err
		}
		at.matched = true
	}
	if done, err := r.Books.TasksDone(ctx, at.tasks); err != nil || !done {
		return settlePoll, err
	}
	bounded, cancel := context.WithTimeout(ctx, settlePatience)
	defer cancel()
	if err := r.Books.CaughtUp(bounded); err != nil {
		return 0, err
	}
	return 0, r.store.settle(ctx, p, r.worker, *at)
}
