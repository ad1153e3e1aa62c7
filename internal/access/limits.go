package access

import (
	"context"

	"github.com/fanfarehq/fanfare/internal/quota"
)

// Usage says how much a tenant has of what a stage holds.
type Usage func(ctx context.Context, tenant string) (map[quota.Name]int64, error)

// OnUsage names who says how much a tenant has. Call it before the routes are served.
func (a *Access) OnUsage(by ...Usage) { a.usage = append(a.usage, by...) }

// tenantLimits are a tenant's own limits as they are shown. Null where the default holds.
type tenantLimits struct {
	Subscriptions       *int64 `json:"subscriptions" nullable:"true"`
	SubscriptionBytes   *int64 `json:"subscription_bytes" nullable:"true"`
	Keys                *int64 `json:"keys" nullable:"true"`
	EventTypes          *int64 `json:"event_types" nullable:"true"`
	Replays             *int64 `json:"replays" nullable:"true"`
	Tails               *int64 `json:"tails" nullable:"true"`
	EventsPerSecond     *int64 `json:"events_per_second" nullable:"true"`
	DeliveriesPerSecond *int64 `json:"deliveries_per_second" nullable:"true"`
}

// tenantUsage is how much a tenant has.
type tenantUsage struct {
	Subscriptions       int64 `json:"subscriptions"`
	SubscriptionBytes   int64 `json:"subscription_bytes" doc:"About what its subscriptions take in the memory of each process."`
	Keys                int64 `json:"keys"`
	EventTypes          int64 `json:"event_types"`
	Replays             int64 `json:"replays" doc:"Under way."`
	Tails               int64 `json:"tails" doc:"In the process that answers."`
	EventsPerSecond     int64 `json:"events_per_second" doc:"Over the last 10 seconds, over NATS too."`
	DeliveriesPerSecond int64 `json:"deliveries_per_second" doc:"Those of events of the last 10 seconds that ended."`
}

// used is how much a tenant has of everything.
func (a *Access) used(ctx context.Context, tenant string) (tenantUsage, error) {
	all := map[quota.Name]int64{quota.Tails: a.store.quotas.Inside(tenant, quota.Tails)}
	keys, err := countKeys(ctx, a.store.db, tenant)
	if err != nil {
		return tenantUsage{}, away(err)
	}
	all[quota.Keys] = keys
	for _, usage := range a.usage {
		some, err := usage(ctx, tenant)
		if err != nil {
			return tenantUsage{}, away(err)
		}
		for name, n := range some {
			all[name] = n
		}
	}
	return tenantUsage{
		all[quota.Subscriptions], all[quota.SubscriptionBytes], all[quota.Keys], all[quota.EventTypes], all[quota.Replays], all[quota.Tails],
		all[quota.EventsPerSecond], all[quota.DeliveriesPerSecond],
	}, nil
}
