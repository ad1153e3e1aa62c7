package fanout

import (
	"context"
	"fmt"
	"time"

	"github.com/fanfarehq/fanfare/internal/event"
	"github.com/fanfarehq/fanfare/internal/quota"
)

const (
	// usageSpan is over how long a rate is shown, and usageMost how many rows are counted for it.
	usageSpan = 10 * time.Second
	usageMost = 1_000_000
)

// Usage is how many events of a tenant were accepted per second lately.
func (l *Ledger) Usage(ctx context.Context, tenant string) (map[quota.Name]int64, error) {
	var n int64
	err := l.db.QueryRowContext(ctx, `SELECT count(*) FROM (SELECT FROM events WHERE tenant = $1 AND uid >= $2 LIMIT $3) lately`,
		tenant, event.FirstUID(time.Now().Add(-usageSpan)), usageMost).Scan(&n)
	if err != nil {
		return nil, fmt.Errorf("count events of tenant %s: %w", tenant, err)
	}
	seconds := int64(usageSpan / time.Second)
	return map[quota.Name]int64{quota.EventsPerSecond: (n + seconds - 1) / seconds}, nil
}
