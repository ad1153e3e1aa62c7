package deliver_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/nats-io/nats.go"
	natsjs "github.com/nats-io/nats.go/jetstream"

	"github.com/fanfarehq/fanfare/deliver"
	"github.com/fanfarehq/fanfare/deliver/ledger"
	"github.com/fanfarehq/fanfare/deliver/outcome"
	"github.com/fanfarehq/fanfare/deliver/webhook"
	"github.com/fanfarehq/fanfare/internal/event"
	"github.com/fanfarehq/fanfare/internal/jetstream"
	"github.com/fanfarehq/fanfare/internal/servertest"
	"github.com/fanfarehq/fanfare/subscriptions"
)

// reliably sends as fan-out does: until it is told that the tasks are on disk, as suspect from the second time on.
func (r *rig) reliably(task deliver.Task) {
	r.T.Helper()
	for {
		err := r.outbox.Send(r.T.Context(), task)
		if err == nil {
			return
		}
		if !errors.Is(err, jetstream.ErrUnavailable) {
			r.T.Fatal(err)
		}
		task.Suspect = true
	}
}

// While Postgres is away, what succeeds goes on; afterwards all is recorded, and what failed is retried.
func TestPostgresGoesAwayUnderLoad(t *testing.T) {
	t.Parallel()
	server := servertest.NewRestartablePostgres(t)
	r := rigOn(t, servertest.Connect(t, servertest.NATS(t)), server.URL())
	cfg := quick()
	cfg.HandOff = 200 * time.Millisecond
	r.worker(cfg)
	r.recorder()
	good := servertest.NewReceiver(t)
	bad := servertest.NewReceiver(t, servertest.By(firstFails()))
	slow := servertest.NewReceiver(t, servertest.Delay(500*time.Millisecond, servertest.Status(200)))
	subs := []*subscriptions.Subscription{
		r.subscribe(good.URL, nil), r.subscribe(bad.URL, retries(50*time.Millisecond)),
		// It may have all at once: what found no room would wait in Postgres, and this test for it.
		r.subscribe(slow.URL, func(s *subscriptions.Subscription) { s.MaxInFlight = 200 }),
	}
	revision := r.task(r.event(), subs...).Revision
	var events []*event.Event
	send := func(n int) {
		for range n {
			e := r.event()
			events = append(events, e)
			task := deliver.Task{Event: *e, Revision: revision}
			for _, s := range subs {
				task.Targets = append(task.Targets, deliver.Target{Subscription: s.ID})
			}
			r.reliably(task)
		}
	}
	send(50)
	good.Wait(20)
	server.Kill()
	send(50)
	// Some of these deliveries, not all: those that find no room, or were held up on a slow machine, wait for Postgres.
	good.Wait(60)
	server.Start()
	send(20)
	for _, e := range events {
		for i, s := range subs {
			row := r.ended(outcome.ID(e.UID, s.ID, 0, e.AcceptedAt), outcome.Delivered, outcome.ReasonOK)
			if want := 1 + i%2; row.Attempts != want {
				t.Errorf("%s to %d: got %d attempts, want %d", e.ID, i, row.Attempts, want)
			}
		}
	}
	r.settled()
	// A row of a hand-off that committed just after its delivery's end goes when its lease has run out.
	r.Eventually("no rows to be left among the deferrals", func() bool {
		return r.Count(`SELECT count(*) FROM deferrals`) == 0
	})
	for i, receiver := range []*servertest.Receiver{good, bad, slow} {
		if got, want := len(receiver.Requests()), len(events)*(1+i%2); got != want {
			t.Errorf("receiver %d: got %d requests, want %d", i, got, want)
		}
	}
}

// firstFails answers 500 to the first request of each event.
func firstFails() func(servertest.Request) servertest.Answer {
	seen := make(chan map[string]bool, 1)
	seen <- make(map[string]bool)
	return func(req servertest.Request) servertest.Answer {
		m := <-seen
		defer func() { seen <- m }()
		id := req.Header.Get("webhook-id")
		if m[id] {
			return servertest.Status(200)
		}
		m[id] = true
		return servertest.Status(500)
	}
}

// synced makes the streams as an earlier build did: fan-out, which sends again what others lose, is not there.
func synced(t *testing.T, nc *nats.Conn) {
	t.Helper()
	for _, inbox := range inboxes() {
		inbox.Unsynced = false
		if err := jetstream.Apply(t.Context(), must(natsjs.New(nc))(t), inbox); err != nil {
			t.Fatal(err)
		}
	}
}

// NATS is killed and comes back: the worker goes on, nothing is lost, and what has its outcome on disk is not made again.
func TestNATSIsKilledUnderLoad(t *testing.T) {
	t.Parallel()
	server := servertest.NewRestartableNATS(t)
	nc := must(jetstream.Config{URL: server.URL()}.Connect(t.Context(), nil, nats.ReconnectWait(50*time.Millisecond)))(t)
	t.Cleanup(nc.Close)
	synced(t, nc)
	r := rigOn(t, nc, servertest.PostgresURL(t))
	r.impatient()
	r.worker(quick())
	r.recorder()
	receiver := servertest.NewReceiver(t, servertest.Delay(2*time.Millisecond, servertest.Status(200)))
	bad := servertest.NewReceiver(t, servertest.By(firstFails()))
	var subs []*subscriptions.Subscription
	for i := range 5 {
		subs = append(subs, r.subscribe(fmt.Sprintf("%s/%d", receiver.URL, i), nil))
	}
	subs = append(subs, r.subscribe(bad.URL, retries(20*time.Millisecond)))
	var ids []uuid.UUID
	const events = 300
	for i := range events {
		e := r.event()
		r.reliably(r.task(e, subs...))
		for _, s := range subs {
			ids = append(ids, outcome.ID(e.UID, s.ID, 0, e.AcceptedAt))
		}
		if i%100 == 50 {
			server.Kill()
			server.Start()
		}
	}
	for _, id := range ids {
		r.ended(id, outcome.Delivered, outcome.ReasonOK)
	}
	r.settled()
	if got, want := len(receiver.Requests()), events*5; got != want {
		t.Errorf("got %d requests, want %d: the worker did not crash", got, want)
	}
	if got, want := len(bad.Requests()), events*2; got != want {
		t.Errorf("got %d requests that fail once, want %d", got, want)
	}
}

// While ATTEMPTS is full nothing is lost and nothing is made twice; when there is room again it goes on.
func TestAttemptsIsFull(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	const n, size = 20, 4 << 10 // outcomes, and the bytes of a response
	r.Apply(ledger.Inbox(n * size / 2))
	r.worker(quick())
	receiver := servertest.NewReceiver(t, servertest.Reply(500, nil, strings.Repeat("x", size)))
	sub := r.subscribe(receiver.URL, once)
	var ids []uuid.UUID
	for range n {
		ids = append(ids, r.send(r.event(), sub))
	}
	receiver.Wait(n)
	r.recorder()
	r.Eventually("outcomes to be recorded", func() bool { return r.Count(`SELECT count(*) FROM deliveries`) > 0 })
	if got := r.Count(`SELECT count(*) FROM deliveries`); got > n/2 {
		t.Fatalf("%d of %d outcomes are recorded, of which half fit: the test says nothing", got, n)
	}
	r.trimmer(deliver.Config{})
	for _, id := range ids {
		r.ended(id, outcome.Dead, outcome.ReasonServer)
	}
	if got := len(receiver.Requests()); got != n {
		t.Errorf("got %d requests, want %d", got, n)
	}
}

// A panic costs one attempt, not the worker.
func TestAPanicIsOneFailedAttempt(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	receiver := servertest.NewReceiver(t)
	sub := r.subscribe(receiver.URL, func(s *subscriptions.Subscription) {
		retries(time.Millisecond)(s)
		s.MaxInFlight = 1 // The retry takes the place of the attempt that panicked.
	})
	p := r.parts(quick())
	next := p.deps.Poster
	p.deps.Poster = posterFunc(func(ctx context.Context, a webhook.Attempt) webhook.Result {
		if a.Number == 1 {
			panic("boom")
		}
		return next.Send(ctx, a)
	})
	w := r.start(p)
	r.recorder()
	if row := r.ended(r.send(r.event(), sub), outcome.Delivered, outcome.ReasonOK); row.Attempts != 2 {
		t.Errorf("got %d attempts, want 2", row.Attempts)
	}
	if n := w.metric("fanfare_attempt_panics_total"); n != 1 {
		t.Errorf("%v panics were counted, want 1", n)
	}
}

// SIGTERM: what is in flight may end, what waits is handed back at once, and nobody sees it twice.
func TestStoppingFinishesWhatIsInFlight(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.recorder()
	release := make(chan struct{})
	receiver := servertest.NewReceiver(t, servertest.After(release, servertest.Status(200)))
	sub := r.subscribe(receiver.URL, func(s *subscriptions.Subscription) { s.MaxInFlight = 1 })
	other := r.subscribe(receiver.URL, nil)
	cfg := unhurried()
	cfg.DrainTimeout = time.Minute
	w := r.worker(cfg)
	e := r.event()
	inFlight := r.send(e, other)
	receiver.Wait(1)
	first := r.send(r.event(), sub)
	receiver.Wait(2)
	waiting := r.send(r.event(), sub)
	r.Eventually("the worker to have it in hand", func() bool {
		return must(r.JS.Consumer(t.Context(), deliver.Stream, deliver.Durable))(t).CachedInfo().NumAckPending == 3
	})
	w.Cancel()
	r.worker(cfg)
	receiver.Wait(3) // Another worker has begun it, while the first waits for what it has in flight.
	close(release)
	if err := w.Stop(); err != nil {
		t.Fatal(err)
	}
	r.ended(inFlight, outcome.Delivered, outcome.ReasonOK)
	r.ended(first, outcome.Delivered, outcome.ReasonOK)
	r.ended(waiting, outcome.Delivered, outcome.ReasonOK)
	if n := len(receiver.Requests()); n != 3 {
		t.Errorf("got %d requests, want 3", n)
	}
}

// What does not end in time is broken off and handed back, with its lease; it counts as no failure of the receiver.
func TestStoppingBreaksOffWhatTakesTooLong(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.recorder()
	receiver := servertest.NewReceiver(t, servertest.Hang(), servertest.Hang(), servertest.Status(200))
	sub := r.subscribe(receiver.URL, once)
	cfg := quick()
	cfg.HandOff, cfg.DrainTimeout = 300*time.Millisecond, 100*time.Millisecond
	w := r.worker(cfg)
	leased := r.send(r.event(), sub)
	r.waits(leased, outcome.ReasonBusy)
	unleased := r.send(r.event(), sub)
	receiver.Wait(2)
	if err := w.Stop(); err != nil {
		t.Fatal(err)
	}
	if n := r.Count(`SELECT count(*) FROM deferrals WHERE worker <> ''`); n != 0 {
		t.Errorf("%d leases are left", n)
	}
	r.worker(quick())
	for _, id := range []uuid.UUID{leased, unleased} {
		if row := r.ended(id, outcome.Delivered, outcome.ReasonOK); row.Attempts != 1 {
			t.Errorf("got %d attempts, want 1", row.Attempts)
		}
	}
}

// A worker that starts before its stream exists says what to do.
func TestWithoutAStream(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	if err := r.JS.DeleteStream(t.Context(), deliver.Stream); err != nil {
		t.Fatal(err)
	}
	s := r.worker(quick())
	s.Killed = true
	<-s.Done
	if !errors.Is(s.Err, natsjs.ErrStreamNotFound) {
		t.Errorf("got %v, want that the stream is missing", s.Err)
	}
}
