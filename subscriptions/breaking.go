package subscriptions

import (
	"cmp"
	"context"
	"time"

	"github.com/fanfarehq/fanfare/internal/api"
	"github.com/fanfarehq/fanfare/internal/event"
)

// compareTime bounds the comparison of two schemas.
const compareTime = time.Second

// checkBreaking refuses a schema that refuses data which the type took before, with a 409: a schema that changes, or one that is
// enforced from then on. If it may break, the sample is removed that the schema refuses. What is wrong with the schema itself is
// left to the store to say.
func (r routes) checkBreaking(ctx context.Context, former, next *EventType, may bool) error {
	if len(next.Schema) == 0 || !newlyEnforced(former, next) && sameJSON(former.Schema, next.Schema) {
		return nil
	}
	c := comparisonOf(former, next)
	if c == nil {
		return nil
	}
	refused, err := c.sample(ctx)
	if err != nil {
		return err
	}
	if may {
		if len(refused) > 0 && sameJSON(former.Sample, next.Sample) {
			next.Sample = nil
		}
		return nil
	}
	places := append(refused, c.schemas(ctx)...)
	if len(places) < maxPlaces && r.recent != nil {
		found, err := r.refusedEvents(ctx, c, maxPlaces-len(places))
		if err != nil {
			return problem(err)
		}
		places = append(places, found...)
	}
	if len(places) == 0 {
		return nil
	}
	return api.Conflict("the schema refuses data that the type took before: correct it, or repeat the request with breaking=true", places...)
}

// newlyEnforced reports whether a change makes Fanfare refuse events that do not fit the schema.
func newlyEnforced(former, next *EventType) bool {
	return cmp.Or(former.Validation, Enforce) != Enforce && cmp.Or(next.Validation, Enforce) == Enforce
}

// comparison holds the schema of an event type against the one that it replaces.
type comparison struct {
	eventType    *EventType
	former, next *schema // former is nil where there was none, or none that this version of Fanfare can use
	tookAny      bool    // the type took events that do not fit the former schema
}

// comparisonOf compiles both schemas; nil where the new one is not valid.
func comparisonOf(former, next *EventType) *comparison {
	c := &comparison{eventType: former}
	var err error
	if c.next, err = compileSchema(next.Schema); err != nil {
		return nil
	}
	if len(former.Schema) > 0 {
		if c.former, err = compileSchema(former.Schema); err != nil {
			c.former = nil
		}
	}
	c.tookAny = c.former == nil || newlyEnforced(former, next)
	return c
}

// sample returns the places of the former sample that the new schema refuses.
func (c *comparison) sample(ctx context.Context) ([]error, error) {
	if len(c.eventType.Sample) == 0 {
		return nil, nil
	}
	violations, err := judgeBy(ctx, c.next, c.eventType.Sample, true)
	if err != nil {
		return nil, err
	}
	return placesAt("body.sample", violations), nil
}

// schemas returns the places of the new schema that refuse a value which the former one took.
func (c *comparison) schemas(ctx context.Context) (places []error) {
	if c.former == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, compareTime)
	defer cancel()
	for _, f := range narrowed(ctx, c.former, c.next) {
		places = append(places, api.At("body."+f.Field, f.Message))
	}
	return places
}

// event returns the places of an event that the new schema refuses and the type took before.
func (c *comparison) event(ctx context.Context, e *event.Event) ([]error, error) {
	at := "event." + e.ID + ".data"
	if !e.JSON() {
		if !c.tookAny {
			return nil, nil
		}
		return []error{api.At(at, "must be JSON, as its type has a schema")}, nil
	}
	violations, err := judgeBy(ctx, c.next, e.Data, true)
	if err != nil || len(violations) == 0 {
		return nil, err
	}
	if !c.tookAny {
		before, err := judgeBy(ctx, c.former, e.Data, false)
		if err != nil || len(before) > 0 {
			return nil, err
		}
	}
	return placesAt(at, violations), nil
}

// judgeBy returns the places where data does not fit; data that is too costly to judge does not. The error is the context's.
func judgeBy(ctx context.Context, s *schema, data []byte, places bool) ([]Violation, error) {
	violations, err := s.validate(ctx, data, places)
	if err != nil && ctx.Err() == nil {
		return []Violation{{"data", err.Error()}}, nil
	}
	return violations, err
}

// placesAt puts violations of data below a location.
func placesAt(location string, violations []Violation) []error {
	places := make([]error, len(violations))
	for i, v := range violations {
		places[i] = api.At(location+v.Location[len("data"):], v.Message)
	}
	return places
}

// refusedEvents returns the places of recent events that the new schema refuses and the type took before. Of a type of all
// tenants, those of tenants with a type of their own do not count.
func (r routes) refusedEvents(ctx context.Context, c *comparison, most int) ([]error, error) {
	t := c.eventType
	own := map[string]bool{}
	if t.Tenant == "" {
		var err error
		if own, err = r.store.tenantsWithOwn(ctx, t.Name); err != nil {
			return nil, err
		}
	}
	var places []error
	var failed error
	err := r.recent.Each(ctx, t.Tenant, t.Name, func(e *event.Event) bool {
		if own[e.Tenant] {
			return true
		}
		found, err := c.event(ctx, e)
		failed, places = err, append(places, found...)
		return err == nil && len(places) < most
	})
	if err == nil {
		err = failed
	}
	return places, err
}
