package fanout

import (
	"context"
	"errors"
	"time"

	"github.com/google/uuid"

	"github.com/fanfarehq/fanfare/internal/changes"
	"github.com/fanfarehq/fanfare/internal/event"
	"github.com/fanfarehq/fanfare/subscriptions"
)

// now judges by a subscription as it is. The reader needs the scopes of then, too.
func (p *past) now(id uuid.UUID) judgedJSON {
	view := p.view
	view.Also = p.demanded
	matched, steps, ok := p.Directory.Explain(p.eventFor(id), id, view)
	sub, there := p.Directory.Get(id)
	if !ok || !there {
		return absent("the subscription was deleted since")
	}
	out := judged(matched, steps)
	out.Revision = &sub.Revision
	return out
}

// absent is the judgement by a subscription that does not exist.
func absent(detail string) judgedJSON {
	return judged(false, []subscriptions.Step{{Step: "status", Verdict: subscriptions.Fail, Detail: detail}})
}

// past judges an event by the definitions that it was matched against.
type past struct {
	Routes
	row   Recorded
	event *event.Event
	view  subscriptions.View

	demanded []string // scopes that the event's type demanded
}

// past reads the scopes that an event's type demanded. gone says that the event's data is gone.
func (r Routes) past(ctx context.Context, row Recorded, e *event.Event, gone bool) (*past, error) {
	p := &past{Routes: r, row: row, event: e, view: subscriptions.ViewOf(ctx)}
	p.view.Gone = gone
	var err error
	p.demanded, err = p.scopes(ctx)
	return p, err
}

// eventFor is the event as it is judged for a subscription. Targets are lost with the data. Unless the ledger says that the
// event had none, the subscription stands for them: its step is skipped, and so are the steps that targets bypass.
func (p *past) eventFor(id uuid.UUID) *event.Event {
	untargeted := p.row.Targeted.Valid && !p.row.Targeted.V
	if !p.view.Gone || untargeted {
		return p.event
	}
	e := *p.event
	e.Targets = []uuid.UUID{id}
	return &e
}

// as is the revision that the event was matched against. Events of earlier versions have none, and are judged by time.
func (p *past) as() changes.As { return changes.As{Revision: p.row.Revision, At: p.row.AcceptedAt} }

// judge judges by a subscription as it was.
func (p *past) judge(ctx context.Context, id uuid.UUID) (judgedJSON, error) {
	sub, err := p.subscription(ctx, id)
	if errors.Is(err, changes.ErrNone) {
		return p.missing(id), nil
	}
	if err != nil {
		return judgedJSON{}, err
	}
	out := judged(p.Directory.ExplainAs(p.eventFor(id), subscriptions.Former{Subscription: sub, Demanded: p.demanded}, p.view))
	if sub.Revision > 0 {
		out.Revision = &sub.Revision
	}
	return out, nil
}

// missing says why a subscription did not exist then.
func (p *past) missing(id uuid.UUID) judgedJSON {
	if sub, ok := p.Directory.Get(id); ok {
		return absent("the subscription was created after the event, at " + sub.CreatedAt.UTC().Format(time.RFC3339))
	}
	return absent("the subscription did not exist when the event was matched")
}

// subscription reads a subscription as it was. One without a history has not changed since the history began.
func (p *past) subscription(ctx context.Context, id uuid.UUID) (*subscriptions.Subscription, error) {
	d, err := p.Changes.At(ctx, p.row.Tenant, changes.Subscription, id.String(), p.as())
	if errors.Is(err, changes.ErrUnknown) {
		sub, ok := p.Directory.Get(id)
		if !ok || sub.CreatedAt.After(p.row.AcceptedAt) {
			return nil, changes.ErrNone
		}
		return sub, nil
	}
	if err != nil {
		return nil, err
	}
	sub, err := subscriptions.Restore(d)
	if err == nil && sub.CreatedAt.After(p.row.AcceptedAt) && d.Revision == 0 {
		err = changes.ErrNone
	}
	return sub, err
}

// scopes are those that the event's type demanded: the tenant's own type, or the one of all tenants.
func (p *past) scopes(ctx context.Context) ([]string, error) {
	for _, tenant := range []string{p.row.Tenant, ""} {
		d, err := p.Changes.At(ctx, tenant, changes.EventType, p.row.Type, p.as())
		switch {
		case err == nil:
			return subscriptions.DemandedBy(d)
		case errors.Is(err, changes.ErrNone):
		case errors.Is(err, changes.ErrUnknown):
			if t, ok := p.Directory.EventType(tenant, p.row.Type); ok && t.Tenant == tenant {
				return t.Scopes, nil
			}
		default:
			return nil, err
		}
	}
	return nil, nil
}
