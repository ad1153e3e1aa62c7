package deliver_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/fanfarehq/fanfare/deliver"
	"github.com/fanfarehq/fanfare/deliver/history"
	"github.com/fanfarehq/fanfare/deliver/ledger"
	"github.com/fanfarehq/fanfare/deliver/outcome"
	"github.com/fanfarehq/fanfare/internal/event"
	"github.com/fanfarehq/fanfare/internal/servertest"
	"github.com/fanfarehq/fanfare/subscriptions"
)

// log is what the Log shows of a subscription.
func (r *rig) newest(s *subscriptions.Subscription, limit int) []history.Logged {
	r.T.Helper()
	return must(history.NewLog(r.DB, nil).Newest(r.T.Context(), s.ID, limit))(r.T)
}

func TestLogHasTheLastAttempt(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.worker(quick())
	r.recorder()
	answers := map[string]servertest.Answer{
		"/good": servertest.Reply(http.StatusAccepted, nil, "thanks"),
		"/bad":  servertest.Reply(http.StatusInternalServerError, nil, "oops"),
		"/gone": servertest.Status(http.StatusGone),
	}
	receiver := servertest.NewReceiver(t, servertest.By(func(q servertest.Request) servertest.Answer { return answers[q.Path] }))
	retried := retries(time.Millisecond, time.Hour)
	good, bad := r.subscribe(receiver.URL+"/good", nil), r.subscribe(receiver.URL+"/bad", retried)
	dead, never := r.subscribe(receiver.URL+"/bad", once), r.subscribe(receiver.URL+"/good", nil)
	r.status(never, subscriptions.Paused)

	e := r.event()
	ids := map[*subscriptions.Subscription]uuid.UUID{}
	for _, s := range []*subscriptions.Subscription{good, bad, dead, never} {
		ids[s] = r.send(e, s)
	}
	r.ended(ids[good], outcome.Delivered, outcome.ReasonOK)
	r.ended(ids[dead], outcome.Dead, outcome.ReasonServer)
	r.await(ids[bad], "tried twice", func(e ledger.Entry) bool { return e.Attempts == 2 && e.Reason == string(outcome.ReasonServer) })
	r.waits(ids[never], outcome.ReasonPaused)
	// A delivery that was cancelled after attempts has those attempts.
	cancelled := r.subscribe(receiver.URL+"/bad", retries(time.Hour))
	ids[cancelled] = r.send(e, cancelled)
	r.waits(ids[cancelled], outcome.ReasonServer)
	if err := ledger.New(r.DB).Cancel(t.Context(), ids[cancelled]); err != nil {
		t.Fatal(err)
	}

	for _, test := range []struct {
		name             string
		sub              *subscriptions.Subscription
		state            string
		attempts, status int
		response         string
		due, ended       bool
	}{
		{"delivered", good, "delivered", 1, 202, "thanks", false, true},
		{"retried", bad, "pending", 2, 500, "oops", true, false},
		{"dead", dead, "dead", 1, 500, "oops", false, true},
		{"held", never, "pending", 0, 0, "", false, false},
		{"cancelled", cancelled, "cancelled", 1, 500, "oops", false, true},
	} {
		log := r.newest(test.sub, 10)
		if len(log) != 1 {
			t.Errorf("%s: got %+v", test.name, log)
			continue
		}
		d := log[0]
		if d.ID != ids[test.sub] || d.Number == 0 || d.State != test.state || d.Attempts != test.attempts || d.EventType != e.Type ||
			d.DueAt.IsZero() == test.due || d.EndedAt.IsZero() == test.ended || d.CreatedAt.IsZero() {
			t.Errorf("%s: got %+v", test.name, d)
		}
		if (d.Last == nil) != (test.attempts == 0) {
			t.Errorf("%s: last attempt %+v", test.name, d.Last)
		} else if d.Last != nil && (d.Last.Number != test.attempts || d.Last.Status != test.status || d.Last.StartedAt.IsZero()) {
			t.Errorf("%s: last attempt %+v", test.name, d.Last)
		}
		responses := must(history.NewLog(r.DB, nil).Responses(t.Context(), []uuid.UUID{d.ID, uuid.New()}))(t)
		if got := string(responses[d.ID]); got != test.response {
			t.Errorf("%s: response %q", test.name, got)
		}
		number, ok, err := history.NewLog(r.DB, nil).Number(t.Context(), d.ID)
		if number != d.Number || !ok || err != nil {
			t.Errorf("%s: number %d, %v, %v, want %d", test.name, number, ok, err, d.Number)
		}
	}
	if _, ok, err := history.NewLog(r.DB, nil).Number(t.Context(), uuid.New()); ok || err != nil {
		t.Errorf("a delivery that is not: %v, %v", ok, err)
	}
}

func logRecord(s *subscriptions.Subscription, n int, as outcome.Outcome) *outcome.Record {
	at := time.Date(2026, 1, 2, 3, 4, n, 0, time.UTC)
	r := &outcome.Record{
		EventUID: event.UID("acme", fmt.Sprint(n), at), EventID: fmt.Sprint(n), EventType: "a", Tenant: "acme", Subscription: s.ID,
		Step: 1, Outcome: as, Reason: outcome.ReasonServer, Attempts: 1, CreatedAt: at, At: at.Add(time.Second),
		Attempt: &outcome.Made{Number: 1, StartedAt: at, Status: 500, Reason: outcome.ReasonServer},
	}
	r.Delivery = outcome.ID(r.EventUID, s.ID, 0, at)
	return r
}

func TestLogHidesAndCancels(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	s, other := r.subscribe("http://127.0.0.1:1/", nil), r.subscribe("http://127.0.0.1:1/", nil)
	var all []*outcome.Record
	for n := range 6 {
		all = append(all, logRecord(s, n, []outcome.Outcome{outcome.Delivered, outcome.Later}[n%2]))
	}
	foreign := logRecord(other, 7, outcome.Delivered)
	r.put(append(all, foreign)...)
	// For a moment a delivery may be in both tables: then it ended.
	if _, err := r.DB.Exec(`INSERT INTO deferrals (id, number, tenant, event_uid, event_id, event_type, seq, subscription_id, generation,
		reason, attempts, step, test, held, created_at, due_at, claim_at)
		SELECT id, number, tenant, event_uid, event_id, event_type, seq, subscription_id, generation, '', 1, 1, false, false, now(), now(), now()
		FROM deliveries WHERE id = $1`, all[0].Delivery); err != nil {
		t.Fatal(err)
	}
	log := history.NewLog(r.DB, nil)
	list := r.newest(s, 100)
	if len(list) != 6 || list[0].ID != all[5].Delivery || list[5].ID != all[0].Delivery || list[5].State != "delivered" {
		t.Fatalf("got %+v", list)
	}
	if got := r.newest(s, 2); len(got) != 2 || got[1].ID != all[4].Delivery {
		t.Errorf("the newest two: %+v", got)
	}

	hidden := func(s *subscriptions.Subscription, number int64, within int, want bool) {
		t.Helper()
		if found, err := log.Hide(t.Context(), s.ID, number, within); err != nil || found != want {
			t.Errorf("hide %d: %v, %v", number, found, err)
		}
	}
	numbers := map[uuid.UUID]int64{}
	for _, d := range append(r.newest(other, 1), list...) {
		numbers[d.ID] = d.Number
	}
	hidden(s, numbers[foreign.Delivery], 100, false) // another subscription's
	hidden(s, 1<<40, 100, false)                     // nobody's
	hidden(s, numbers[all[0].Delivery], 2, false)    // beyond what the log shows
	hidden(s, numbers[all[4].Delivery], 100, true)
	hidden(s, numbers[all[4].Delivery], 100, false) // it is gone
	hidden(s, numbers[all[5].Delivery], 100, true)  // pending
	if got := r.newest(s, 100); len(got) != 4 || got[0].ID != all[3].Delivery {
		t.Errorf("after hiding two: %+v", got)
	}
	if e, err := history.NewReader(r.DB, nil).Find(t.Context(), all[5].Delivery, ""); err != nil || e.State != "cancelled" || e.Reason != "cancelled" {
		t.Errorf("the pending one: %+v, %v", e, err)
	}
	if e, err := history.NewReader(r.DB, nil).Find(t.Context(), all[4].Delivery, ""); err != nil || e.State != "delivered" {
		t.Errorf("the delivered one: %+v, %v", e, err)
	}

	// What the ledger no longer has need not stay hidden.
	if _, err := r.DB.Exec(`DELETE FROM deliveries WHERE id = $1`, all[4].Delivery); err != nil {
		t.Fatal(err)
	}
	hidden(s, numbers[all[3].Delivery], 100, true)
	if n := r.Count(`SELECT count(*) FROM hidden_deliveries`); n != 2 {
		t.Errorf("%d are hidden", n)
	}
}

func TestLogReadsData(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	e := r.event()
	log := history.NewLog(r.DB, must(deliver.NewEvents(deliver.EventsConfig{Read: r.read}, r.DB))(t))
	data, err := log.Data(t.Context(), history.Logged{EventUID: e.UID, Seq: e.Seq})
	if err != nil || string(data) != string(e.Data) {
		t.Errorf("got %s, %v", data, err)
	}
	if _, err := log.Data(t.Context(), history.Logged{EventUID: uuid.New(), Seq: 99}); !errors.Is(err, event.ErrGone) {
		t.Errorf("an event that is gone: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := log.Newest(ctx, uuid.New(), 1); err == nil {
		t.Error("a caller who left got an answer")
	}
}
