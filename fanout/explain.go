package fanout

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"

	"github.com/danielgtaylor/huma/v2"
	"github.com/google/uuid"

	"github.com/fanfarehq/fanfare/deliver/history"
	"github.com/fanfarehq/fanfare/internal/api"
	"github.com/fanfarehq/fanfare/internal/event"
	"github.com/fanfarehq/fanfare/internal/postgres"
	"github.com/fanfarehq/fanfare/subscriptions"
)

// explained bounds how many subscriptions are explained where none is named.
const explained = 100

type explainInput struct {
	ID           string `path:"id" doc:"The event's id" example:"evt_17"`
	Subscription string `query:"subscription" doc:"The subscription; without it, those that match, those that have a delivery, and the tenant's others" format:"uuid"`
}

type explainOutput struct{ Body eventExplanation }

type eventExplanation struct {
	Event   eventJSON     `json:"event"`
	Results []explanation `json:"results" nullable:"false"`
}

type explanation struct {
	SubscriptionID uuid.UUID            `json:"subscription_id"`
	Matched        *bool                `json:"matched" doc:"Whether the event matched the subscription as it was defined then, as in then; null if the event's data is gone and the verdict depends on it"`
	Steps          []subscriptions.Step `json:"steps" nullable:"false" doc:"Each step of matching with its verdict, by the definition of then"`
	Then           judgedJSON           `json:"then" doc:"By the definition that the event was matched against"`
	Now            judgedJSON           `json:"now" doc:"By the definition of today"`
	Delivery       shownDelivery        `json:"delivery" doc:"The delivery with its attempts, or null"`
}

// shownDelivery is a delivery as GET /v1/deliveries/{id} shows it, or null.
type shownDelivery json.RawMessage

// MarshalJSON implements json.Marshaler.
func (d shownDelivery) MarshalJSON() ([]byte, error) { return d, nil }

// Schema is that of the delivery.
func (shownDelivery) Schema(r huma.Registry) *huma.Schema {
	return &huma.Schema{AnyOf: []*huma.Schema{history.DeliverySchema(r), {Type: "null"}}}
}

// judgedJSON is an event judged by one definition of a subscription.
type judgedJSON struct {
	Revision *int64               `json:"revision" doc:"The revision of the subscription; null where it did not exist, and where it is older than the history of changes" example:"42"`
	Matched  *bool                `json:"matched" doc:"Null if the event's data is gone, no other step fails, and no delivery shows that the event matched; what a replay sent does not"`
	Steps    []subscriptions.Step `json:"steps" nullable:"false"`
}

// explain says of an event why it goes to a subscription, or does not.
func (r Routes) explain(ctx context.Context, in *explainInput) (*explainOutput, error) {
	row, err := r.find(ctx, in.ID)
	if err != nil {
		return nil, err
	}
	leave, err := r.Heavy.Enter(ctx, row.Tenant)
	if err != nil {
		return nil, err
	}
	defer leave()
	e, err := r.event(ctx, row)
	gone := errors.Is(err, event.ErrGone)
	if gone {
		e, err = &event.Event{ID: row.ID, Tenant: row.Tenant, Type: row.Type, Time: row.Time, Data: []byte("null")}, nil
	}
	if err != nil {
		return nil, err
	}
	if _, err := r.Directory.Fresh(ctx); err != nil {
		return nil, err
	}
	ids, err := r.toExplain(ctx, row, e, in.Subscription)
	if err != nil {
		return nil, err
	}
	past, err := r.past(ctx, row, e, gone)
	if err != nil {
		return nil, err
	}
	out := &explainOutput{Body: eventExplanation{Event: row.json(), Results: []explanation{}}}
	for _, id := range ids {
		x := explanation{SubscriptionID: id, Delivery: shownDelivery("null"), Now: past.now(id)}
		if x.Then, err = past.judge(ctx, id); err != nil {
			return nil, err
		}
		delivery, err := r.Deliveries.DescribeLast(ctx, row.UID, id)
		if err != nil {
			return nil, err
		}
		if delivery != nil {
			x.Delivery = shownDelivery(delivery)
		}
		if err := r.settle(ctx, row, &x); err != nil {
			return nil, err
		}
		x.Matched, x.Steps = x.Then.Matched, x.Then.Steps
		out.Body.Results = append(out.Body.Results, x)
	}
	return out, nil
}

// judged is a judgement by the steps of one definition.
func judged(matched bool, steps []subscriptions.Step) judgedJSON {
	lost := func(s subscriptions.Step) bool { return s.Detail == subscriptions.DataGone }
	if matched && slices.ContainsFunc(steps, lost) {
		return judgedJSON{Steps: steps}
	}
	return judgedJSON{Matched: &matched, Steps: steps}
}

// settle fills in verdicts that depend on data that is gone, where a delivery shows that the event matched then. So it matches
// the definition of now, too, if that is the same.
func (r Routes) settle(ctx context.Context, row Recorded, x *explanation) error {
	if x.Then.Matched != nil {
		return nil
	}
	matched, err := r.Deliveries.MatchedThen(ctx, row.UID, x.SubscriptionID)
	if err != nil || !matched {
		return err
	}
	x.Then.Matched = &matched
	then, now := x.Then.Revision, x.Now.Revision
	if x.Now.Matched == nil && then != nil && now != nil && *then == *now {
		x.Now.Matched = &matched
	}
	return nil
}

// toExplain are the subscriptions that are asked for: one of the event's tenant, which may be gone if it has a delivery,
// or those that match, those that have one, and the tenant's others.
func (r Routes) toExplain(ctx context.Context, row Recorded, e *event.Event, asked string) ([]uuid.UUID, error) {
	received, err := r.Deliveries.Receivers(ctx, row.UID, explained)
	if err != nil {
		return nil, err
	}
	if asked != "" {
		id, err := api.ParseID(asked)
		if err != nil {
			return nil, err
		}
		if s, ok := r.Directory.Get(id); (!ok || s.Tenant != e.Tenant) && !slices.Contains(received, id) {
			return nil, api.NotFound()
		}
		return []uuid.UUID{id}, nil
	}
	to := r.Directory.MatchIDs(e)
	ids := to.IDs
	for _, o := range to.Ordered {
		ids = append(ids, o.ID)
	}
	others, err := r.Ledger.subscriptionsOf(ctx, e.Tenant, explained)
	if err != nil {
		return nil, err
	}
	ids = slices.Clone(ids[:min(len(ids), explained)])
	for _, id := range slices.Concat(received, others) {
		if len(ids) < explained && !slices.Contains(ids, id) {
			ids = append(ids, id)
		}
	}
	return ids, nil
}

// subscriptionsOf returns a tenant's subscriptions, the newest first.
func (l *Ledger) subscriptionsOf(ctx context.Context, tenant string, limit int) ([]uuid.UUID, error) {
	rows, err := l.db.QueryContext(ctx, `SELECT id FROM subscriptions WHERE tenant = $1 AND NOT deleted ORDER BY id DESC LIMIT $2`, tenant, limit)
	ids, err := postgres.Collect(rows, err, postgres.ScanOne[uuid.UUID])
	if err != nil {
		return nil, fmt.Errorf("list subscriptions: %w", err)
	}
	return ids, nil
}
