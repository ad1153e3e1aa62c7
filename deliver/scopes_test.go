package deliver_test

import (
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/fanfarehq/fanfare/deliver/ledger"
	"github.com/fanfarehq/fanfare/deliver/outcome"
	"github.com/fanfarehq/fanfare/internal/event"
	"github.com/fanfarehq/fanfare/internal/servertest"
	"github.com/fanfarehq/fanfare/subscriptions"
)

// Whoever gives a subscription another URL without the scopes of an event type gets nothing of that type there, whatever
// state its deliveries were in: not by a retry, a resume or a replay.
func TestANewDestinationGetsOnlyWhatItsOwnerMaySee(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.worker(quick())
	r.recorder()
	payment := &subscriptions.EventType{Name: "payment.made", Scopes: []string{"view:payments"}}
	if err := r.store.CreateEventType(t.Context(), payment); err != nil {
		t.Fatal(err)
	}
	held := func(s *subscriptions.Subscription) { s.Scopes = []string{"subscriptions:write", "view:payments"} }
	pay := func() *event.Event {
		e := r.event()
		e.Type = payment.Name
		return e
	}
	receiver := servertest.NewReceiver(t)
	delivered := r.subscribe(receiver.URL, held)
	pending := r.subscribe(servertest.NewReceiver(t, servertest.Status(500)).URL, func(s *subscriptions.Subscription) {
		held(s)
		s.Retry.Schedule = []time.Duration{time.Hour}
	})
	paused := r.subscribe(receiver.URL, held)
	r.status(paused, subscriptions.Paused)
	dead := r.subscribe(servertest.NewReceiver(t, servertest.Status(500)).URL, func(s *subscriptions.Subscription) {
		held(s)
		once(s)
	})
	ids := map[*subscriptions.Subscription]uuid.UUID{}
	deadEvent := pay()
	for _, s := range []*subscriptions.Subscription{delivered, pending, paused} {
		ids[s] = r.send(pay(), s)
	}
	ids[dead] = r.send(deadEvent, dead)
	r.ended(ids[delivered], outcome.Delivered, outcome.ReasonOK)
	r.waits(ids[pending], outcome.ReasonServer)
	r.waits(ids[paused], outcome.ReasonPaused)
	r.ended(ids[dead], outcome.Dead, outcome.ReasonServer)

	evil := servertest.NewReceiver(t)
	for s := range ids {
		before := must(r.store.Get(t.Context(), s.Tenant, s.ID))(t)
		after := *before
		after.URL, after.EventTypes, after.Status = evil.URL, []string{"order.created"}, subscriptions.Active
		if err := r.store.Rescope(t.Context(), before, &after, []string{"subscriptions:write", "deliveries:write"}); err != nil {
			t.Fatal(err)
		}
		if err := r.store.Update(t.Context(), &after); err != nil {
			t.Fatal(err)
		}
	}
	c := r.api()
	again := func(id uuid.UUID) uuid.UUID {
		return uuid.MustParse(c.do("acme", "POST", "/v1/deliveries/"+id.String()+"/retry", 202)["id"].(string))
	}
	r.ended(ids[paused], outcome.Cancelled, outcome.ReasonCancelled)
	r.ended(again(ids[pending]), outcome.Cancelled, outcome.ReasonCancelled)
	r.ended(again(ids[delivered]), outcome.Cancelled, outcome.ReasonCancelled)
	tx := must(r.DB.Begin())(t)
	list := r.deadLetters()
	if made := must(ledger.NewRepeater(r.DB).Send(t.Context(), tx, ledger.OnlyDead, list, ledger.Pace{From: time.Now()}))(t); made != 1 {
		t.Fatalf("%d dead letters are sent again, want 1", made)
	}
	if err := tx.Commit(); err != nil {
		t.Fatal(err)
	}
	r.Eventually("the dead letter to be cancelled", func() bool {
		return r.Count(`SELECT count(*) FROM deliveries WHERE event_uid = $1 AND generation = 1 AND state = 'cancelled'`, deadEvent.UID) == 1
	})
	open := r.send(r.event(), delivered)
	r.ended(open, outcome.Delivered, outcome.ReasonOK)
	if got := evil.Requests(); len(got) != 1 {
		t.Errorf("the new destination got %v, want the event without scopes alone", got)
	}
}
