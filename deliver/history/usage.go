package history

import (
	"context"

	"github.com/fanfarehq/fanfare/internal/event"
	"github.com/fanfarehq/fanfare/internal/quota"
)

// Usage is how many deliveries of a tenant's latest events ended per second.
func (c *Counts) Usage(ctx context.Context, tenant string) (map[quota.Name]int64, error) {
	n, err := quota.PerSecond(ctx, c.db, quota.Rows{Table: "deliveries", Key: "id", First: event.FirstUID}, tenant)
	if err != nil {
		return nil, err
	}
	return map[quota.Name]int64{quota.DeliveriesPerSecond: n}, nil
}
