package fanout

import (
	"context"

	"github.com/fanfarehq/fanfare/internal/event"
	"github.com/fanfarehq/fanfare/internal/quota"
)

// Usage is how many events of a tenant were accepted per second lately.
func (l *Ledger) Usage(ctx context.Context, tenant string) (map[quota.Name]int64, error) {
	n, err := quota.PerSecond(ctx, l.db, quota.Rows{Table: "events", Key: "uid", First: event.FirstUID}, tenant)
	if err != nil {
		return nil, err
	}
	return map[quota.Name]int64{quota.EventsPerSecond: n}, nil
}
