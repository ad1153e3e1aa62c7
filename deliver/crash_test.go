package deliver_test

import (
	"context"
	"fmt"
	"strconv"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/nats-io/nats.go"
	natsjs "github.com/nats-io/nats.go/jetstream"

	"github.com/fanfarehq/fanfare/deliver"
	"github.com/fanfarehq/fanfare/deliver/ledger"
	"github.com/fanfarehq/fanfare/deliver/outcome"
	"github.com/fanfarehq/fanfare/deliver/webhook"
	"github.com/fanfarehq/fanfare/internal/jetstream"
	"github.com/fanfarehq/fanfare/internal/servertest"
	"github.com/fanfarehq/fanfare/subscriptions"
)

// victim is a worker with connections of its own, that can be killed: what it has in hand is lost with it.
type victim struct {
	*running
	kill func()
}

// impatient lets another worker have a killed one's messages after a second.
func (r *rig) impatient() {
	r.T.Helper()
	for _, inbox := range inboxes() {
		for i := range inbox.Consumers {
			inbox.Consumers[i].AckWait = time.Second
		}
		if err := jetstream.Apply(r.T.Context(), r.JS, inbox); err != nil {
			r.T.Fatal(err)
		}
	}
}

// victim starts a worker on a server of NATS. Around stands between it and its poster; it is given the means to kill.
func (r *rig) victim(connect func() natsjs.JetStream, cfg deliver.Config, around func(kill func(), next deliver.Attempter) deliver.Attempter, change ...func(*parts)) *victim {
	r.T.Helper()
	js, db := connect(), r.Open()
	kill := func() {
		js.Conn().Close()
		_ = db.Close()
	}
	p := r.parts(cfg)
	p.deps.JS, p.deps.DB, p.deps.Publisher = js, db, r.publisher(js)
	p.deps.Directory = subscriptions.NewDirectory(db, r.Ring, r.Log)
	if around != nil {
		p.deps.Poster = around(kill, p.deps.Poster)
	}
	for _, change := range change {
		change(p)
	}
	s := r.start(p)
	s.Killed = true
	return &victim{running: s, kill: kill}
}

// brief is a configuration of a worker that hands off soon and stops at once.
func brief() deliver.Config {
	return deliver.Config{HandOff: 100 * time.Millisecond, Lease: time.Minute, DrainTimeout: 100 * time.Millisecond}
}

// hasty gives a subscription attempts that a brief lease outlasts.
func hasty(s *subscriptions.Subscription) { s.Timeout = 30 * time.Second }

// bury waits until a killed worker has ended, and ends its leases, so that nobody waits for them.
func (r *rig) bury(v *victim) {
	r.T.Helper()
	<-v.Done
	if err := deliver.ReleaseLeases(r.T.Context(), r.DB); err != nil {
		r.T.Fatal(err)
	}
}

// connections makes connections to the server of the test.
func connections(t *testing.T) (*rig, func() natsjs.JetStream) {
	t.Helper()
	server := servertest.NATS(t)
	connect := func() natsjs.JetStream { return must(natsjs.New(servertest.Connect(t, server)))(t) }
	r := rigOn(t, connect().Conn(), servertest.PostgresURL(t))
	r.impatient()
	return r, connect
}

// Killed between the request and its outcome on disk: the delivery is made once more.
func TestKilledBetweenSendAndOutcome(t *testing.T) {
	t.Parallel()
	r, connect := connections(t)
	r.recorder()
	receiver := servertest.NewReceiver(t)
	sub := r.subscribe(receiver.URL, hasty)
	v := r.victim(connect, brief(), func(kill func(), next deliver.Attempter) deliver.Attempter {
		return posterFunc(func(ctx context.Context, a webhook.Attempt) webhook.Result {
			result := next.Send(ctx, a)
			kill()
			return result
		})
	})
	id := r.send(r.event(), sub)
	receiver.Wait(1)
	v.Cancel()
	r.bury(v)
	r.worker(brief())
	r.ended(id, outcome.Delivered, outcome.ReasonOK)
	r.settled()
	if n := len(receiver.Requests()); n != 2 {
		t.Errorf("got %d requests, want the one that was lost and one more", n)
	}
}

// Killed between the outcome on disk and the acknowledgement: what has its outcome is not made again.
func TestKilledBetweenOutcomeAndAck(t *testing.T) {
	t.Parallel()
	r, connect := connections(t)
	done, hangs := servertest.NewReceiver(t), servertest.NewReceiver(t, servertest.Hang(), servertest.Status(200))
	one, two := r.subscribe(done.URL, hasty), r.subscribe(hangs.URL, hasty)
	cfg := brief()
	cfg.HandOff = time.Minute
	v := r.victim(connect, cfg, nil)
	e := r.event()
	id := r.send(e, one, two)
	done.Wait(1)
	hangs.Wait(1)
	r.Eventually("one outcome to be on disk", func() bool {
		s, err := r.JS.Stream(t.Context(), ledger.Stream)
		return err == nil && s.CachedInfo().State.Msgs >= 1
	})
	v.kill()
	// Nobody has recorded the outcome yet: the other worker must wait for that before it judges.
	r.worker(brief())
	r.recorder()
	r.ended(id, outcome.Delivered, outcome.ReasonOK)
	r.ended(outcome.ID(e.UID, two.ID, 0, e.AcceptedAt), outcome.Delivered, outcome.ReasonOK)
	r.settled()
	if n := len(done.Requests()); n != 1 {
		t.Errorf("got %d requests for the delivery that had its outcome, want 1", n)
	}
	if n := len(hangs.Requests()); n != 2 {
		t.Errorf("got %d requests for the delivery that was in flight, want 2", n)
	}
}

// A consumer that has forgotten its acks hands all messages out again, as if for the first time: none is made again.
func TestAConsumerThatForgotItsAcks(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	first := r.worker(quick())
	recorder := r.recorder()
	receiver := servertest.NewReceiver(t)
	failing := servertest.NewReceiver(t, servertest.Status(500))
	sub, bad := r.subscribe(receiver.URL, nil), r.subscribe(failing.URL, retries(time.Hour))
	var ids []uuid.UUID
	for range 20 {
		ids = append(ids, r.send(r.event(), sub, bad))
	}
	for _, id := range ids {
		r.ended(id, outcome.Delivered, outcome.ReasonOK)
	}
	r.settled()
	if err := first.Stop(); err != nil {
		t.Fatal(err)
	}
	if err := recorder.Stop(); err != nil {
		t.Fatal(err)
	}
	for stream, inbox := range map[string]jetstream.Inbox{deliver.Stream: deliver.Inbox(64 << 20), ledger.Stream: ledger.Inbox(64 << 20)} {
		if err := r.JS.DeleteConsumer(t.Context(), stream, inbox.Consumers[0].Durable); err != nil {
			t.Fatal(err)
		}
		if err := jetstream.Apply(t.Context(), r.JS, inbox); err != nil {
			t.Fatal(err)
		}
	}
	second := r.worker(quick())
	r.recorder()
	last := r.send(r.event(), sub)
	r.ended(last, outcome.Delivered, outcome.ReasonOK)
	r.settled()
	if n := len(receiver.Requests()); n != 21 {
		t.Errorf("got %d requests, want 21", n)
	}
	if n := len(failing.Requests()); n != 20 {
		t.Errorf("got %d requests that failed, want 20: they are due in an hour", n)
	}
	if n := second.metric("fanfare_deliveries_skipped_total"); n != 40 {
		t.Errorf("%v deliveries were skipped, want 40", n)
	}
}

// A task that is marked as suspect is checked, though its message is new.
func TestASuspectTaskIsChecked(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.worker(quick())
	r.recorder()
	receiver := servertest.NewReceiver(t)
	sub, other := r.subscribe(receiver.URL, nil), r.subscribe(receiver.URL, nil)
	e := r.event()
	r.ended(r.send(e, sub), outcome.Delivered, outcome.ReasonOK)
	again := r.task(e, sub, other)
	again.Suspect = true
	if err := r.outbox.Send(t.Context(), again); err != nil {
		t.Fatal(err)
	}
	r.ended(outcome.ID(e.UID, other.ID, 0, e.AcceptedAt), outcome.Delivered, outcome.ReasonOK)
	r.settled()
	if n := len(receiver.Requests()); n != 2 {
		t.Errorf("got %d requests, want one for each subscription", n)
	}
}

// A message of tasks that the network held until its sender had given it up is checked, though it is new.
func TestATaskThatTheNetworkHeldIsChecked(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	w := r.worker(quick())
	r.recorder()
	receiver := servertest.NewReceiver(t)
	sub := r.subscribe(receiver.URL, nil)
	sent := must(r.NC.SubscribeSync("tasks.>"))(t)
	e := r.event()
	r.ended(r.send(e, sub), outcome.Delivered, outcome.ReasonOK)
	msg := must(sent.NextMsg(time.Minute))(t)
	const sentAt = "Fanfare-Sent" // in milliseconds since 1970
	if msg.Header.Get(sentAt) == "" {
		t.Fatal("the message does not say when it was sent")
	}
	msg.Header = nats.Header{sentAt: {strconv.FormatInt(time.Now().Add(-time.Minute).UnixMilli(), 10)}}
	if _, err := r.JS.PublishMsg(t.Context(), msg); err != nil {
		t.Fatal(err)
	}
	r.Eventually("the message to be handled", func() bool { return w.metric("fanfare_deliveries_skipped_total") == 1 || len(receiver.Requests()) > 1 })
	if n := len(receiver.Requests()); n != 1 {
		t.Errorf("got %d requests, want 1", n)
	}
}

// A worker dies with a lease. Another takes over when the lease is over; not before the ledger has caught up.
func TestALeaseOfADeadWorkerIsTakenOver(t *testing.T) {
	t.Parallel()
	r, connect := connections(t)
	recorder := r.recorder()
	hangs := servertest.NewReceiver(t, servertest.Hang(), servertest.Status(200))
	release := make(chan struct{})
	slow := servertest.NewReceiver(t, servertest.After(release, servertest.Status(200)))
	one, two := r.subscribe(hangs.URL, hasty), r.subscribe(slow.URL, hasty)
	v := r.victim(connect, brief(), nil)
	e := r.event()
	inFlight := r.send(e, one, two)
	made := outcome.ID(e.UID, two.ID, 0, e.AcceptedAt)
	r.waits(inFlight, outcome.ReasonBusy)
	r.waits(made, outcome.ReasonBusy)
	r.settled()
	if err := recorder.Stop(); err != nil {
		t.Fatal(err)
	}
	close(release)
	r.Eventually("one outcome to be on disk", func() bool {
		s, err := r.JS.Stream(t.Context(), ledger.Stream)
		return err == nil && s.CachedInfo().State.Msgs >= 1
	})
	v.kill()
	v.Cancel()
	r.bury(v)
	r.worker(brief())
	r.Eventually("both leases to be over", func() bool {
		return r.Count(`SELECT count(*) FROM deferrals WHERE claim_at < now() - interval '1 second'`) == 2
	})
	r.recorder()
	r.ended(made, outcome.Delivered, outcome.ReasonOK)
	r.ended(inFlight, outcome.Delivered, outcome.ReasonOK)
	r.settled()
	if n := len(slow.Requests()); n != 1 {
		t.Errorf("got %d requests for the delivery that had its outcome, want 1", n)
	}
	if n := len(hangs.Requests()); n != 2 {
		t.Errorf("got %d requests for the delivery that was in flight, want 2", n)
	}
}

// Under load: nothing is lost, and only what was in flight is made twice.
func TestAWorkerIsKilledUnderLoad(t *testing.T) {
	t.Parallel()
	r, connect := connections(t)
	r.recorder()
	receiver := servertest.NewReceiver(t, servertest.Delay(5*time.Millisecond, servertest.Status(200)))
	var subs []*subscriptions.Subscription
	for i := range 10 {
		subs = append(subs, r.subscribe(fmt.Sprintf("%s/%d", receiver.URL, i), hasty))
	}
	cfg := brief()
	cfg.InFlight = 16
	v := r.victim(connect, cfg, nil)
	const events = 100
	ids := make(map[string]uuid.UUID) // by what the receiver sees of them
	for range events {
		e := r.event()
		r.send(e, subs...)
		for i, s := range subs {
			ids[fmt.Sprintf("/%d %s", i, e.ID)] = outcome.ID(e.UID, s.ID, 0, e.AcceptedAt)
		}
	}
	receiver.Wait(events * len(subs) / 4)
	v.kill()
	v.Cancel()
	r.bury(v)
	over := r.ending()
	r.worker(brief())
	for _, id := range ids {
		r.ended(id, outcome.Delivered, outcome.ReasonOK)
	}
	r.settled()
	got := requestsOf(receiver)
	twice := 0
	for key, id := range ids {
		switch n := got[key]; {
		case n == 0:
			t.Errorf("delivery %s was never made", id)
		case n > 1 && over[id]:
			t.Errorf("delivery %s was made %d times, though its end was on disk", id, n)
		case n > 1:
			twice++
		}
	}
	t.Logf("%d deliveries were in flight and made twice", twice)
}

// requestsOf counts the requests of a receiver, by path and event.
func requestsOf(receiver *servertest.Receiver) map[string]int {
	count := make(map[string]int)
	for _, req := range receiver.Requests() {
		count[req.Path+" "+req.Header.Get("webhook-id")]++
	}
	return count
}

// ending returns which deliveries ended, by what is in the stream; those that were only put off did not.
func (r *rig) ending() map[uuid.UUID]bool {
	r.T.Helper()
	stream := must(r.JS.Stream(r.T.Context(), ledger.Stream))(r.T)
	found := make(map[uuid.UUID]bool)
	for seq := uint64(1); seq <= stream.CachedInfo().State.LastSeq; seq++ {
		msg := must(stream.GetMsg(r.T.Context(), seq))(r.T)
		for _, rec := range must(outcome.Unpack(msg.Data))(r.T) {
			if rec.Ended() {
				found[rec.Delivery] = true
			}
		}
	}
	return found
}
