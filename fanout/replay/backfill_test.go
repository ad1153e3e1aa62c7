package replay_test

import (
	"strings"
	"testing"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/google/uuid"
	natsjs "github.com/nats-io/nats.go/jetstream"

	"github.com/fanfarehq/fanfare/deliver"
	"github.com/fanfarehq/fanfare/deliver/ledger"
	"github.com/fanfarehq/fanfare/deliver/outcome"
	"github.com/fanfarehq/fanfare/fanout"
	"github.com/fanfarehq/fanfare/fanout/fanouttest"
	"github.com/fanfarehq/fanfare/fanout/replay"
	"github.com/fanfarehq/fanfare/internal/jetstream"
	"github.com/fanfarehq/fanfare/internal/quota"
	"github.com/fanfarehq/fanfare/subscriptions"
)

const eventsAge = 24 * time.Hour

// newBackfilling is a house with the streams of deliver, at whose desk subscriptions are created.
func newBackfilling(t *testing.T) *replaying {
	t.Helper()
	h := &replaying{House: fanouttest.New(t)}
	if err := jetstream.Apply(t.Context(), h.JS, deliver.Inbox(64<<20), deliver.BacklogInbox(64<<20), ledger.Inbox(64<<20)); err != nil {
		t.Fatal(err)
	}
	quotas, err := quota.New(quota.Config{Replays: 20}, quota.Deps{DB: h.DB})
	if err != nil {
		t.Fatal(err)
	}
	h.Store.OnSince(replay.Backfill{DB: h.DB, MaxAge: eventsAge, Oldest: fanout.NewReader(h.JS).Oldest, Quotas: quotas}.Begin)
	h.desk = fanouttest.NewDesk(t, replay.Routes{DB: h.DB, Directory: h.Directory}.Register, func(to huma.API) { subscriptions.Routes(to, h.Store, nil) })
	return h
}

// born creates a subscription that receives its past, and returns its id and the replay's.
func (h *replaying) born(since time.Time, more ...string) (subscription, backfill uuid.UUID) {
	h.T.Helper()
	var made struct {
		ID       uuid.UUID `json:"id"`
		Backfill struct {
			ReplayID uuid.UUID `json:"replay_id"`
		} `json:"backfill"`
	}
	body := map[string]any{"name": "late", "url": "https://example.com/", "event_types": []string{"order.*"}, "since": since}
	for i := 0; i < len(more); i += 2 {
		body[more[i]] = more[i+1]
	}
	h.desk.Call("acme", "POST", "/v1/subscriptions", body, 201, &made)
	return made.ID, made.Backfill.ReplayID
}

func TestASubscriptionReceivesWhatWasBeforeIt(t *testing.T) {
	t.Parallel()
	h := newBackfilling(t)
	h.past(30)
	h.Publish("events.acme.invoice.paid", `{}`)
	h.replayer()
	var middle time.Time
	if err := h.DB.QueryRowContext(t.Context(), `SELECT accepted_at FROM events WHERE id = 'e20'`).Scan(&middle); err != nil {
		t.Fatal(err)
	}
	h.Run()
	sub, backfill := h.born(middle, "filter", "event.data.n < 25.0")
	if v := h.done(backfill); v.Matched != 5 || v.Sent != 5 || v.Rate != 100 {
		t.Errorf("the backfill is %+v, want e20 to e24 at 100 a second", v)
	}
	if n := h.count(`SELECT count(*) FROM deferrals WHERE subscription_id = $1 AND generation = 1 AND event_id BETWEEN 'e20' AND 'e24'`, sub); n != 5 {
		t.Errorf("%d of 5 events are on their way", n)
	}
	// What the subscription got otherwise is not sent once more by its backfill: here all are pending.
	h.Publish("events.acme.order.created", `{"n":1}`, "Fanfare-Id", "live")
	h.Settled()
	if got := h.Tray.Targets()["live"][sub]; got != 1 {
		t.Errorf("the live event was handed over %d times", got)
	}
	if n := h.count(`SELECT count(*) FROM deferrals`); n != 5 {
		t.Errorf("%d deliveries were made, want 5", n)
	}
}

func TestSinceHasBounds(t *testing.T) {
	t.Parallel()
	h := newBackfilling(t)
	create := func(since any, want int) string {
		t.Helper()
		var problem struct {
			Errors []struct{ Location, Message string }
		}
		h.desk.Call("acme", "POST", "/v1/subscriptions", map[string]any{
			"name": "late", "url": "https://example.com/", "event_types": []string{"*"}, "since": since}, want, &problem)
		if len(problem.Errors) != 1 || problem.Errors[0].Location != "body.since" {
			t.Fatalf("since %v: %+v", since, problem)
		}
		return problem.Errors[0].Message
	}
	if got := create(time.Now().Add(time.Hour), 422); !strings.Contains(got, "future") {
		t.Errorf("a future since is refused with %q", got)
	}
	if got := create(time.Now().Add(-eventsAge-time.Minute), 422); !strings.Contains(got, "24h0m0s") {
		t.Errorf("a since before the stream is refused with %q", got)
	}
	create("yesterday", 422)
	if n := h.count("SELECT (SELECT count(*) FROM subscriptions) + (SELECT count(*) FROM replays)"); n != 0 {
		t.Errorf("%d rows were left by what was refused", n)
	}
	// As many at once as a tenant may have replays; one more leaves neither a subscription nor a replay.
	for range 20 {
		h.born(time.Now().Add(-time.Minute))
	}
	h.desk.Call("acme", "POST", "/v1/subscriptions", map[string]any{
		"name": "late", "url": "https://example.com/", "event_types": []string{"*"}, "since": time.Now().Add(-time.Minute)}, 422, nil)
	if subs, replays := h.count("SELECT count(*) FROM subscriptions"), h.count("SELECT count(*) FROM replays"); subs != 20 || replays != 20 {
		t.Errorf("there are %d subscriptions and %d replays, want 20 of each", subs, replays)
	}
	// Without since there is no backfill to be named.
	var made map[string]any
	h.desk.Call("acme", "POST", "/v1/subscriptions", map[string]any{"name": "n", "url": "https://example.com/", "event_types": []string{"*"}}, 201, &made)
	if _, named := made["backfill"]; named {
		t.Errorf("without since the answer is %v", made)
	}
}

// What is in fan-out, in a task, or with the recorder when a subscription is born is waited for: the ledger does not
// tell yet whether the subscription gets it live.
func TestABackfillWaitsForWhatIsUnderWay(t *testing.T) {
	t.Parallel()
	h := newBackfilling(t)
	h.past(3)
	h.replayer()
	h.Publish("events.acme.order.created", `{"n":1}`, "Fanfare-Id", "under-way") // no fan-out runs
	if _, err := h.JS.Publish(t.Context(), "tasks.0", []byte("x")); err != nil {
		t.Fatal(err)
	}
	if _, err := h.JS.Publish(t.Context(), "attempts.0", []byte("x")); err != nil {
		t.Fatal(err)
	}
	sub, backfill := h.born(time.Now().Add(-time.Hour))
	waits := func(what string) {
		t.Helper()
		// Each step renews the lease: after two more, one has looked at all there is.
		for range 2 {
			var last time.Time
			lease := func() (at time.Time) {
				if err := h.DB.QueryRowContext(t.Context(), "SELECT lease_until FROM replays WHERE id = $1", backfill).Scan(&at); err != nil {
					t.Fatal(err)
				}
				return at
			}
			last = lease()
			h.Eventually("the backfill takes a step", func() bool { return lease().After(last) })
		}
		if n := h.count("SELECT count(*) FROM replays WHERE last_seq IS NOT NULL"); n != 0 {
			t.Errorf("the backfill does not wait for %s", what)
		}
	}
	waits("fan-out")
	// Fan-out knows the subscription by now, so it hands the event over; a worker delivers it.
	stop := h.Run()
	h.Settled()
	stop()
	waits("workers")
	task := h.Tray.All()[0]
	if _, err := h.DB.ExecContext(t.Context(), `INSERT INTO deliveries (id, tenant, event_uid, event_id, event_type, seq, subscription_id, generation, state,
    reason, attempts, created_at, ended_at, started_at, duration_us, status, error)
VALUES ($1, 'acme', $2, $3, 'order.created', $4, $5, 0, 'delivered', 'ok', 1, now(), now(), now(), 10, 200, '')`,
		outcome.ID(task.Event.UID, sub, 0, task.Event.AcceptedAt), task.Event.UID, task.Event.ID, int64(task.Event.Seq), sub); err != nil {
		t.Fatal(err)
	}
	h.acknowledge(deliver.Stream, deliver.Durable)
	waits("the recorder")
	h.acknowledge(ledger.Stream, ledger.Durable)
	if v := h.done(backfill); v.Matched != 3 || v.Sent != 3 {
		t.Errorf("the backfill is %+v, want the 3 events that were before", v)
	}
	if n := h.count("SELECT count(*) FROM deferrals WHERE event_id = 'under-way'"); n != 0 {
		t.Errorf("the event that was under way is sent twice")
	}
}

// acknowledge takes the next message of a consumer, as a worker or recorder would.
func (h *replaying) acknowledge(stream, durable string) {
	h.T.Helper()
	consumer, err := h.JS.Consumer(h.T.Context(), stream, durable)
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

// What left the stream is counted, and a since that would need it is refused with the time from which on all is there.
func TestThePastThatLeftTheStreamIsNamed(t *testing.T) {
	t.Parallel()
	h := newBackfilling(t)
	h.past(10)
	from := time.Now().Add(-time.Hour)
	stream, err := h.JS.Stream(t.Context(), fanout.Stream)
	if err != nil {
		t.Fatal(err)
	}
	if err := stream.Purge(t.Context(), natsjs.WithPurgeSequence(5)); err != nil {
		t.Fatal(err)
	}
	sub := h.Subscribe("acme", "order.*")
	h.replayer()
	if v := h.done(h.start(sub, map[string]any{"only": "all"}).ID); v.Gone != 4 || v.Matched != 6 || v.Sent != 6 {
		t.Errorf("the replay is %+v, want 4 of 10 unreachable", v)
	}
	var problem struct {
		Errors []struct{ Location, Message string }
	}
	body := map[string]any{"name": "late", "url": "https://example.com/", "event_types": []string{"order.*"}, "since": from}
	h.desk.Call("acme", "POST", "/v1/subscriptions", body, 422, &problem)
	if len(problem.Errors) != 1 || problem.Errors[0].Location != "body.since" || !strings.Contains(problem.Errors[0].Message, "left the stream") {
		t.Errorf("a since before the stream is refused with %+v", problem)
	}
	oldest, err := fanout.NewReader(h.JS).Oldest(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	h.born(oldest.At)
	h.desk.Call("globex", "POST", "/v1/subscriptions", body, 201, nil) // Nothing of this tenant left.
}
