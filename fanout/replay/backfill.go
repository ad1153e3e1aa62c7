package replay

import (
	"context"
	"database/sql"
	"fmt"
	"time"

	"github.com/google/uuid"

	"github.com/fanfarehq/fanfare/deliver/ledger"
	"github.com/fanfarehq/fanfare/fanout"
	"github.com/fanfarehq/fanfare/internal/api"
	"github.com/fanfarehq/fanfare/internal/event"
	"github.com/fanfarehq/fanfare/internal/quota"
	"github.com/fanfarehq/fanfare/subscriptions"
)

// Backfill gives new subscriptions their past. It is a replay that makes only deliveries that were never made: an event accepted
// around a subscription's birth is matched live or not, so it waits until that is decided and in the ledger.
type Backfill struct {
	DB *sql.DB
	// MaxAge is how long the stream keeps events at most, and Oldest is where they begin now: older ones are gone.
	MaxAge time.Duration
	Oldest func(context.Context) (fanout.Oldest, error)
	Quotas *quota.Quotas
	Now    func() time.Time // nil means time.Now
}

var _ subscriptions.Backfill = Backfill{}.Begin

// tooEarly refuses a since.
func tooEarly(oldest time.Time, why string) error {
	return &subscriptions.Invalid{Faults: []subscriptions.Fault{{Field: "since", Message: fmt.Sprintf(
		"must not be before %s: %s", oldest.UTC().Format(time.RFC3339), why)}}}
}

// leftStream reports whether the stream has let go of an event of a tenant that was accepted at a time or later.
func leftStream(ctx context.Context, tx *sql.Tx, tenant string, since time.Time, oldest fanout.Oldest) (gone bool, err error) {
	until := event.FirstUID(oldest.At.Add(time.Millisecond)) // Later ones are there, and need not be looked at.
	if oldest.At.IsZero() {
		until = uuid.Max
	}
	err = tx.QueryRowContext(ctx, `SELECT EXISTS (SELECT FROM events
WHERE tenant = $1 AND uid >= $2 AND uid < $3 AND accepted_at >= $4 AND seq < $5 AND erased_at IS NULL)`,
		tenant, event.FirstUID(since), until, since, int64(oldest.Seq)).Scan(&gone)
	if err != nil {
		return false, fmt.Errorf("look for events that left the stream: %w", err)
	}
	return gone, nil
}

// Begin writes the replay of a subscription that is being created. A Replayer does the rest.
func (b Backfill) Begin(ctx context.Context, tx *sql.Tx, sub *subscriptions.Subscription, since time.Time) (uuid.UUID, error) {
	now := time.Now()
	if b.Now != nil {
		now = b.Now()
	}
	if oldest := now.Add(-b.MaxAge); since.Before(oldest) {
		return uuid.Nil, tooEarly(oldest.Add(time.Second), fmt.Sprintf("events are kept for %s", b.MaxAge))
	}
	oldest, err := b.Oldest(ctx)
	if err != nil {
		return uuid.Nil, err
	}
	gone, err := leftStream(ctx, tx, sub.Tenant, since, oldest)
	if err != nil {
		return uuid.Nil, err
	}
	if gone {
		from := now
		if !oldest.At.IsZero() {
			from = oldest.At.Add(now.Sub(oldest.At) / 10) // Some more leave until the caller asks again.
		}
		return uuid.Nil, tooEarly(from, "earlier events of the tenant have left the stream")
	}
	made, err := (&replayStore{db: b.DB, quotas: b.Quotas}).createIn(ctx, tx, &replay{
		id: newID(now), tenant: sub.Tenant, subscription: uuid.NullUUID{UUID: sub.ID, Valid: true}, only: ledger.OnlyMissing,
		span: ledger.Span{Since: api.Instant(since), Until: api.Instant(now)}, rate: defaultRate,
	})
	if err != nil {
		return uuid.Nil, fmt.Errorf("begin backfill: %w", err)
	}
	return made.id, nil
}
