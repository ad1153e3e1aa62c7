package deliver_test

import (
	"net/http"
	"testing"
	"time"

	"github.com/google/uuid"
	webhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"

	"github.com/fanfarehq/fanfare/deliver"
	"github.com/fanfarehq/fanfare/deliver/history"
	"github.com/fanfarehq/fanfare/deliver/outcome"
	"github.com/fanfarehq/fanfare/internal/servertest"
	"github.com/fanfarehq/fanfare/subscriptions"
)

func TestATaskIsDeliveredOnceAndRecorded(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.worker(unhurried())
	r.recorder()
	receiver := servertest.NewReceiver(t)
	sub := r.subscribe(receiver.URL+"/hook", nil)
	e := r.event()
	id := r.send(e, sub)

	got := receiver.Wait(1)[0]
	if verifier := must(webhooks.NewWebhook(sub.Secrets[0].Value))(t); verifier.Verify(got.Body, got.Header) != nil {
		t.Errorf("the signature does not verify: %v", got.Header)
	}
	if id := got.Header.Get("webhook-id"); id != e.ID {
		t.Errorf("webhook-id: got %q, want %q", id, e.ID)
	}
	row := r.ended(id, outcome.Delivered, outcome.ReasonOK)
	if row.Attempts != 1 || row.EventID != e.ID || row.Subscription != sub.ID || row.Number == 0 || row.Seq != e.Seq {
		t.Errorf("got %+v", row)
	}
	r.settled()
	if n := r.Count(`SELECT count(*) FROM deferrals`) + r.Count(`SELECT count(*) FROM attempts`) + r.Count(`SELECT count(*) FROM event_data`); n != 0 {
		t.Errorf("a delivery that just works left %d rows beside its own", n)
	}
	if n := len(receiver.Requests()); n != 1 {
		t.Errorf("got %d requests, want 1", n)
	}
}

func TestOneEventForAHundredSubscriptions(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.worker(quick())
	r.recorder()
	receiver := servertest.NewReceiver(t)
	var subs []*subscriptions.Subscription
	for range 100 {
		subs = append(subs, r.subscribe(receiver.URL, nil))
	}
	e := r.event()
	if err := r.outbox.Send(t.Context(), r.task(e, subs[:64]...), r.task(e, subs[64:]...)); err != nil {
		t.Fatal(err)
	}
	receiver.Wait(100)
	for _, s := range subs {
		r.ended(outcome.ID(e.UID, s.ID, 0, e.AcceptedAt), outcome.Delivered, outcome.ReasonOK)
	}
	r.settled()
	if n := len(receiver.Requests()); n != 100 {
		t.Errorf("got %d requests, want 100", n)
	}
}

func TestRetriesFollowTheScheduleWithTheSameIDAndBytes(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.worker(quick())
	r.recorder()
	receiver := servertest.NewReceiver(t, servertest.Reply(500, nil, "oops"), servertest.Status(503), servertest.Status(200))
	sub := r.subscribe(receiver.URL, retries(50*time.Millisecond, 100*time.Millisecond))
	id := r.send(r.event(), sub)

	got := receiver.Wait(3)
	for i, req := range got[1:] {
		if string(req.Body) != string(got[0].Body) || req.Header.Get("webhook-id") != got[0].Header.Get("webhook-id") {
			t.Errorf("attempt %d differs: %s", i+2, req.Body)
		}
	}
	if gap := got[1].At.Sub(got[0].At); gap < 50*time.Millisecond {
		t.Errorf("the first retry came %s after the first attempt, want 50ms or more", gap)
	}
	if gap := got[2].At.Sub(got[1].At); gap < 100*time.Millisecond {
		t.Errorf("the second retry came %s after the first, want 100ms or more", gap)
	}
	row := r.ended(id, outcome.Delivered, outcome.ReasonOK)
	if row.Attempts != 3 {
		t.Errorf("got %d attempts, want 3", row.Attempts)
	}
	log := must(history.NewReader(r.DB, nil).Attempts(t.Context(), "acme", id))(t)
	if len(log) != 3 || log[0].Status != 500 || string(log[0].Response) != "oops" || log[0].Outcome != outcome.Later ||
		log[1].Status != 503 || log[2].Status != 200 || log[2].Outcome != outcome.Delivered {
		t.Errorf("got %+v", log)
	}
}

func TestWhatIsGivenUpKeepsItsEvent(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.worker(quick())
	r.recorder()
	receiver := servertest.NewReceiver(t, servertest.Status(500))
	sub := r.subscribe(receiver.URL, once)
	e := r.event()
	id := r.send(e, sub)
	if row := r.ended(id, outcome.Dead, outcome.ReasonServer); row.Attempts != 1 {
		t.Errorf("got %d attempts with max_retries 0, want 1", row.Attempts)
	}
	r.forget(e)
	events := must(deliver.NewEvents(deliver.EventsConfig{Read: r.read}, r.DB))(t)
	kept := must(events.Get(t.Context(), e.UID, e.Seq))(t)
	if string(kept.Data) != string(e.Data) || !kept.Time.Equal(e.Time) || kept.ID != e.ID {
		t.Errorf("got %+v, want %+v", kept, e)
	}
}

// Each verdict's way to the ledger.
func TestVerdictsReachTheLedger(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name   string
		answer servertest.Answer
		state  outcome.Outcome
		reason outcome.Reason
	}{
		{"201", servertest.Status(201), outcome.Delivered, outcome.ReasonOK},
		{"redirect", servertest.Reply(302, http.Header{"Location": {"http://127.0.0.1:1/"}}, ""), outcome.Dead, outcome.ReasonRedirect},
		{"404", servertest.Status(404), outcome.Dead, outcome.ReasonClient},
		{"410", servertest.Status(410), outcome.Dead, outcome.ReasonGone},
		{"429", servertest.Status(429), outcome.Dead, outcome.ReasonRateLimited},
		{"500", servertest.Status(500), outcome.Dead, outcome.ReasonServer},
		{"reset", servertest.Reset(), outcome.Dead, outcome.ReasonReset},
		{"hangs", servertest.Hang(), outcome.Dead, outcome.ReasonTimeout},
	}
	r := newRig(t)
	r.worker(quick())
	r.recorder()
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			receiver := servertest.NewReceiver(t, tt.answer)
			sub := r.subscribe(receiver.URL, func(s *subscriptions.Subscription) {
				once(s)
				if tt.reason == outcome.ReasonTimeout {
					s.Timeout = time.Second
				}
			})
			r.ended(r.send(r.event(), sub), tt.state, tt.reason)
		})
	}
	blocked := r.subscribe("http://example.com/", once)
	if _, err := r.DB.Exec(`UPDATE subscriptions SET url = 'http://10.0.0.1/' WHERE id = $1`, blocked.ID); err != nil {
		t.Fatal(err)
	}
	r.ended(r.send(r.event(), blocked), outcome.Dead, outcome.ReasonBlocked)
	nobody := r.subscribe("http://127.0.0.1:1/", once)
	r.ended(r.send(r.event(), nobody), outcome.Dead, outcome.ReasonConnect)
}

func TestRetryAfterIsHeeded(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.worker(quick())
	r.recorder()
	receiver := servertest.NewReceiver(t, servertest.Reply(429, http.Header{"Retry-After": {"3600"}}, ""))
	sub := r.subscribe(receiver.URL, retries(time.Second))
	before := time.Now()
	row := r.waits(r.send(r.event(), sub), outcome.ReasonRetryAfter)
	if wait := row.DueAt.Time.Sub(before); wait < time.Hour || wait > 75*time.Minute {
		t.Errorf("due in %s, want an hour and at most a fifth more", wait)
	}
}

func TestAReceiverThatIsGoneDisablesItsSubscription(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.worker(quick())
	r.recorder()
	receiver := servertest.NewReceiver(t, servertest.Status(500), servertest.Status(410))
	sub := r.subscribe(receiver.URL, retries(time.Hour))
	other := r.subscribe(servertest.NewReceiver(t, servertest.Status(500)).URL, retries(time.Hour))
	waiting, others := r.send(r.event(), sub), r.send(r.event(), other)
	r.waits(waiting, outcome.ReasonServer)
	r.waits(others, outcome.ReasonServer)

	r.ended(r.send(r.event(), sub), outcome.Dead, outcome.ReasonGone)
	r.ended(waiting, outcome.Cancelled, outcome.ReasonDisabled)
	r.Eventually("the subscription to be disabled", func() bool {
		s, err := r.store.Get(t.Context(), sub.Tenant, sub.ID)
		return err == nil && s.Status == subscriptions.Disabled && s.DisabledReason == "gone"
	})
	r.waits(others, outcome.ReasonServer)
}

// A vendor's clients count on what they set: a receiver does not end their subscription.
func TestAReceiverThatIsGoneIsTriedAgainForADialect(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.worker(quick())
	r.recorder()
	receiver := servertest.NewReceiver(t, servertest.Status(410), servertest.Status(200))
	sub := r.subscribe(receiver.URL, func(s *subscriptions.Subscription) {
		retries(time.Millisecond)(s)
		s.Dialect, s.PayloadFormat = subscriptions.Leat, "raw"
		s.Secrets = []subscriptions.Secret{subscriptions.NewSecret(subscriptions.SignHMAC)}
	})
	if row := r.ended(r.send(r.event(), sub), outcome.Delivered, outcome.ReasonOK); row.Attempts != 2 {
		t.Errorf("got %d attempts, want 2", row.Attempts)
	}
	if s, err := r.store.Get(t.Context(), sub.Tenant, sub.ID); err != nil || s.Status != subscriptions.Active {
		t.Errorf("got %+v, %v: it must stay active", s, err)
	}
}

func TestASecretThatDoesNotOpenIsNoLoop(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.worker(quick())
	r.recorder()
	receiver := servertest.NewReceiver(t)
	sub := r.subscribe(receiver.URL, nil)
	if _, err := r.DB.Exec(`UPDATE subscriptions SET secrets = 'nonsense' WHERE id = $1`, sub.ID); err != nil {
		t.Fatal(err)
	}
	r.waits(r.send(r.event(), sub), outcome.ReasonKey)
	good := r.subscribe(receiver.URL, nil)
	r.ended(r.send(r.event(), good), outcome.Delivered, outcome.ReasonOK)
}

func TestATargetThatNeverWasIsCancelled(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.worker(quick())
	r.recorder()
	r.ended(r.send(r.event(), &subscriptions.Subscription{ID: uuid.New()}), outcome.Cancelled, outcome.ReasonDeleted)
}
