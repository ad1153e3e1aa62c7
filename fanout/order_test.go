package fanout_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/fanfarehq/fanfare/deliver"
	"github.com/fanfarehq/fanfare/fanout"
	"github.com/fanfarehq/fanfare/fanout/fanouttest"
)

// What is ordered waits for its turn, in the ledger and in no task; the place of fan-out says when nothing before it can
// come any more. What has no key, and a test, goes at once.
func TestAnOrderedMatchIsQueued(t *testing.T) {
	t.Parallel()
	h := fanouttest.New(t)
	ordered, plain := h.Ordered("acme", "*"), h.Subscribe("acme", "order.*")
	h.Run()
	h.Reading()
	for i, data := range []string{`{"order":"a"}`, `{"order":"b"}`, `{"order":"a"}`, `{}`, `{"order":"a"}`} {
		h.Publish("events.acme.order.created", data, "Fanfare-Id", fmt.Sprint("e", i))
	}
	last := h.Publish("events.acme.order.created", `{"order":"b"}`, "Fanfare-Id", "e5", "Fanfare-Test", "1", "Fanfare-Targets", ordered.ID.String())
	h.Settled()
	if got := fmt.Sprint(fanouttest.Lists(h.Waiting(ordered))); got != "[[e0 e2 e4] [e1]]" {
		t.Errorf("waiting: %s", got)
	}
	for id, want := range map[string]int{"e0": 0, "e1": 0, "e3": 1, "e5": 1} {
		if n := h.Tray.Targets()[id][ordered.ID]; n != want {
			t.Errorf("event %s is in %d tasks for the ordered subscription, want %d", id, n, want)
		}
	}
	if n := h.Tray.Targets()["e0"][plain.ID]; n != 1 {
		t.Errorf("event e0 is in %d tasks for the other subscription, want 1", n)
	}
	if rows := h.Rows(); rows["e0"] != 2 || rows["e3"] != 2 {
		t.Errorf("the ledger has %v", rows)
	}
	floor, err := fanout.Floor(h.JS)(t.Context())
	if err != nil || floor.Seq != last || floor.Since.IsZero() || floor.Since.After(time.Now()) {
		t.Errorf("fan-out has come to %+v, %v, want %d", floor, err, last)
	}
}

// While an event is under way, fan-out has not passed it, though those after it are done.
func TestTheFloorWaitsForEachEvent(t *testing.T) {
	t.Parallel()
	h := fanouttest.New(t)
	ordered := h.Ordered("acme", "*")
	h.Subscribe("acme", "slow")
	held, release := make(chan struct{}), make(chan struct{})
	h.Tray.Do(func([]deliver.Task) error {
		close(held)
		<-release
		return nil
	})
	h.Run()
	h.Reading()
	slow := h.Publish("events.acme.slow", `{"order":"a"}`, "Fanfare-Id", "e1")
	<-held
	h.Publish("events.acme.order.created", `{"order":"a"}`, "Fanfare-Id", "e2")
	h.Eventually("the second event waits for its turn", func() bool { return len(fanouttest.Lists(h.Waiting(ordered))) == 1 })
	if floor, err := fanout.Floor(h.JS)(t.Context()); err != nil || floor.Seq >= slow {
		t.Errorf("fan-out has come to %+v, %v, but %d is under way", floor, err, slow)
	}
	close(release)
	h.Settled()
	if got := fmt.Sprint(fanouttest.Lists(h.Waiting(ordered))); got != "[[e1 e2]]" {
		t.Errorf("waiting: %s", got)
	}
}

// Subscriptions without an order pay nothing for those that have one: nothing is asked, nothing is written.
func TestSubscriptionsWithoutAnOrderPayNothing(t *testing.T) {
	t.Parallel()
	h := fanouttest.New(t)
	h.Subscribe("acme", "*")
	h.Ordered("globex", "*")
	h.Run()
	h.Reading()
	for i := range 20 {
		h.Publish("events.acme.order.created", `{"order":"a"}`, "Fanfare-Id", fmt.Sprint("e", i))
	}
	h.Settled()
	if n := h.Queue.Calls.Load(); n != 0 {
		t.Errorf("fan-out asked for a turn %d times", n)
	}
	if n := len(h.Tray.Targets()); n != 20 {
		t.Errorf("%d events are in tasks, want 20", n)
	}
}

// An event that is fanned out again, as its acknowledgement was lost, waits once.
func TestAnOrderedMatchIsQueuedOnce(t *testing.T) {
	t.Parallel()
	h := fanouttest.New(t)
	ordered := h.Ordered("acme", "*")
	stop := h.Run()
	h.Reading()
	h.Publish("events.acme.order.created", `{"order":"a"}`, "Fanfare-Id", "e1")
	h.Settled()
	stop()
	if _, err := h.DB.ExecContext(t.Context(), `DELETE FROM events`); err != nil {
		t.Fatal(err)
	}
	if err := h.JS.DeleteConsumer(t.Context(), fanout.Stream, fanout.Durable); err != nil {
		t.Fatal(err)
	}
	h.Apply()
	h.Run()
	h.Settled()
	if got := fmt.Sprint(fanouttest.Lists(h.Waiting(ordered))); got != "[[e1]]" {
		t.Errorf("waiting: %s", got)
	}
	if rows := h.Rows(); rows["e1"] != 1 {
		t.Errorf("the ledger has %v", rows)
	}
}
