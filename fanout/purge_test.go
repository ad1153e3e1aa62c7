package fanout_test

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"log/slog"
	"testing"
	"time"

	"github.com/google/uuid"
	natsjs "github.com/nats-io/nats.go/jetstream"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/fanfarehq/fanfare/deliver"
	"github.com/fanfarehq/fanfare/deliver/ledger"
	"github.com/fanfarehq/fanfare/deliver/outcome"
	"github.com/fanfarehq/fanfare/fanout"
	"github.com/fanfarehq/fanfare/fanout/fanouttest"
	"github.com/fanfarehq/fanfare/internal/event"
	"github.com/fanfarehq/fanfare/internal/jetstream"
)

// purging is a house whose stream of events holds 4 MiB, with a Purger.
type purging struct {
	*fanouttest.House
	purger *fanout.Purger
	events *deliver.Events
}

func newPurging(t *testing.T) *purging {
	t.Helper()
	h := &purging{House: fanouttest.New(t)}
	if err := jetstream.Apply(t.Context(), h.JS, fanout.Inbox(24*time.Hour, 4<<20), deliver.Inbox(16<<20), deliver.BacklogInbox(16<<20), ledger.Inbox(16<<20)); err != nil {
		t.Fatal(err)
	}
	reader := fanout.NewReader(h.JS)
	var err error
	h.events, err = deliver.NewEvents(deliver.EventsConfig{Read: func(ctx context.Context, seq uint64) (*event.Event, error) {
		e, err := reader.Read(ctx, seq)
		if errors.Is(err, fanout.ErrGone) {
			return nil, event.ErrGone
		}
		return e, err
	}, CacheBytes: 1}, h.DB)
	if err != nil {
		t.Fatal(err)
	}
	h.purger = fanout.NewPurger(fanout.PurgerDeps{
		JetStream: h.JS, DB: h.DB, Keeper: ledger.NewKeeper(h.DB, h.events, nil), Metrics: prometheus.NewRegistry(), Logger: slog.New(slog.DiscardHandler),
	})
	return h
}

// publish puts so many events of 100 KiB into the stream.
func (h *purging) publish(n int) {
	h.T.Helper()
	noise := make([]byte, 75<<10)
	for range n {
		_, _ = rand.Read(noise)
		h.Publish("events.acme.order.created", `"`+base64.StdEncoding.EncodeToString(noise)+`"`)
	}
}

// purge lets the purger have two turns: what is settled at the first one is removed at the second one. It returns the
// stream then.
func (h *purging) purge() natsjs.StreamState {
	h.T.Helper()
	for range 2 {
		if _, err := h.purger.Purge(h.T.Context()); err != nil {
			h.T.Fatal(err)
		}
	}
	stream, err := h.JS.Stream(h.T.Context(), fanout.Stream)
	if err != nil {
		h.T.Fatal(err)
	}
	return stream.CachedInfo().State
}

// recorded returns the ledger's event at a place of the stream.
func (h *purging) recorded(seq uint64) (uid uuid.UUID, id string) {
	h.T.Helper()
	if err := h.DB.QueryRowContext(h.T.Context(), `SELECT uid, id FROM events WHERE seq = $1`, seq).Scan(&uid, &id); err != nil {
		h.T.Fatal(err)
	}
	return uid, id
}

// record writes what became of a delivery of the event at a place of the stream.
func (h *purging) record(seq uint64, step int, o outcome.Outcome) uuid.UUID {
	h.T.Helper()
	uid, id := h.recorded(seq)
	subscription := uuid.NewSHA1(uuid.Nil, []byte("subscription"))
	reason := outcome.ReasonTimeout
	r := &outcome.Record{
		Delivery: outcome.FirstDelivery(uid, subscription), EventUID: uid, EventID: id, EventType: "order.created", Tenant: "acme", Seq: seq,
		Subscription: subscription, Step: step, Outcome: o, Reason: reason, Attempts: step, CreatedAt: outcome.TimeOf(uid), At: time.Now().Add(time.Hour),
	}
	if err := ledger.New(h.DB).Write(h.T.Context(), []*outcome.Record{r}); err != nil {
		h.T.Fatal(err)
	}
	return uid
}

// audited notes that the reconciler has looked at all events.
func (h *purging) audited() {
	h.T.Helper()
	if _, err := h.DB.ExecContext(h.T.Context(), `INSERT INTO chores (name, worker, until, place) VALUES ('reconcile', 'w', now(), now() + interval '1 minute')
ON CONFLICT (name) DO UPDATE SET place = excluded.place`); err != nil {
		h.T.Fatal(err)
	}
}

// Settled events leave the stream, the oldest first and before it is full; what pending deliveries need is copied.
func TestSettledEventsLeaveTheStream(t *testing.T) {
	t.Parallel()
	h := newPurging(t)
	h.Run()
	h.publish(28)
	h.Settled()
	later, ended, dead := h.record(2, 1, outcome.Later), h.record(3, 1, outcome.Delivered), h.record(4, 1, outcome.Later)

	if at := h.purge(); at.FirstSeq != 1 {
		t.Errorf("events that were not audited are gone: %+v", at)
	}
	h.audited()
	at := h.purge()
	if at.FirstSeq < 6 || at.Bytes > 2<<20+200<<10 {
		t.Errorf("settled events are there still: %+v", at)
	}
	for uid, kept := range map[uuid.UUID]bool{later: true, dead: true, ended: false} {
		e, err := h.events.Get(t.Context(), uid, 2)
		if kept && (err != nil || e.UID != uid) || !kept && !errors.Is(err, event.ErrGone) {
			t.Errorf("event %s: got %v, want that it is kept: %t", uid, err, kept)
		}
	}

	// A copy goes with the last of its deliveries, unless that is dead.
	h.record(2, 2, outcome.Delivered)
	h.record(4, 2, outcome.Dead)
	if n, err := ledger.NewKeeper(h.DB, h.events, nil).Drop(t.Context()); n != 1 || err != nil {
		t.Errorf("dropped %d copies, %v, want one", n, err)
	}
	var left uuid.UUID
	var waiting bool
	if err := h.DB.QueryRowContext(t.Context(), `SELECT uid, waiting FROM event_data`).Scan(&left, &waiting); err != nil || left != dead || waiting {
		t.Errorf("the copies are %s (waiting: %t), %v, want that of the dead delivery", left, waiting, err)
	}
}

// brokers is what a Purger knows of what the broker lost.
type brokers struct {
	name      string
	recovered bool
	until     time.Time
}

func (b *brokers) Broker() string           { return b.name }
func (b *brokers) Recovered(is string) bool { return b.recovered && is == b.name }
func (b *brokers) Settled(_ context.Context, until time.Time) error {
	b.until = until
	return nil
}

// A broker that lost tasks looks like one whose tasks are done.
func TestNothingSettlesBeforeLostTasksAreSentAgain(t *testing.T) {
	t.Parallel()
	h := newPurging(t)
	b := &brokers{name: "one"}
	h.purger.Recovery = b
	h.Run()
	h.publish(32)
	h.Settled()
	if at := h.purge(); at.FirstSeq != 1 || !b.until.IsZero() {
		t.Errorf("events settled until %s: %+v", b.until, at)
	}
	b.recovered = true
	if _, err := h.purger.Purge(t.Context()); err != nil {
		t.Fatal(err)
	}
	b.name = "two" // What was done before counts for nothing.
	if _, err := h.purger.Purge(t.Context()); err != nil {
		t.Fatal(err)
	}
	if !b.until.IsZero() {
		t.Errorf("events settled until %s by what two brokers said", b.until)
	}
	if at := h.purge(); at.FirstSeq < 6 || !b.until.Equal(at.LastTime) {
		t.Errorf("events settled until %s: %+v", b.until, at)
	}
}

// Where room is short, events leave before they are audited, but never before their tasks are done.
func TestUnsettledEventsStay(t *testing.T) {
	t.Parallel()
	h := newPurging(t)
	h.Run()
	h.publish(32)
	h.Settled()
	outbox := deliver.NewOutbox(h.JS, publisher(t, h.JS))
	e, err := fanout.NewReader(h.JS).Read(t.Context(), 1)
	if err != nil {
		t.Fatal(err)
	}
	if err := outbox.Send(t.Context(), deliver.Task{Event: *e, Targets: []deliver.Target{{Subscription: uuid.New()}}}); err != nil {
		t.Fatal(err)
	}
	if at := h.purge(); at.FirstSeq != 1 {
		t.Errorf("an event with a task is gone: %+v", at)
	}
	h.done()
	if at := h.purge(); at.FirstSeq < 6 {
		t.Errorf("events whose tasks are done are there still: %+v", at)
	}
}

// Events settle although newer tasks always wait.
func TestABacklogHidesNoSettledEvents(t *testing.T) {
	t.Parallel()
	h := newPurging(t)
	h.Run()
	outbox := deliver.NewOutbox(h.JS, publisher(t, h.JS))
	for _, n := range []int{11, 10, 15} {
		h.publish(n)
		h.Settled()
		if err := outbox.Send(t.Context(), deliver.Task{Event: event.Event{Tenant: "acme", ID: "e", Type: "x", UID: uuid.New(), Data: []byte(`1`)}, Targets: []deliver.Target{{Subscription: uuid.New()}}}); err != nil {
			t.Fatal(err)
		}
		if _, err := h.purger.Purge(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	h.done()
	h.done() // The third task waits.
	if _, err := h.purger.Purge(t.Context()); err != nil {
		t.Fatal(err)
	}
	stream, err := h.JS.Stream(t.Context(), fanout.Stream)
	if err != nil {
		t.Fatal(err)
	}
	if at := stream.CachedInfo().State; at.FirstSeq < 15 || at.FirstSeq > 22 {
		t.Errorf("of the first 21 events, which are settled, the stream has those from %d on", at.FirstSeq)
	}
}

// A stream that was made again has other events at the places that were settled: those stay.
func TestPlacesOfALostStreamSettleNothing(t *testing.T) {
	t.Parallel()
	h := newPurging(t)
	stop := h.Run()
	h.publish(32)
	h.Settled()
	if at := h.purge(); at.FirstSeq < 6 {
		t.Errorf("settled events are there still: %+v", at)
	}
	stop()
	if err := h.JS.DeleteStream(t.Context(), fanout.Stream); err != nil {
		t.Fatal(err)
	}
	if err := jetstream.Apply(t.Context(), h.JS, fanout.Inbox(24*time.Hour, 4<<20)); err != nil {
		t.Fatal(err)
	}
	h.publish(32) // No fan-out runs.
	if at := h.purge(); at.FirstSeq != 1 {
		t.Errorf("events that were not matched are gone: %+v", at)
	}
}

// done acknowledges all tasks.
func (h *purging) done() {
	h.T.Helper()
	consumer, err := h.JS.Consumer(h.T.Context(), deliver.Stream, deliver.Durable)
	if err != nil {
		h.T.Fatal(err)
	}
	msg, err := consumer.Next(natsjs.FetchMaxWait(time.Minute))
	if err == nil {
		err = msg.DoubleAck(h.T.Context())
	}
	if err != nil {
		h.T.Fatal(err)
	}
}

func publisher(t *testing.T, js natsjs.JetStream) *jetstream.Publisher {
	t.Helper()
	p, err := jetstream.NewPublisher(js, jetstream.PublisherConfig{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = p.Close() })
	return p
}
