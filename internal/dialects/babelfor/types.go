package babelfor

import (
	"context"
	"errors"
	"slices"
	"strings"
	"time"

	"github.com/fanfarehq/fanfare/internal/dialects"
	published "github.com/fanfarehq/fanfare/internal/event"
	"github.com/fanfarehq/fanfare/subscriptions"
)

// eventType is the vendor's JSON of a registered type.
type eventType struct {
	Name        string `json:"name"`
	Description string `json:"description"`
}

const (
	// typesOf is of how many days event types are listed that were published and never registered.
	typesOf = 7 * 24 * time.Hour
	// mostUnregistered bounds how many are listed that are not registered.
	mostUnregistered = 1000
)

// eventTypes answers the tenant's registered types and, where event types are open, those that it uses.
func (b *babelfor) eventTypes(c *dialects.Call) error {
	if err := c.Require(dialects.ReadEvents); err != nil {
		return err
	}
	types, err := b.deps.Store.ListEventTypes(c.R.Context(), subscriptions.EventTypeQuery{Tenant: c.Caller.Tenant, Asc: true})
	if err != nil {
		return err
	}
	list := []eventType{}
	registered := make(map[string]bool, len(types))
	for _, t := range types {
		registered[t.Name] = true
		if !t.Archived && !(t.Tenant == "" && b.foreign(t.Name)) {
			list = append(list, eventType{t.Name, t.Description})
		}
	}
	if !b.deps.Strict {
		used, err := b.usedTypes(c)
		if err != nil {
			return err
		}
		used = slices.DeleteFunc(used, func(name string) bool { return registered[name] || b.foreign(name) })
		for _, name := range used[:min(len(used), mostUnregistered)] {
			list = append(list, eventType{Name: name})
		}
	}
	reply(c, eventTypesAnswer{list, done})
	return nil
}

// foreign reports whether another vendor brought an event type with it.
func (b *babelfor) foreign(name string) bool { return b.deps.Foreign != nil && b.deps.Foreign(name) }

// usedTypes returns the event types that the tenant published lately or has subscriptions to, in order; patterns, and types
// that only Fanfare publishes, are left out.
func (b *babelfor) usedTypes(c *dialects.Call) ([]string, error) {
	recent, err := b.deps.Ledger.RecentTypes(c.R.Context(), c.Caller.Tenant, time.Now().Add(-typesOf))
	if err != nil {
		return nil, err
	}
	taken, err := b.deps.Store.TakenTypes(c.R.Context(), c.Caller.Tenant)
	if err != nil {
		return nil, err
	}
	used := append(recent, taken...)
	used = slices.DeleteFunc(used, func(name string) bool { return subscriptions.ValidEventType(name) != nil || published.Reserved(name) })
	slices.Sort(used)
	return slices.Compact(used), nil
}

// maxTypes bounds the event types of a subscription here; the store has a bound of its own.
const maxTypes = 100

// readTypes reads "A" or "A,B". Where event types are strict, each must be registered.
func (b *babelfor) readTypes(c *dialects.Call, in dialects.Input) ([]string, error) {
	text, _ := in.Text("eventType")
	var types []string
	for name := range strings.SplitSeq(text, ",") {
		if name = strings.TrimSpace(name); name == "" || len(types) == maxTypes {
			return nil, dialects.BadRequest("eventType must be an event type, or several with commas.")
		}
		ok, err := b.known(c.R.Context(), c.Caller.Tenant, name)
		if err != nil {
			return nil, err
		}
		if !ok {
			return nil, dialects.BadRequest("The eventType %.128q is unknown.", name)
		}
		types = append(types, name)
	}
	return types, nil
}

// known says whether a subscription may name the type. What is no name at all is left to the store to refuse.
func (b *babelfor) known(ctx context.Context, tenant, name string) (bool, error) {
	if !b.deps.Strict || subscriptions.ValidPattern(name) != nil {
		return true, nil
	}
	if subscriptions.ValidEventType(name) != nil {
		return false, nil // a pattern is no registered type
	}
	_, err := b.deps.Store.EventTypeFor(ctx, tenant, name)
	if errors.Is(err, subscriptions.ErrNotFound) {
		return false, nil
	}
	return err == nil, err
}
