package history

import (
	"context"
	"encoding/json"
	"fmt"
	"reflect"

	"github.com/danielgtaylor/huma/v2"
	"github.com/google/uuid"

	"github.com/fanfarehq/fanfare/deliver/ledger"
	"github.com/fanfarehq/fanfare/internal/postgres"
)

// DeliverySchema is the schema of what DescribeLast returns.
func DeliverySchema(r huma.Registry) *huma.Schema {
	return r.Schema(reflect.TypeFor[deliveryDetail](), true, "")
}

// DescribeLast returns the last generation of an event's delivery to a subscription, with its attempts, as the API shows
// it; nil if there is none.
func (c *Counts) DescribeLast(ctx context.Context, event, subscription uuid.UUID) (json.RawMessage, error) {
	var id uuid.NullUUID
	err := c.db.QueryRowContext(ctx, `
SELECT (SELECT id FROM (
    SELECT id, generation FROM deliveries WHERE `+ledger.OfEvent+` AND subscription_id = $2
    UNION ALL
    SELECT id, generation FROM deferrals WHERE event_uid = $1 AND subscription_id = $2
) d ORDER BY generation DESC LIMIT 1)`, event, subscription).Scan(&id)
	if err != nil {
		return nil, fmt.Errorf("look for the delivery of event %s: %w", event, err)
	}
	if !id.Valid {
		return nil, nil
	}
	return c.Describe(ctx, id.UUID)
}

// MatchedThen reports whether an event has a delivery of generation 0 to a subscription: the event matched the subscription
// when it was fanned out. What a replay sends for the first time is of a later generation.
func (c *Counts) MatchedThen(ctx context.Context, event, subscription uuid.UUID) (matched bool, err error) {
	err = c.db.QueryRowContext(ctx, `
SELECT EXISTS (SELECT FROM deliveries WHERE `+ledger.OfEvent+` AND subscription_id = $2 AND generation = 0)
    OR EXISTS (SELECT FROM deferrals WHERE event_uid = $1 AND subscription_id = $2 AND generation = 0)`, event, subscription).Scan(&matched)
	if err != nil {
		return false, fmt.Errorf("look for the first delivery of event %s: %w", event, err)
	}
	return matched, nil
}

// Receivers returns the subscriptions for which an event has a delivery, of whatever generation, at most limit.
func (c *Counts) Receivers(ctx context.Context, event uuid.UUID, limit int) ([]uuid.UUID, error) {
	rows, err := c.db.QueryContext(ctx, `
SELECT subscription_id FROM deliveries WHERE `+ledger.OfEvent+`
UNION SELECT subscription_id FROM deferrals WHERE event_uid = $1
LIMIT $2`, event, limit)
	ids, err := postgres.Collect(rows, err, postgres.ScanOne[uuid.UUID])
	if err != nil {
		return nil, fmt.Errorf("look who received event %s: %w", event, err)
	}
	return ids, nil
}
