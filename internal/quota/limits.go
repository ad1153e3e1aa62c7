package quota

import (
	"errors"
	"fmt"
	"math"
	"time"

	"github.com/fanfarehq/fanfare/internal/api"
)

// Name is a limit as the API names it.
type Name string

// The limits of a tenant.
const (
	Subscriptions       Name = "subscriptions"
	SubscriptionBytes   Name = "subscription_bytes"
	Keys                Name = "keys"
	EventTypes          Name = "event_types"
	Replays             Name = "replays" // under way; those of deliveries in bulk too
	Tails               Name = "tails"   // of one process
	EventsPerSecond     Name = "events_per_second"
	DeliveriesPerSecond Name = "deliveries_per_second"
	// Previews is the only one that a tenant cannot be given another of.
	Previews Name = "previews" // of one process
)

// Config is what a tenant may have that has no limits of its own. 0 is no limit.
type Config struct {
	Subscriptions       int64 `envconfig:"LIMIT_SUBSCRIPTIONS" default:"10000" desc:"subscriptions of one tenant (0: any number; PUT /v1/tenants gives a tenant its own limits)"`
	SubscriptionBytes   int64 `envconfig:"LIMIT_SUBSCRIPTION_BYTES" default:"67108864" desc:"bytes of one tenant's subscriptions, which every process holds in memory (0: any number)"`
	Keys                int64 `envconfig:"LIMIT_KEYS" default:"1000" desc:"keys of one tenant that neither ended nor were revoked (0: any number)"`
	EventTypes          int64 `envconfig:"LIMIT_EVENT_TYPES" default:"1000" desc:"event types of one tenant (0: any number)"`
	Replays             int64 `envconfig:"LIMIT_REPLAYS" default:"20" desc:"replays and jobs of one tenant under way at once (0: any number)"`
	Tails               int64 `envconfig:"LIMIT_TAILS" default:"10" desc:"tails of one tenant in one process (0: any number)"`
	Previews            int64 `envconfig:"LIMIT_PREVIEWS" default:"2" desc:"previews of one tenant at once in one process (0: any number)"`
	EventsPerSecond     int64 `envconfig:"LIMIT_EVENTS_PER_SECOND" default:"50000" desc:"events that one tenant may publish over HTTP per second, over all processes (0: any number)"`
	DeliveriesPerSecond int64 `envconfig:"LIMIT_DELIVERIES_PER_SECOND" default:"0" desc:"requests to one tenant's receivers per second, over all workers; further ones wait (0: any number)"`
}

// DefaultConfig is that of an empty environment.
func DefaultConfig() Config {
	return Config{
		Subscriptions: 10_000, SubscriptionBytes: 64 << 20, Keys: 1000, EventTypes: 1000, Replays: 20, Tails: 10, Previews: 2,
		EventsPerSecond: 50_000,
	}
}

// Validate names the variables that are wrong.
func (c Config) Validate() error {
	var errs []error
	for name, n := range map[string]int64{
		"SUBSCRIPTIONS": c.Subscriptions, "SUBSCRIPTION_BYTES": c.SubscriptionBytes, "KEYS": c.Keys, "EVENT_TYPES": c.EventTypes,
		"REPLAYS": c.Replays, "TAILS": c.Tails, "PREVIEWS": c.Previews, "EVENTS_PER_SECOND": c.EventsPerSecond,
		"DELIVERIES_PER_SECOND": c.DeliveriesPerSecond,
	} {
		if n < 0 {
			errs = append(errs, fmt.Errorf("FANFARE_LIMIT_%s must not be negative, not %d", name, n))
		}
	}
	return errors.Join(errs...)
}

// Limits are a tenant's own, as Postgres and the API hold them. Nil is the default of Config.
type Limits struct {
	Subscriptions       *int64 `json:"subscriptions,omitempty" nullable:"true" minimum:"0" doc:"Subscriptions. Null: the default."`
	SubscriptionBytes   *int64 `json:"subscription_bytes,omitempty" nullable:"true" minimum:"0" doc:"Bytes of all subscriptions together. Null: the default."`
	Keys                *int64 `json:"keys,omitempty" nullable:"true" minimum:"0" doc:"Keys that neither ended nor were revoked. Null: the default."`
	EventTypes          *int64 `json:"event_types,omitempty" nullable:"true" minimum:"0" doc:"The tenant's own event types. Null: the default."`
	Replays             *int64 `json:"replays,omitempty" nullable:"true" minimum:"0" doc:"Replays and jobs under way at once. Null: the default."`
	Tails               *int64 `json:"tails,omitempty" nullable:"true" minimum:"0" doc:"Tails at once, in one process. Null: the default."`
	EventsPerSecond     *int64 `json:"events_per_second,omitempty" nullable:"true" minimum:"1" doc:"Events published over HTTP. Null: the default."`
	DeliveriesPerSecond *int64 `json:"deliveries_per_second,omitempty" nullable:"true" minimum:"1" doc:"Requests to the tenant's receivers; further ones wait. Null: the default."`
}

// Bounds are the limits that hold for a tenant.
type Bounds struct {
	own  Limits
	base Config
}

// Most is how much of a thing the tenant may have; math.MaxInt64 where there is no limit.
func (b Bounds) Most(name Name) int64 {
	own, base := b.of(name)
	switch {
	case own != nil:
		return *own
	case base == 0:
		return math.MaxInt64
	}
	return base
}

// PerSecond is a rate that the tenant may have; 0 where there is no limit.
func (b Bounds) PerSecond(name Name) int {
	if most := b.Most(name); most <= math.MaxInt32 {
		return int(most)
	}
	return 0
}

func (b Bounds) of(name Name) (own *int64, base int64) {
	switch name {
	case Subscriptions:
		return b.own.Subscriptions, b.base.Subscriptions
	case SubscriptionBytes:
		return b.own.SubscriptionBytes, b.base.SubscriptionBytes
	case Keys:
		return b.own.Keys, b.base.Keys
	case EventTypes:
		return b.own.EventTypes, b.base.EventTypes
	case Replays:
		return b.own.Replays, b.base.Replays
	case Tails:
		return b.own.Tails, b.base.Tails
	case Previews:
		return nil, b.base.Previews
	case EventsPerSecond:
		return b.own.EventsPerSecond, b.base.EventsPerSecond
	case DeliveriesPerSecond:
		return b.own.DeliveriesPerSecond, b.base.DeliveriesPerSecond
	}
	panic("quota: no limit " + string(name))
}

// Check is an *api.LimitError if more would exceed the limit.
func (b Bounds) Check(name Name, used, more int64) error {
	most := b.Most(name)
	if more <= most && used <= most-more {
		return nil
	}
	return &api.LimitError{Limit: string(name), Message: fmt.Sprintf("the tenant has %d and may have %d", used, most)}
}

// exceeded is the error of a rate.
func exceeded(name Name, most int64, wait time.Duration) error {
	return &api.LimitError{
		Limit: string(name), Message: fmt.Sprintf("the tenant may have %d", most),
		RetryAfter: max(time.Second, wait.Truncate(time.Second)+time.Second),
	}
}
