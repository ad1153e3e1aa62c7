package ingest

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/google/uuid"

	"github.com/fanfarehq/fanfare/deliver/outcome"
	"github.com/fanfarehq/fanfare/fanout"
	"github.com/fanfarehq/fanfare/internal/api"
	"github.com/fanfarehq/fanfare/internal/event"
	"github.com/fanfarehq/fanfare/internal/jetstream"
	"github.com/fanfarehq/fanfare/internal/retry"
	"github.com/fanfarehq/fanfare/subscriptions"
)

// testType is the type of a test event where nothing says another.
const testType = "fanfare.test"

// testData is the data of a test event where nothing says other.
const testData = `{"message":"This is a test event."}`

type testInput struct {
	ID   string `path:"id" doc:"The subscription" example:"0198c0de-7a3c-7000-8000-5f1e2d3c4b5a"`
	Body *newTest
}

type newTest struct {
	Type string  `json:"type,omitempty" doc:"By default the subscription's first exact event type" example:"order.created"`
	Data anyJSON `json:"data,omitempty" doc:"By default the sample of the event type"`
}

// anyJSON is JSON of any kind, to the byte.
type anyJSON struct{ json.RawMessage }

// Schema says that it may be anything.
func (anyJSON) Schema(huma.Registry) *huma.Schema { return &huma.Schema{Description: "Any JSON"} }

type testOutput struct {
	Body testDelivery
}

// testDelivery names the delivery that was begun.
type testDelivery struct {
	DeliveryID uuid.UUID `json:"delivery_id" doc:"Of the delivery that was begun"`
	EventID    string    `json:"event_id"`
}

// test sends an event to one subscription, whatever it subscribes to and although it is paused.
func (in *Ingest) test(ctx context.Context, input *testInput) (*testOutput, error) {
	ctx, cancel := context.WithTimeout(ctx, in.cfg.Timeout)
	defer cancel()
	sub, err := in.subscription(ctx, input)
	if err != nil {
		return nil, err
	}
	e := in.testEvent(sub, input.Body)
	result := in.Publish(ctx, e)[0]
	if p, ok := errors.AsType[*api.Problem](result.Err); ok {
		if p.Status == http.StatusServiceUnavailable {
			return nil, api.Unavailable(errors.New(p.Detail))
		}
		return nil, p
	}
	if result.Err != nil {
		return nil, result.Err
	}
	stored, err := in.await(ctx, result.Seq)
	if err != nil {
		return nil, api.Unavailable(err)
	}
	out := &testOutput{}
	out.Body.EventID = stored.ID
	out.Body.DeliveryID = outcome.ID(stored.UID, sub.ID, 0, stored.AcceptedAt)
	return out, nil
}

// subscription returns the caller's subscription of the path.
func (in *Ingest) subscription(ctx context.Context, input *testInput) (*subscriptions.Subscription, error) {
	tenant, err := api.TenantOrAny(ctx, "")
	if err != nil {
		return nil, err
	}
	id, err := api.ParseID(input.ID)
	if err != nil {
		return nil, err
	}
	if err := in.fresh(ctx); err != nil {
		return nil, api.Unavailable(err)
	}
	sub, ok := in.dir.Get(id)
	if !ok || tenant != "" && sub.Tenant != tenant {
		return nil, api.NotFound()
	}
	if sub.Status == subscriptions.Disabled {
		return nil, api.Conflict("the subscription is disabled: enable it before testing it")
	}
	return sub, nil
}

// testEvent makes the event of a test.
func (in *Ingest) testEvent(sub *subscriptions.Subscription, body *newTest) event.Event {
	e := event.Event{
		Tenant: sub.Tenant, Type: testType, Data: []byte(testData), Targets: []uuid.UUID{sub.ID}, Test: true,
	}
	for _, pattern := range sub.EventTypes {
		if !strings.ContainsAny(pattern, "*>") && !event.Reserved(pattern) {
			e.Type = pattern
			break
		}
	}
	if body != nil && body.Type != "" {
		e.Type = body.Type
	}
	if declared, ok := in.dir.EventType(e.Tenant, e.Type); ok && len(declared.Sample) > 0 {
		e.Data = declared.Sample
	}
	if body != nil && body.Data.RawMessage != nil {
		e.Data = body.Data.RawMessage
	}
	return e
}

// await reads an event that was just stored: only the stream knows when it was. A replica, or a new leader, may learn of it a moment
// later than the leader who answered for it.
func (in *Ingest) await(ctx context.Context, seq uint64) (*event.Event, error) {
	var e *event.Event
	err := retry.Until(ctx, retry.Pauses{First: time.Millisecond, Most: time.Second}, func() (err error) {
		e, err = in.stored.Read(ctx, seq)
		return err
	}, func(err error) bool {
		return errors.Is(err, fanout.ErrGone) || errors.Is(err, jetstream.ErrUnavailable)
	})
	return e, err
}
