package history

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

// Usage is how many deliveries of a tenant's latest events ended per second.
func (c *Counts) Usage(ctx context.Context, tenant string) (map[quota.Name]int64, error) {
	var n int64
	err := c.db.QueryRowContext(ctx, `SELECT count(*) FROM (SELECT FROM deliveries WHERE tenant = $1 AND id >= $2 LIMIT $3) lately`,
		tenant, event.FirstUID(time.Now().Add(-usageSpan)), usageMost).Scan(&n)
	if err != nil {
		return nil, fmt.Errorf("count deliveries of tenant %s: %w", tenant, err)
	}
	seconds := int64(usageSpan / time.Second)
	return map[quota.Name]int64{quota.DeliveriesPerSecond: (n + seconds - 1) / seconds}, nil
}
