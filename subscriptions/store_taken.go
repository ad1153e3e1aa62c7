package subscriptions

import (
	"context"
	"fmt"
)

// takenMost is in how many of a tenant's newest subscriptions TakenTypes looks.
const takenMost = 1000

// TakenTypes returns the event types and patterns that a tenant's subscriptions take, in order: those of its newest 1,000.
func (s *Store) TakenTypes(ctx context.Context, tenant string) ([]string, error) {
	rows, err := s.db.QueryContext(ctx, `
SELECT DISTINCT unnest(event_types) AS type FROM (
    SELECT event_types FROM subscriptions WHERE tenant = $1 AND NOT deleted ORDER BY id DESC LIMIT $2) newest ORDER BY type`, tenant, takenMost)
	if err != nil {
		return nil, fmt.Errorf("list event types of subscriptions: %w", err)
	}
	defer rows.Close()
	var types []string
	for rows.Next() {
		var name string
		if err := rows.Scan(&name); err != nil {
			return nil, fmt.Errorf("read event type of subscriptions: %w", err)
		}
		types = append(types, name)
	}
	if err := rows.Err(); err != nil {
		return nil, fmt.Errorf("list event types of subscriptions: %w", err)
	}
	return types, nil
}
