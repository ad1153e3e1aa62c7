package fanout

import (
	"context"
	"encoding/json"
	"errors"

	"github.com/google/uuid"

	"github.com/fanfarehq/fanfare/deliver"
	"github.com/fanfarehq/fanfare/internal/api"
	"github.com/fanfarehq/fanfare/subscriptions"
)

// explained bounds how many subscriptions are explained where none is named.
const explained = 100

type explainInput struct {
	ID           string `path:"id" example:"evt_17"`
	Subscription string `query:"subscription" doc:"The subscription; without it, those that the event would match now" format:"uuid"`
}

type explainOutput struct{ Body explainJSON }

type explainJSON struct {
	Event   eventJSON         `json:"event"`
	Results []explanationJSON `json:"results"`
}

type explanationJSON struct {
	SubscriptionID uuid.UUID            `json:"subscription_id"`
	Matched        bool                 `json:"matched" doc:"Whether the event would match the subscription as it is now"`
	Steps          []subscriptions.Step `json:"steps" doc:"Each step of matching with its verdict"`
	Delivery       json.RawMessage      `json:"delivery" doc:"The delivery with its attempts, or null"`
}

// explain says of an event why it goes to a subscription, or does not.
func (r Routes) explain(ctx context.Context, in *explainInput) (*explainOutput, error) {
	row, err := r.find(ctx, in.ID)
	if err != nil {
		return nil, err
	}
	e, err := r.event(ctx, row)
	if errors.Is(err, deliver.ErrEventGone) {
		return nil, api.NotFound() // Its data is part of the matching.
	}
	if err != nil {
		return nil, err
	}
	if _, err := r.Directory.Fresh(ctx); err != nil {
		return nil, err
	}
	ids, err := r.toExplain(e, in.Subscription)
	if err != nil {
		return nil, err
	}
	out := &explainOutput{Body: explainJSON{Event: row.json(), Results: []explanationJSON{}}}
	for _, id := range ids {
		x := explanationJSON{SubscriptionID: id, Delivery: json.RawMessage("null")}
		x.Matched, x.Steps, _ = r.Directory.Explain(e.matchEvent(), id)
		delivery, err := r.Deliveries.Describe(ctx, deliver.ID(row.uid, id, 0, acceptance(row.uid)))
		if err != nil {
			return nil, err
		}
		if delivery != nil {
			x.Delivery = delivery
		}
		out.Body.Results = append(out.Body.Results, x)
	}
	return out, nil
}

// toExplain are the subscriptions that are asked for: one of the event's tenant, or those that match.
func (r Routes) toExplain(e *Event, asked string) ([]uuid.UUID, error) {
	if asked != "" {
		id, err := api.ParseID(asked)
		if err != nil {
			return nil, err
		}
		if s, ok := r.Directory.Get(id); !ok || s.Tenant != e.Tenant {
			return nil, api.NotFound()
		}
		return []uuid.UUID{id}, nil
	}
	matched, _ := r.Directory.MatchIDs(e.matchEvent())
	return matched[:min(len(matched), explained)], nil
}
