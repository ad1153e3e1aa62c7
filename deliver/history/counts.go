package history

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/google/uuid"

	"github.com/fanfarehq/fanfare/deliver/ledger"
	"github.com/fanfarehq/fanfare/internal/postgres"
)

// Counts tells what became of events, for those who show events.
type Counts struct {
	db     *sql.DB
	routes *routes
}

// NewCounts makes a Counts, which describes deliveries as Routes does.
func NewCounts(deps RoutesDeps) *Counts { return &Counts{db: deps.DB, routes: newRoutes(deps)} }

// Describe returns a delivery with its attempts, as the API shows it; nil if there is none.
func (c *Counts) Describe(ctx context.Context, delivery uuid.UUID) (json.RawMessage, error) {
	e, err := c.routes.Reader.Find(ctx, delivery, "")
	if errors.Is(err, ledger.ErrNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	shown, err := c.routes.show(ctx, e)
	if err != nil {
		return nil, err
	}
	raw, err := json.Marshal(shown.Body)
	if err != nil {
		return nil, fmt.Errorf("describe delivery %s: %w", delivery, err)
	}
	return raw, nil
}

// CountByState counts the deliveries of an event by their state.
func (c *Counts) CountByState(ctx context.Context, event uuid.UUID) (map[string]int, error) {
	rows, err := c.db.QueryContext(ctx, `
SELECT state, count(*) FROM deliveries WHERE `+ledger.OfEvent+` GROUP BY state
UNION ALL
SELECT 'pending', count(*) FROM deferrals p WHERE event_uid = $1 AND NOT EXISTS (SELECT FROM deliveries e WHERE e.id = p.id)`, event)
	counts := map[string]int{}
	err = postgres.Each(rows, err, func() error {
		var state string
		var n int
		if err := rows.Scan(&state, &n); err != nil {
			return err
		}
		counts[state] += n
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("count deliveries of event %s: %w", event, err)
	}
	return counts, nil
}
