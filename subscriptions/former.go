package subscriptions

import (
	"encoding/json"
	"fmt"

	"github.com/fanfarehq/fanfare/internal/changes"
	"github.com/fanfarehq/fanfare/internal/event"
)

// Former is a subscription as it was, and the scopes that an event's type demanded then.
type Former struct {
	*Subscription
	Demanded []string
}

// ExplainAs takes an event through the steps of matching against a subscription as it was. The reader needs the scopes that the
// event's type demanded then and those that it demands now.
func (d *Directory) ExplainAs(e *event.Event, as Former, view View) (matched bool, steps []Step) {
	j := d.judgement(e)
	view.Also, j.demanded = j.demanded, as.Demanded
	return j.explain(entryOf(as.Subscription), view)
}

// Restore reads a subscription from its history, without secrets.
func Restore(d changes.Definition) (*Subscription, error) {
	var was definition
	if err := json.Unmarshal(d.JSON, &was); err != nil {
		return nil, fmt.Errorf("read a former definition: %w", err)
	}
	return &Subscription{
		ID: was.ID, Number: was.Number, Tenant: was.Tenant, Dialect: was.Dialect, Name: was.Name, URL: was.URL,
		EventTypes: was.EventTypes, ResourceID: deref(was.ResourceID), Changed: was.Changed, Filter: deref(was.Filter),
		Headers: was.Headers, PayloadFormat: was.PayloadFormat, ContentType: deref(was.ContentType), Signing: was.Signing,
		Status: was.Status, DisabledReason: string(deref(was.DisabledReason)), Metadata: was.Metadata, Scopes: was.Scopes,
		CreatedAt: was.CreatedAt, UpdatedAt: was.UpdatedAt, Revision: d.Revision, Auth: was.Auth.auth(),
	}, nil
}

// DemandedBy reads the scopes of an event type from its history.
func DemandedBy(d changes.Definition) ([]string, error) {
	var was eventTypeJSON
	if err := json.Unmarshal(d.JSON, &was); err != nil {
		return nil, fmt.Errorf("read a former event type: %w", err)
	}
	return was.Scopes, nil
}
