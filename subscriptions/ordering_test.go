package subscriptions_test

import (
	"testing"

	"github.com/fanfarehq/fanfare/subscriptions"
)

// An ordered subscription is matched apart, with the event's key; without a key the event goes as to any other.
func TestMatchTellsTheKey(t *testing.T) {
	t.Parallel()
	b := setup(t)
	ordered := plain("acme", "*")
	ordered.Ordering = &subscriptions.Ordering{Key: "event.data.order", OnDead: subscriptions.StopOnDead}
	b.create(t, ordered)
	any := b.create(t, plain("acme", "*"))
	b.fresh(t)
	e := orderEvent()
	e.Data = []byte(`{"order":7}`)
	to := b.dir.MatchIDs(e)
	if len(to.IDs) != 1 || to.IDs[0] != any.ID || len(to.Ordered) != 1 || to.Ordered[0] != (subscriptions.InOrder{ID: ordered.ID, Key: "7"}) {
		t.Errorf("with a key: got %+v", to)
	}
	e = orderEvent()
	e.Data = []byte(`{}`)
	if to := b.dir.MatchIDs(e); len(to.IDs) != 2 || to.Ordered != nil || to.Unkeyed != 1 {
		t.Errorf("without a key: got %+v", to)
	}
	if key, ok := b.dir.OrderingKey(e, any); ok {
		t.Errorf("a subscription without an order has the key %q", key)
	}
}
