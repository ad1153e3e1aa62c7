package main

import (
	"context"

	"github.com/fanfarehq/fanfare/deliver"
	"github.com/fanfarehq/fanfare/fanout"
	"github.com/fanfarehq/fanfare/internal/event"
	"github.com/fanfarehq/fanfare/internal/jetstream"
	"github.com/fanfarehq/fanfare/subscriptions"
)

// announcer publishes operational events as events of their tenant. Deliver tells them; only fan-out's inbox takes them.
type announcer struct {
	to        *jetstream.Publisher // with deduplication
	directory *subscriptions.Directory
	marks     event.Marks
}

// Announce publishes a notice to those of its tenant's subscriptions that want it, but for the one that it is about,
// which is in no state to be told. What nobody wants is not published; only that a subscription was disabled always is,
// as it concerns everybody who looks for its deliveries.
func (a announcer) Announce(ctx context.Context, n deliver.Notice) error {
	if _, err := a.directory.Fresh(ctx); err != nil {
		return err
	}
	e := &event.Event{
		ID: n.ID, Tenant: n.Tenant, Type: n.Type, Time: n.Time, Data: n.Data, ObjectID: n.Subscription.String(), Checked: true,
	}
	wanted, _ := a.directory.Match(e)
	for _, s := range wanted {
		if s.ID != n.Subscription && len(e.Targets) < event.MaxAttributes {
			e.Targets = append(e.Targets, s.ID)
		}
	}
	if len(e.Targets) == 0 && (n.Type != deliver.TypeDisabled || n.Copy) {
		return nil
	}
	a.marks.Sign(e)
	_, _, err := fanout.Send(ctx, a.to, e)
	return err
}
