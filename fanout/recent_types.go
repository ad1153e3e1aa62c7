package fanout

import (
	"context"
	"fmt"
	"time"

	"github.com/fanfarehq/fanfare/internal/event"
)

// recentMost is among how many of a tenant's newest events RecentTypes looks.
const recentMost = 10_000

// RecentTypes returns the event types that a tenant published since a time, in order: those of its newest 10,000 events.
func (l *Ledger) RecentTypes(ctx context.Context, tenant string, since time.Time) ([]string, error) {
	rows, err := l.db.QueryContext(ctx, `
SELECT DISTINCT type FROM (SELECT type FROM events WHERE tenant = $1 AND uid >= $2 ORDER BY uid DESC LIMIT $3) lately ORDER BY type`,
		tenant, event.FirstUID(since), recentMost)
	if err != nil {
		return nil, fmt.Errorf("list event types of tenant %s: %w", tenant, err)
	}
	defer rows.Close()
	var types []string
	for rows.Next() {
		var name string
		if err := rows.Scan(&name); err != nil {
			return nil, fmt.Errorf("read event type of tenant %s: %w", tenant, err)
		}
		types = append(types, name)
	}
	if err := rows.Err(); err != nil {
		return nil, fmt.Errorf("list event types of tenant %s: %w", tenant, err)
	}
	return types, nil
}
