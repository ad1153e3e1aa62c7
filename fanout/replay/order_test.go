package replay_test

import (
	"fmt"
	"testing"

	"github.com/fanfarehq/fanfare/fanout/fanouttest"
)

// A replay gives what it sends its place in the order of its key.
func TestAReplayKnowsTheOrder(t *testing.T) {
	t.Parallel()
	h := newReplaying(t)
	h.past(3)
	ordered := h.Ordered("acme", "*")
	ordered.Ordering.Key = `event.data.n == 1 ? "odd" : "even"`
	if err := h.Store.Update(t.Context(), ordered); err != nil {
		t.Fatal(err)
	}
	h.replayerAlone()
	h.start(ordered, map[string]any{"only": "undelivered"})
	h.Eventually("all are written", func() bool { return h.count("SELECT count(*) FROM deferrals") == 3 })
	if got := fmt.Sprint(fanouttest.Lists(h.Waiting(ordered))); got != "[[e0 e2] [e1]]" {
		t.Errorf("waiting: %s", got)
	}
}
