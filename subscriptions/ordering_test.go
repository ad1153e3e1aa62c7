package subscriptions

import (
	"testing"

	"github.com/google/uuid"
)

// An ordered subscription is matched apart, with the event's key; without a key the event goes as to any other.
func TestMatchTellsTheKey(t *testing.T) {
	t.Parallel()
	d := memory()
	ordered, any := plain("acme", "*"), plain("acme", "*")
	ordered.ID, ordered.Status, ordered.Ordering = uuid.Must(uuid.NewV7()), Active, &Ordering{Key: "event.data.order", OnDead: StopOnDead}
	any.ID, any.Status = uuid.Must(uuid.NewV7()), Active
	d.known.apply(rowOf(ordered))
	d.known.apply(rowOf(any))
	e := orderEvent()
	e.Data = []byte(`{"order":7}`)
	to := d.MatchIDs(e)
	if len(to.IDs) != 1 || to.IDs[0] != any.ID || len(to.Ordered) != 1 || to.Ordered[0] != (InOrder{ordered.ID, "7"}) {
		t.Errorf("with a key: got %+v", to)
	}
	e = orderEvent()
	e.Data = []byte(`{}`)
	if to := d.MatchIDs(e); len(to.IDs) != 2 || to.Ordered != nil || to.Unkeyed != 1 {
		t.Errorf("without a key: got %+v", to)
	}
	if key, ok := d.OrderingKey(e, any); ok {
		t.Errorf("a subscription without an order has the key %q", key)
	}
}
