package deliver_test

import (
	"bytes"
	"errors"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"
	natsjs "github.com/nats-io/nats.go/jetstream"

	"github.com/fanfarehq/fanfare/deliver"
	"github.com/fanfarehq/fanfare/deliver/outcome"
	"github.com/fanfarehq/fanfare/internal/event"
	"github.com/fanfarehq/fanfare/internal/jetstream"
	"github.com/fanfarehq/fanfare/internal/servertest"
	"github.com/fanfarehq/fanfare/subscriptions"
)

// sendAs hands over n events of a tenant to its subscriptions, and returns the ids of their first deliveries.
func (r *rig) sendAs(tenant string, n int, subs ...*subscriptions.Subscription) (ids []uuid.UUID) {
	r.T.Helper()
	var tasks []deliver.Task
	for range n {
		e := r.eventOf(tenant)
		t := r.task(e, subs...)
		tasks = append(tasks, t)
		ids = append(ids, outcome.ID(e.UID, subs[0].ID, 0, e.AcceptedAt))
	}
	if err := r.outbox.Send(r.T.Context(), tasks...); err != nil {
		r.T.Fatal(err)
	}
	return ids
}

// pending returns how many messages of tasks wait in a stream.
func (r *rig) pending(name string) (n uint64) {
	r.T.Helper()
	for _, inbox := range inboxes() {
		if inbox.Stream.Name == name {
			n = must(r.undone(inbox))(r.T)
		}
	}
	return n
}

// A tenant's deliveries do not wait behind the backlog of another, which is many times of what a worker has in hand;
// and of the backlog nothing is lost or sent twice, although its workers are killed and stopped on the way.
func TestABacklogDelaysNobodyElse(t *testing.T) {
	t.Parallel()
	const events, wide = 60, 40
	r := newRig(t)
	r.recorder()
	flooded := servertest.NewReceiver(t, servertest.Delay(20*time.Millisecond, servertest.Status(200)))
	var subs []*subscriptions.Subscription
	for range wide {
		subs = append(subs, r.subscribe(flooded.URL, of("flood")))
	}
	var made atomic.Int64 // of the flood, when the victim's came
	victim := r.subscribe(servertest.NewReceiver(t, servertest.By(func(servertest.Request) servertest.Answer {
		made.CompareAndSwap(0, int64(len(flooded.Requests())))
		return servertest.Status(200)
	})).URL, of("victim"))
	// What is handed over at once and is more than allowed at once is in the backlog, however slow the machine is.
	const alone = 10
	for range alone {
		r.sendAs("flood", 1, subs...)
	}
	r.sendAs("flood", events-alone, subs...)
	if r.pending(deliver.BacklogStream) == 0 {
		t.Fatal("the flood is not in the backlog")
	}
	cfg := quick()
	cfg.InFlight = 8
	first := r.worker(cfg)
	flooded.Wait(1)
	ids := r.sendAs("victim", 1, victim)
	before := len(flooded.Requests()) // while the victim's event was handed over
	r.ended(ids[0], outcome.Delivered, outcome.ReasonOK)
	if n := int(made.Load()) - before; n > events*wide/2 {
		t.Errorf("%d deliveries of the backlog were made before the victim's", n)
	}
	if err := first.Stop(); err != nil {
		t.Fatal(err)
	}
	r.worker(quick())
	third := r.worker(quick())
	r.ended(r.sendAs("victim", 1, victim)[0], outcome.Delivered, outcome.ReasonOK)
	if err := third.Stop(); err != nil {
		t.Fatal(err)
	}
	// Leases that a worker gave back are in no stream.
	r.Eventually("the backlog to be delivered", func() bool {
		return r.Count(`SELECT count(*) FROM deliveries WHERE tenant = 'flood' AND state = 'delivered'`) == events*wide
	})
	r.settled()
	if n := len(flooded.Requests()); n != events*wide {
		t.Errorf("got %d requests, want %d", n, events*wide)
	}
}

// A tenant that fills its share of the backlog is refused more, and nobody else is.
func TestABacklogIsShared(t *testing.T) {
	t.Parallel()
	_, js := outboxOn(t)
	if err := jetstream.Apply(t.Context(), js, deliver.BacklogInbox(16<<20)); err != nil {
		t.Fatal(err)
	}
	publisher := must(jetstream.NewPublisher(js, jetstream.PublisherConfig{}))(t)
	// send hands over 400 KB for more subscriptions than a tenant may send to at once. Its outbox is new, so that it
	// looks at the backlog each time.
	send := func(tenant string, size int) error {
		task := deliver.Task{Event: event.Event{Tenant: tenant, ID: "e", Data: bytes.Repeat([]byte("x"), size)}, Targets: targets(deliver.MaxTargets)}
		return deliver.NewOutbox(js, publisher).Send(t.Context(), slices.Repeat([]deliver.Task{task}, 9)...)
	}
	fill := func(tenant string) (sent int) {
		for {
			err := send(tenant, 45<<10)
			if errors.Is(err, jetstream.ErrFull) {
				return sent
			}
			if err != nil {
				t.Fatal(err)
			}
			sent++
		}
	}
	n := fill("flood")
	if state := must(js.Stream(t.Context(), deliver.BacklogStream))(t).CachedInfo().State; state.Bytes < 7<<20 || state.Bytes > 9<<20 {
		t.Errorf("one tenant has %d bytes of 16 MiB, want about half", state.Bytes)
	}
	if m := fill("other"); m < n/4 {
		t.Errorf("another tenant could hand over %d tasks, want a share of its own beside the first's %d", m, n)
	}
	for i := range 4 {
		if err := send("small"+strconv.Itoa(i), 2); err != nil {
			t.Errorf("a tenant without a backlog: %v", err)
		}
	}
}

// Where one lane is far behind, what the others are done with leaves the stream all the same once it becomes full.
func TestTrimBehindABacklog(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	inbox := deliver.BacklogInbox(1 << 20)
	r.Apply(inbox)
	behind, ahead := inbox.Consumers[0], inbox.Consumers[1]
	publish := func(lane natsjs.ConsumerConfig, n int) {
		for range n {
			if _, err := r.JS.Publish(t.Context(), strings.Replace(lane.FilterSubject, "*", "acme", 1), make([]byte, 64<<10)); err != nil {
				t.Fatal(err)
			}
		}
	}
	publish(behind, 4)
	publish(ahead, 8)
	consumer := must(r.JS.Consumer(t.Context(), deliver.BacklogStream, ahead.Durable))(t)
	for msg := range must(consumer.Fetch(8, natsjs.FetchMaxWait(time.Minute)))(t).Messages() {
		if err := msg.DoubleAck(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	trimmer := r.trimmer(deliver.Config{})
	r.Eventually("the 4 messages to be left that are not done", func() bool { return r.messages(deliver.BacklogStream) == 4 })
	if n := trimmer.metric("fanfare_tasks_pending", deliver.BacklogStream); n != 4 {
		t.Errorf("%v messages are pending, want 4", n)
	}
	publish(behind, 4)
}
