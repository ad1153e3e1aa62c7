package replay

import (
	"context"
	"database/sql"
	"fmt"
	"time"

	"github.com/google/uuid"

	"github.com/fanfarehq/fanfare/deliver/ledger"
	"github.com/fanfarehq/fanfare/internal/api"
	"github.com/fanfarehq/fanfare/internal/quota"
	"github.com/fanfarehq/fanfare/subscriptions"
)

// Backfill gives new subscriptions their past. It is a replay that makes only deliveries that were never made: an event accepted
// around a subscription's birth is matched live or not, so it waits until that is decided and in the ledger.
type Backfill struct {
	DB *sql.DB
	// MaxAge is how long the stream keeps events: older ones are gone.
	MaxAge time.Duration
	Quotas *quota.Quotas
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
	made, err := (&replayStore{db: b.DB, quotas: b.Quotas}).createIn(ctx, tx, &replay{
		id: newID(now), tenant: sub.Tenant, subscription: uuid.NullUUID{UUID: sub.ID, Valid: true}, only: ledger.OnlyMissing,
		span: ledger.Span{Since: api.Instant(since), Until: api.Instant(now)}, rate: defaultRate,
	})
	if err != nil {
		return uuid.Nil, fmt.Errorf("begin backfill: %w", err)
	}
	return made.id, nil
}
