package deliver

import (
	"bytes"
	"errors"
	"strconv"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"
	natsjs "github.com/nats-io/nats.go/jetstream"

	"github.com/fanfarehq/fanfare/deliver/outcome"
	"github.com/fanfarehq/fanfare/internal/event"
	"github.com/fanfarehq/fanfare/internal/jetstream"
	"github.com/fanfarehq/fanfare/internal/servertest"
	"github.com/fanfarehq/fanfare/subscriptions"
)

// sendAs hands over n events of a tenant to its subscriptions, and returns the ids of their first deliveries.
func (r *rig) sendAs(tenant string, n int, subs ...*subscriptions.Subscription) (ids []uuid.UUID) {
	r.T.Helper()
	var tasks []Task
	for range n {
		e := r.event()
		e.Tenant = tenant
		e.UID = event.UID(tenant, e.ID, e.AcceptedAt)
		t := r.task(e, subs...)
		tasks = append(tasks, t)
		ids = append(ids, outcome.ID(e.UID, subs[0].ID, 0, e.AcceptedAt))
	}
	if err := r.outbox.Send(r.T.Context(), tasks...); err != nil {
		r.T.Fatal(err)
	}
	return ids
}

func ofTenant(tenant string) func(*subscriptions.Subscription) {
	return func(s *subscriptions.Subscription) { s.Tenant, s.Scopes = tenant, []string{subscriptions.AllScopes} }
}

// pending returns how many messages of tasks wait in a stream.
func (r *rig) pending(name string) (n uint64) {
	r.T.Helper()
	stream := must(r.JS.Stream(r.T.Context(), name))(r.T)
	for _, p := range must(queuePlaces(r.T.Context(), stream))(r.T) {
		n += p.pending
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
		subs = append(subs, r.subscribe(flooded.URL, ofTenant("flood")))
	}
	var made atomic.Int64 // of the flood, when the victim's came
	victim := r.subscribe(servertest.NewReceiver(t, servertest.By(func(servertest.Request) servertest.Answer {
		made.CompareAndSwap(0, int64(len(flooded.Requests())))
		return servertest.Status(200)
	})).URL, ofTenant("victim"))
	began := time.Now()
	r.outbox.allowance.now = func() time.Time { return began } // However long it takes to hand it over, it is more than allowed.
	for range events {
		r.sendAs("flood", 1, subs...)
	}
	r.outbox.allowance.now = time.Now
	if r.pending(BacklogStream) == 0 {
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
	outbox, js := outboxOn(t)
	if err := jetstream.Apply(t.Context(), js, BacklogInbox(16<<20)); err != nil {
		t.Fatal(err)
	}
	task := func(tenant string) Task {
		return Task{Event: event.Event{Tenant: tenant, ID: "e", Data: bytes.Repeat([]byte("x"), 400<<10)}, Targets: targets(MaxTargets)}
	}
	fill := func(tenant string) (sent int) {
		for {
			err := outbox.Send(t.Context(), task(tenant))
			if errors.Is(err, jetstream.ErrFull) {
				return sent
			}
			if err != nil {
				t.Fatal(err)
			}
			sent++
			outbox.room.mu.Lock()
			outbox.room.at = time.Time{} // It looks each time.
			outbox.room.mu.Unlock()
		}
	}
	n := fill("flood")
	if state := must(js.Stream(t.Context(), BacklogStream))(t).CachedInfo().State; state.Bytes < 7<<20 || state.Bytes > 9<<20 {
		t.Errorf("one tenant has %d bytes of 16 MiB, want about half", state.Bytes)
	}
	if m := fill("other"); m < n/4 {
		t.Errorf("another tenant could hand over %d tasks, want a share of its own beside the first's %d", m, n)
	}
	for i := range 4 {
		if err := outbox.Send(t.Context(), Task{Event: event.Event{Tenant: "small" + strconv.Itoa(i), Data: []byte("{}")}, Targets: targets(1)}); err != nil {
			t.Errorf("a tenant without a backlog: %v", err)
		}
	}
}

// Where one lane is far behind, what the others are done with leaves the stream all the same once it becomes full.
func TestTrimBehindABacklog(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	if err := jetstream.Apply(t.Context(), r.JS, BacklogInbox(1<<20)); err != nil {
		t.Fatal(err)
	}
	behind, ahead := "a", "b"
	for i := 0; laneOf(behind) == laneOf(ahead); i++ {
		ahead = "b" + strconv.Itoa(i)
	}
	publish := func(tenant string, n int) {
		for range n {
			if _, err := r.JS.Publish(t.Context(), backlogSubject(tenant), make([]byte, 64<<10)); err != nil {
				t.Fatal(err)
			}
		}
	}
	publish(behind, 4)
	publish(ahead, 8)
	consumer := must(r.JS.Consumer(t.Context(), BacklogStream, "deliver-"+strconv.Itoa(laneOf(ahead))))(t)
	for msg := range must(consumer.Fetch(8, natsjs.FetchMaxWait(time.Minute)))(t).Messages() {
		if err := msg.DoubleAck(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	trimmer := NewTrimmer(Config{}, r.JS, r.parts(Config{}).deps.Metrics, r.Log)
	if err := trimmer.trim(t.Context()); err != nil {
		t.Fatal(err)
	}
	if state := must(r.JS.Stream(t.Context(), BacklogStream))(t).CachedInfo().State; state.Msgs != 4 {
		t.Errorf("%d messages are left, want the 4 that are not done", state.Msgs)
	}
	if n := metric(t, trimmer.metrics.pending.WithLabelValues(BacklogStream)); n != 4 {
		t.Errorf("%v messages are pending, want 4", n)
	}
	publish(behind, 4)
}

// The allowance is used up and comes back.
func TestAllowance(t *testing.T) {
	t.Parallel()
	now := time.Unix(1_700_000_000, 0)
	a := newAllowance(func() time.Time { return now })
	if !a.take("a", allowedAtOnce) || a.take("a", 1) {
		t.Error("a tenant may have its burst and no more")
	}
	if !a.take("b", 1) {
		t.Error("another tenant's allowance is its own")
	}
	now = now.Add(time.Second)
	if !a.take("a", allowedPerSecond) || a.take("a", 1) {
		t.Error("after a second, a second's allowance is there again")
	}
	for i := range 5000 {
		a.take(strconv.Itoa(i), 1)
		now = now.Add(time.Second)
	}
	if len(a.used) > 2048 {
		t.Errorf("%d tenants are remembered", len(a.used))
	}
}

// The backlog leaves room for other tasks, and the tenant that has the least in hand is next.
func TestInHand(t *testing.T) {
	t.Parallel()
	h := newInHand(800)
	take := func(tenant string, weight int) <-chan error {
		done := make(chan error, 1)
		go func() { done <- h.acquire(t.Context(), tenant, weight) }()
		return done
	}
	waits := func(n int) {
		for {
			h.mu.Lock()
			have := 0
			for _, of := range h.tenants {
				have += len(of.queue)
			}
			h.mu.Unlock()
			if have == n {
				return
			}
		}
	}
	for _, weight := range []int{600, 100} {
		if err := <-take("flood", weight); err != nil {
			t.Fatal(err)
		}
	}
	second := take("flood", 100)
	waits(1)
	first := take("late", 100)
	waits(2)
	if err := <-take("", 100); err != nil {
		t.Errorf("tasks of all tenants waited behind the backlog: %v", err)
	}
	h.release("", 100)
	h.release("flood", 100)
	if err := <-first; err != nil {
		t.Error(err)
	}
	select {
	case err := <-second:
		t.Error("the tenant with most in hand was served first", err)
	default:
	}
	h.release("flood", 600)
	if err := <-second; err != nil {
		t.Error(err)
	}
}
