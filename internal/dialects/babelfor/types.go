package babelfor

import (
	"context"
	"errors"
	"strings"

	"github.com/fanfarehq/fanfare/internal/dialects"
	"github.com/fanfarehq/fanfare/subscriptions"
)

// eventType is the vendor's JSON of a registered type.
type eventType struct {
	Name        string `json:"name"`
	Description string `json:"description"`
}

// eventTypes answers the tenant's registered types.
func (b *babelfor) eventTypes(c *dialects.Call) error {
	if err := c.Require(dialects.ReadEvents); err != nil {
		return err
	}
	types, err := b.deps.Store.ListEventTypes(c.R.Context(), subscriptions.EventTypeQuery{Tenant: c.Caller.Tenant, Asc: true})
	if err != nil {
		return err
	}
	list := []eventType{}
	for _, t := range types {
		foreign := t.Tenant == "" && b.deps.Foreign != nil && b.deps.Foreign(t.Name)
		if !t.Archived && !foreign {
			list = append(list, eventType{t.Name, t.Description})
		}
	}
	reply(c, eventTypesAnswer{list, done})
	return nil
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
