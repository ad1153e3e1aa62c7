package replay_test

import (
	"context"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/google/uuid"
	"github.com/nats-io/nats.go"

	"github.com/fanfarehq/fanfare/fanout"
	"github.com/fanfarehq/fanfare/internal/event"
)

// reads counts what is read of the stream of events from now on.
func (h *replaying) reads() *atomic.Int64 {
	h.T.Helper()
	n := new(atomic.Int64)
	sub, err := h.NC.Subscribe("$JS.API.>", func(m *nats.Msg) {
		if strings.Contains(m.Subject, ".GET.") {
			n.Add(1)
		}
	})
	if err != nil {
		h.T.Fatal(err)
	}
	h.T.Cleanup(func() { _ = sub.Unsubscribe() })
	if err := h.NC.Flush(); err != nil {
		h.T.Fatal(err)
	}
	return n
}

// Events are counted by their rows in the ledger, and read only where those do not tell who receives them.
func TestAReplayReadsWhatTheLedgerDoesNotTell(t *testing.T) {
	t.Parallel()
	h := newReplaying(t)
	stop := h.Run()
	sub := h.Subscribe("acme", "order.*")
	for range 5 {
		h.Publish("events.acme.order.created", `{"n":1}`, "Fanfare-Resource-Ids", "shop-0", "Fanfare-Resource-Ids", "shop-1") // a list in two lines
		h.Publish("events.acme.user.created", `{"n":2}`)
	}
	h.Settled()
	stop()
	if _, err := h.DB.ExecContext(t.Context(), "DELETE FROM deferrals"); err != nil {
		t.Fatal(err)
	}
	h.replayer()
	dry := func(what string, want int, read bool) {
		t.Helper()
		reads := h.reads()
		if v := h.done(h.start(sub, map[string]any{"dry_run": true, "only": "all"}).ID); v.Matched != want {
			t.Errorf("%s: %d events match, want %d", what, v.Matched, want)
		}
		if n := reads.Load(); n > 0 != read {
			t.Errorf("%s: the stream was read %d times, want that it was: %t", what, n, read)
		}
	}
	dry("by its type", 5, false)

	sub.ResourceID = "shop-1"
	if err := h.Store.Update(t.Context(), sub); err != nil {
		t.Fatal(err)
	}
	dry("by a resource", 5, true)

	sub.EventTypes = []string{"invoice.*"}
	if err := h.Store.Update(t.Context(), sub); err != nil {
		t.Fatal(err)
	}
	dry("by a resource, and a type that nothing has", 0, false)

	sub.EventTypes, sub.ResourceID = []string{"order.*"}, ""
	if err := h.Store.Update(t.Context(), sub); err != nil {
		t.Fatal(err)
	}
	stop = h.Run()
	h.Publish("events.acme.order.created", `{}`, "Fanfare-Targets", uuid.NewString())
	h.Publish("events.acme.user.created", `{}`, "Fanfare-Targets", sub.ID.String())
	h.Publish("events.acme.order.created", `{}`, "Fanfare-Targets", sub.ID.String(), "Fanfare-Test", "1")
	h.Settled()
	stop()
	if _, err := h.DB.ExecContext(t.Context(), "DELETE FROM deferrals"); err != nil {
		t.Fatal(err)
	}
	dry("with some that name their receivers", 6, true)

	// Rows of former versions do not tell whether their events did.
	if _, err := h.DB.ExecContext(t.Context(), "UPDATE events SET targeted = NULL"); err != nil {
		t.Fatal(err)
	}
	dry("with rows that do not tell", 6, true)
}

// outlived holds the bytes of events that are in the stream no more.
type outlived struct{ event.Event }

func (o outlived) Get(ctx context.Context, uid uuid.UUID, _ uint64) (*event.Event, error) {
	return o.Kept(ctx, uid)
}

func (o outlived) Kept(_ context.Context, uid uuid.UUID) (*event.Event, error) {
	o.UID = uid
	return &o.Event, nil
}

// What is kept of an event beyond the stream does not say whom it named, so nobody else receives it.
func TestAReplayTakesNobodyForANamedReceiver(t *testing.T) {
	t.Parallel()
	h := newReplaying(t)
	h.bytes = outlived{event.Event{ID: "e", Tenant: "acme", Type: "order.created", Data: []byte(`{}`)}}
	stop := h.Run()
	named, other := h.Subscribe("acme", "order.*"), h.Subscribe("acme", "order.*")
	gone := []uint64{
		h.Publish("events.acme.order.created", `{}`, "Fanfare-Targets", named.ID.String()),
		h.Publish("events.acme.order.created", `{}`),
	}
	h.Settled()
	stop()
	stream, err := h.JS.Stream(t.Context(), fanout.Stream)
	if err != nil {
		t.Fatal(err)
	}
	for _, seq := range gone {
		if err := stream.DeleteMsg(t.Context(), seq); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := h.DB.ExecContext(t.Context(), "INSERT INTO event_data (uid, body) SELECT uid, '' FROM events"); err != nil { // h.bytes has the contents.
		t.Fatal(err)
	}
	h.Publish("events.acme.user.created", `{}`) // lest the stream be empty
	h.replayer()
	if v := h.done(h.start(other, map[string]any{"only": "all"}).ID); v.Matched != 1 || v.Sent != 1 {
		t.Errorf("the replay is %+v, want the event that named nobody", v)
	}
}
