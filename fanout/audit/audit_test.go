package audit_test

import (
	"context"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	natsjs "github.com/nats-io/nats.go/jetstream"

	"github.com/fanfarehq/fanfare/deliver"
	"github.com/fanfarehq/fanfare/deliver/history"
	"github.com/fanfarehq/fanfare/deliver/ledger"
	"github.com/fanfarehq/fanfare/deliver/outcome"
	"github.com/fanfarehq/fanfare/fanout"
	"github.com/fanfarehq/fanfare/fanout/audit"
	"github.com/fanfarehq/fanfare/fanout/fanouttest"
	"github.com/fanfarehq/fanfare/internal/event"
	"github.com/fanfarehq/fanfare/internal/jetstream"
	"github.com/fanfarehq/fanfare/subscriptions"
)

// auditing is a house whose tasks lie in their stream, and whose deliveries the test makes by hand.
type auditing struct {
	*fanouttest.House
	auditor *audit.Auditor
	subs    []*subscriptions.Subscription
	tasks   natsjs.Stream
	bytes   fanout.Bytes
	events  *deliver.Events
}

// newAuditing publishes three events for two subscriptions, and one for nobody.
func newAuditing(t *testing.T) *auditing {
	t.Helper()
	h := &auditing{House: fanouttest.New(t)}
	if err := jetstream.Apply(t.Context(), h.JS, deliver.Inbox(64<<20), deliver.BacklogInbox(64<<20), ledger.Inbox(64<<20)); err != nil {
		t.Fatal(err)
	}
	publisher, err := jetstream.NewPublisher(h.JS, jetstream.PublisherConfig{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = publisher.Close() })
	outbox := deliver.NewOutbox(h.JS, publisher)
	// What fan-out hands over goes on to the stream of tasks.
	send := func(tasks []deliver.Task) error { return outbox.Send(context.Background(), tasks...) }
	h.Tray.Before.Store(&send)
	books := history.NewBooks(h.DB)
	events, err := deliver.NewEvents(deliver.EventsConfig{Read: func(context.Context, uint64) (*event.Event, error) {
		return nil, event.ErrGone
	}}, h.DB)
	if err != nil {
		t.Fatal(err)
	}
	h.bytes, h.events = events, events
	h.auditor = audit.NewAuditor(audit.Deps{
		JetStream: h.JS, DB: h.DB, Reader: fanout.NewReader(h.JS), Ledger: h.Ledger, Rules: fanout.NewRules(h.Config, h.Directory, fanouttest.Marks),
		Directory: h.Directory, Bytes: events, Books: books, Outbox: h.Tray, Order: h.Queue, Logger: slog.New(slog.DiscardHandler),
	})
	h.subs = []*subscriptions.Subscription{h.Subscribe("acme", "order.*"), h.Subscribe("acme", "order.created")}
	stop := h.Run()
	h.Reading()
	for _, id := range []string{"e1", "e2", "e3"} {
		h.Publish("events.acme.order.created", `{}`, "Fanfare-Id", id)
	}
	h.Publish("events.acme.nobody.cares", `{}`, "Fanfare-Id", "e4")
	h.Publish("events.acme.order.created", `{"broken`, "Fanfare-Id", "e5")
	h.Settled()
	stop()
	if h.tasks, err = h.JS.Stream(t.Context(), deliver.Stream); err != nil {
		t.Fatal(err)
	}
	return h
}

// work makes what is in the stream of tasks, as workers and recorders would: deliveries that the ledger has are left.
func (h *auditing) work() {
	h.T.Helper()
	for _, task := range h.Tray.All() {
		for _, target := range task.Targets {
			h.exec(`INSERT INTO deliveries (id, tenant, event_uid, event_id, event_type, seq, subscription_id, generation, state, reason,
    attempts, created_at, ended_at, started_at, duration_us, status, error)
VALUES ($1, 'acme', $2, $3, 'order.created', $4, $5, 0, 'delivered', 'ok', 1, $6, now(), now(), 10, 200, '') ON CONFLICT DO NOTHING`,
				outcome.ID(task.Event.UID, target.Subscription, 0, task.Event.AcceptedAt), task.Event.UID, task.Event.ID, int64(task.Event.Seq),
				target.Subscription, task.Event.AcceptedAt)
		}
	}
	if err := h.tasks.Purge(h.T.Context()); err != nil {
		h.T.Fatal(err)
	}
}

func (h *auditing) exec(query string, args ...any) {
	h.T.Helper()
	res, err := h.DB.ExecContext(h.T.Context(), query, args...)
	if err != nil {
		h.T.Fatal(err)
	}
	if n, _ := res.RowsAffected(); n == 0 && !slices.Contains([]string{"I"}, query[:1]) {
		h.T.Fatalf("nothing was changed by %s", query)
	}
}

func (h *auditing) audit() *audit.Audit {
	h.T.Helper()
	found, err := h.auditor.Audit(h.T.Context(), ledger.Span{Since: time.Now().Add(-time.Hour), Until: time.Now().Add(time.Minute)})
	if err != nil {
		h.T.Fatal(err)
	}
	return found
}

// balanced demands that all adds up.
func (h *auditing) balanced() *audit.Audit {
	h.T.Helper()
	a := h.audit()
	if !a.Balanced || a.Accepted != 4 || a.InStream != 4 || a.InLedger != 4 || a.Matched != 6 ||
		a.Matched != a.Delivered+a.Dead+a.Cancelled+a.Pending {
		h.T.Fatalf("the audit is %+v, want 4 events and 6 matches in balance", a)
	}
	return a
}

func TestAnAuditOfWhatIsInOrder(t *testing.T) {
	t.Parallel()
	h := newAuditing(t)
	if a := h.balanced(); a.Pending != 6 {
		t.Errorf("%d are pending, want the 6 of the tasks", a.Pending)
	}
	h.work()
	if a := h.balanced(); a.Delivered != 6 {
		t.Errorf("%d are delivered, want 6", a.Delivered)
	}
	// A delivery that was made again counts as one more that there must be.
	h.exec(`INSERT INTO deferrals (id, tenant, event_uid, event_id, event_type, seq, subscription_id, generation, reason, attempts, step,
    test, held, created_at, due_at, claim_at)
SELECT $1, tenant, event_uid, event_id, event_type, seq, subscription_id, 1, 'busy', 0, 1, false, true, now(), now(), now() FROM deliveries LIMIT 1`, uuid.Must(uuid.NewV7()))
	if a := h.audit(); !a.Balanced || a.Matched != 7 || a.Pending != 1 || a.Held != 1 {
		t.Errorf("the audit is %+v, want 7 matches, of which one is held", a)
	}
	// A repeat beyond the stream's own window is no event.
	h.Publish("events.acme.order.created", `{}`, "Fanfare-Id", "e1")
	if a := h.audit(); !a.Balanced || a.Accepted != 4 {
		t.Errorf("the audit is %+v, want the repeat left out", a)
	}
}

func TestEachSeededViolationIsNamedAndMended(t *testing.T) {
	t.Parallel()
	const one = `event_id = 'e2' AND subscription_id = $1`
	for name, tt := range map[string]struct {
		seed string // $1 is the first subscription
		want history.Kind
		// whole says that the gap is the event's and names no subscription.
		whole bool
	}{
		"a delivery is dropped":          {`DELETE FROM deliveries WHERE ` + one, "delivery_missing", false},
		"an event has no row":            {`DELETE FROM events WHERE id = 'e2' AND $1::uuid IS NOT NULL`, "event_not_in_ledger", true},
		"an attempt is there twice":      {`INSERT INTO attempts SELECT id, 2, now(), 1, 500, '', NULL, 'http_5xx' FROM deliveries WHERE ` + one, "attempt_duplicated", false},
		"an attempt is dropped":          {`UPDATE deliveries SET attempts = 3 WHERE ` + one, "attempt_missing", false},
		"a delivery is there twice":      {`INSERT INTO deliveries (id, tenant, event_uid, event_id, event_type, seq, subscription_id, generation, state, reason, attempts, created_at, ended_at, started_at, duration_us, status, error) SELECT overlay(id::text placing 'ffff' from 33)::uuid, tenant, event_uid, event_id, event_type, seq, subscription_id, generation, state, reason, attempts, created_at, ended_at, started_at, duration_us, status, error FROM deliveries WHERE ` + one, "delivery_duplicated", false},
		"a match is forgotten":           {`UPDATE events SET matched = 1 WHERE id = 'e2' AND $1::uuid IS NOT NULL`, "delivery_unmatched", true},
		"a hold outlives its pause":      {`WITH d AS (DELETE FROM deliveries WHERE ` + one + ` RETURNING *), s AS (UPDATE subscriptions SET updated_at = now() - interval '1 hour' WHERE id = $1) INSERT INTO deferrals (id, tenant, event_uid, event_id, event_type, seq, subscription_id, generation, reason, attempts, step, test, held, created_at, due_at, claim_at) SELECT id, tenant, event_uid, event_id, event_type, seq, subscription_id, 0, 'paused', 0, 1, false, true, created_at, now(), now() FROM d`, "held_without_a_pause", false},
		"bytes are gone from the stream": {``, "event_not_in_stream", true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := newAuditing(t)
			h.work()
			h.balanced()
			if tt.seed != "" {
				h.exec(tt.seed, h.subs[0].ID)
			} else if stream, err := h.JS.Stream(t.Context(), fanout.Stream); err != nil || stream.DeleteMsg(t.Context(), 2) != nil {
				t.Fatalf("delete a message: %v", err)
			}
			a := h.audit()
			if a.Balanced || len(a.Gaps) != 1 || a.Gaps[0].Kind != tt.want || a.Gaps[0].EventID != "e2" {
				t.Fatalf("the audit is %+v, want the one gap %s of e2", a, tt.want)
			}
			if tt.seed == "" && !strings.Contains(a.Gaps[0].Detail, "place 2 of stream EVENTS is empty") {
				t.Errorf("the gap says %q", a.Gaps[0].Detail)
			}
			if id := a.Gaps[0].SubscriptionID; !tt.whole && (id == nil || *id != h.subs[0].ID) {
				t.Errorf("the gap names %v, want %s", id, h.subs[0].ID)
			}
			if left, err := h.auditor.Mend(t.Context(), a); left != 0 || err != nil || a.Mended != 1 {
				t.Fatalf("%d gaps are left: %v", left, err)
			}
			h.work()
			if a := h.audit(); !a.Balanced || a.Matched != a.Delivered+a.Dead+a.Cancelled+a.Pending || a.Matched != 6 {
				t.Errorf("after mending the audit is %+v", a)
			}
		})
	}
}

func TestATaskThatIsLostIsSentAgain(t *testing.T) {
	t.Parallel()
	h := newAuditing(t)
	h.balanced()
	if err := h.tasks.DeleteMsg(t.Context(), 1); err != nil {
		t.Fatal(err)
	}
	before := len(h.Tray.All())
	a := h.audit()
	if a.Balanced || len(a.Gaps) == 0 || len(a.Gaps)%2 != 0 {
		t.Fatalf("the audit is %+v, want both deliveries of each event in the task", a)
	}
	for _, g := range a.Gaps {
		if g.Kind != "delivery_missing" || g.SubscriptionID == nil || g.EventID == "" {
			t.Errorf("the gap %+v is not named", g)
		}
	}
	if left, err := h.auditor.Mend(t.Context(), a); left != 0 || err != nil {
		t.Fatalf("%d gaps are left: %v", left, err)
	}
	for _, task := range h.Tray.All()[before:] {
		if !task.Suspect {
			t.Error("a task that may have been made is not suspect")
		}
	}
	h.balanced()
	h.work()
	h.balanced()
}

func TestAMatchWhoseBytesAreGoneIsGivenUp(t *testing.T) {
	t.Parallel()
	h := newAuditing(t)
	h.work()
	h.exec(`DELETE FROM deliveries WHERE event_id = 'e2' AND subscription_id = $1`, h.subs[1].ID)
	stream, err := h.JS.Stream(t.Context(), fanout.Stream)
	if err != nil || stream.DeleteMsg(t.Context(), 2) != nil {
		t.Fatalf("delete a message: %v", err)
	}
	if left, err := h.auditor.Mend(t.Context(), h.audit()); left != 0 || err != nil {
		t.Fatalf("%d gaps are left: %v", left, err)
	}
	if a := h.audit(); !a.Balanced || a.Dead != 1 || a.Delivered != 5 {
		t.Errorf("the audit is %+v, want one that is dead", a)
	}
}

func TestTheAuditIsTheAdmins(t *testing.T) {
	t.Parallel()
	h := newAuditing(t)
	d := fanouttest.NewDesk(t, h.auditor.Register)
	d.Call("acme", "GET", "/v1/audit", nil, 403, nil)
	d.Call("admin", "GET", "/v1/audit?since=2026-01-02T00:00:00Z&until=2026-01-01T00:00:00Z", nil, 422, nil)
	d.Call("admin", "GET", "/v1/audit?until=0000-01-01T00:00:00Z", nil, 422, nil)
	d.Call("admin", "GET", "/v1/audit?until=0000-01-01T00:00:01Z", nil, 200, nil)
	var a struct {
		Accepted, Matched, Pending int
		Balanced                   bool
		Gaps                       []any
	}
	for _, span := range []string{
		"until=" + time.Now().Add(time.Minute).UTC().Format(time.RFC3339),
		"since=0000-01-01T00:00:00Z&until=9999-12-31T23:59:59Z", // An hour of which nothing is known takes no time.
	} {
		d.Call("admin", "GET", "/v1/audit?"+span, nil, 200, &a)
		if a.Accepted != 4 || a.Matched != 6 || a.Pending != 6 || !a.Balanced || a.Gaps == nil {
			t.Errorf("the audit of %s is %+v", span, a)
		}
		d.Call("admin", "GET", "/v1/audit?tenant=acme&"+span, nil, 200, &a)
		if a.Accepted != 4 || a.Matched != 6 || a.Pending != 6 || !a.Balanced {
			t.Errorf("the audit of acme is %+v", a)
		}
		d.Call("admin", "GET", "/v1/audit?tenant=globex&"+span, nil, 200, &a)
		if a.Accepted != 0 || a.Matched != 0 || a.Pending != 0 || !a.Balanced {
			t.Errorf("the audit of globex is %+v", a)
		}
	}
}
