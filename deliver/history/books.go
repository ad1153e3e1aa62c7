package history

import (
	"context"
	"database/sql"
	"fmt"
	"math"
	"time"

	"github.com/google/uuid"

	"github.com/fanfarehq/fanfare/deliver/ledger"
	"github.com/fanfarehq/fanfare/deliver/outcome"
	"github.com/fanfarehq/fanfare/internal/postgres"
)

// Books are the ledger of deliveries as an audit reads it: what became of the events of a span, what does not add up,
// and what mends it. A delivery belongs to the span in which its event was accepted.
type Books struct {
	reader *Reader
	ledger *ledger.Ledger
}

// NewBooks makes Books.
func NewBooks(db *sql.DB) *Books {
	return &Books{reader: NewReader(db, nil), ledger: ledger.New(db)}
}

// Tally counts deliveries of all generations by their state.
type Tally struct {
	Delivered, Dead, Cancelled int64
	Pending                    int64 // held ones included
	Held                       int64
	Later                      int64 // those of the above that are of a later generation than the first
}

// Tally counts the deliveries of a span, an hour at a time so that no statement is long.
func (b *Books) Tally(ctx context.Context, span ledger.Span) (total Tally, err error) {
	err = b.byHour(ctx, span, func(part ledger.Span) error {
		t, err := b.reader.tally(ctx, part)
		total.Delivered += t.Delivered
		total.Dead += t.Dead
		total.Cancelled += t.Cancelled
		total.Pending += t.Pending
		total.Held += t.Held
		total.Later += t.Later
		return err
	})
	return total, err
}

// Shortage is an event that has not as many deliveries of the first generation as it matched subscriptions.
type Shortage struct {
	EventUID uuid.UUID
	Tenant   string
	EventID  string
	Seq      uint64
	Matched  int
	Found    int
}

// Shortages lists them, at most limit.
func (b *Books) Shortages(ctx context.Context, span ledger.Span, limit int) (list []Shortage, err error) {
	err = b.byHour(ctx, span, func(part ledger.Span) error {
		if len(list) >= limit {
			return nil
		}
		more, err := b.reader.shortages(ctx, part, limit-len(list))
		list = append(list, more...)
		return err
	})
	return list, err
}

// Kind names a fault of a delivery in a word.
type Kind string

// What an audit finds in the ledger of deliveries.
const (
	KindDuplicate      Kind = "delivery_duplicated"  // one generation of a delivery has two rows
	KindExtraAttempt   Kind = "attempt_duplicated"   // there are more attempts than were made
	KindMissingAttempt Kind = "attempt_missing"      // there are fewer
	KindAstray         Kind = "held_without_a_pause" // held, though its subscription is not paused
)

// Fault is a delivery that contradicts itself.
type Fault struct {
	Kind         Kind
	EventID      string
	EventUID     uuid.UUID
	Subscription uuid.UUID
	Generation   int
	Delivery     uuid.UUID
	expected     int // attempts that did not end it
}

// Faults lists the deliveries of a span that contradict themselves, at most limit of each kind. Attempts before
// a time may have been removed, and are not missed.
func (b *Books) Faults(ctx context.Context, span ledger.Span, attemptsSince time.Time, limit int) (list []Fault, err error) {
	err = b.byHour(ctx, span, func(part ledger.Span) error {
		more, err := b.reader.duplicates(ctx, part, limit)
		if err != nil {
			return err
		}
		list = append(list, more...)
		if part.Since.Before(attemptsSince) {
			return nil
		}
		more, err = b.reader.miscounted(ctx, part, limit)
		list = append(list, more...)
		return err
	})
	if err != nil {
		return nil, err
	}
	astray, err := b.reader.astray(ctx, span, limit)
	return append(list, astray...), err
}

// Mend makes a fault good.
func (b *Books) Mend(ctx context.Context, f Fault) error {
	err := postgres.Retry(ctx, b.reader.db, func(ctx context.Context, tx *sql.Tx) error {
		switch f.Kind {
		case KindDuplicate:
			return b.reader.dropDuplicates(ctx, tx, f)
		case KindExtraAttempt, KindMissingAttempt:
			return b.reader.recount(ctx, tx, f)
		default:
			return nil
		}
	})
	if err == nil && f.Kind == KindAstray {
		_, err = b.ledger.SetFree(ctx, f.Subscription)
	}
	if err != nil {
		return fmt.Errorf("mend %s of delivery %s: %w", f.Kind, f.Delivery, err)
	}
	return nil
}

// Receivers returns the subscriptions for which an event has a delivery of the first generation.
func (b *Books) Receivers(ctx context.Context, event uuid.UUID) (map[uuid.UUID]bool, error) {
	return b.reader.receivers(ctx, event, 0)
}

// Known returns the subscriptions for which an event has a delivery of any generation.
func (b *Books) Known(ctx context.Context, event uuid.UUID) (map[uuid.UUID]bool, error) {
	return b.reader.receivers(ctx, event, math.MaxInt32)
}

// GiveUp ends a delivery that was never made and cannot be any more, as the event's bytes are gone.
func (b *Books) GiveUp(ctx context.Context, s Shortage, eventType string, subscription uuid.UUID) error {
	at := outcome.TimeOf(s.EventUID)
	err := b.ledger.Write(ctx, []*outcome.Record{{
		Delivery: outcome.ID(s.EventUID, subscription, 0, at), EventUID: s.EventUID, EventID: s.EventID, EventType: eventType,
		Tenant: s.Tenant, Seq: s.Seq, Subscription: subscription, Step: 1, Outcome: outcome.Dead, Reason: outcome.ReasonExpired,
		CreatedAt: at, At: time.Now(),
	}})
	if err != nil {
		return fmt.Errorf("give up a delivery of event %s: %w", s.EventID, err)
	}
	return nil
}

// byHour calls do with the parts of a span, none longer than an hour, from the first thing that the ledger has in it to
// the last: the centuries before cost nothing.
func (b *Books) byHour(ctx context.Context, span ledger.Span, do func(ledger.Span) error) error {
	span, err := b.reader.within(ctx, span)
	if err != nil {
		return err
	}
	for from := span.Since; from.Before(span.Until); {
		to := from.Truncate(time.Hour).Add(time.Hour)
		if to.After(span.Until) {
			to = span.Until
		}
		if err := do(ledger.Span{Since: from, Until: to, Tenant: span.Tenant}); err != nil {
			return err
		}
		from = to
	}
	return nil
}
