package deliver_test

import (
	"context"
	"net/http"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/fanfarehq/fanfare/deliver/history"
	"github.com/fanfarehq/fanfare/deliver/ledger"
	"github.com/fanfarehq/fanfare/deliver/outcome"
	"github.com/fanfarehq/fanfare/internal/servertest"
)

// faults are what an audit finds wrong with deliveries of the last hour.
func (r *rig) faults() []history.Fault {
	r.T.Helper()
	books := history.NewBooks(r.DB)
	span := ledger.Span{Since: time.Now().Add(-time.Hour), Until: time.Now().Add(time.Hour)}
	return must(books.Faults(r.T.Context(), span, time.Time{}, 10))(r.T)
}

// An attempt that is under way while its delivery is ended by somebody else comes back to a delivery that has not
// counted it. It was made all the same: it is counted and shown, and no audit misses or exceeds anything.
func TestAnAttemptThatComesBackAfterTheEndIsCounted(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		status int
		end    func(*rig, uuid.UUID) error
	}{
		"it failed after a cancel": {500, func(r *rig, id uuid.UUID) error {
			return ledger.New(r.DB).Cancel(r.T.Context(), id)
		}},
		"it succeeded after a cancel": {200, func(r *rig, id uuid.UUID) error {
			return ledger.New(r.DB).Cancel(r.T.Context(), id)
		}},
		"it failed after an erasure": {500, func(r *rig, id uuid.UUID) error {
			var event uuid.UUID
			if err := r.DB.QueryRow(`SELECT event_uid FROM deferrals WHERE id = $1`, id).Scan(&event); err != nil {
				return err
			}
			return ledger.NewEraser(r.DB).EraseEvent(r.T.Context(), event)
		}},
		"its subscription was deleted and its lease was over": {500, func(r *rig, id uuid.UUID) error {
			l, ctx := ledger.New(r.DB), r.T.Context()
			sub := must(history.NewReader(r.DB, nil).Find(ctx, id, ""))(r.T).Subscription
			if err := r.store.Delete(ctx, "acme", sub); err != nil {
				return err
			}
			if _, err := r.DB.Exec(`UPDATE deferrals SET claim_at = now() WHERE id = $1`, id); err != nil {
				return err
			}
			_, err := cancelAll(ctx, l, sub, outcome.ReasonDeleted)
			return err
		}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t)
			answer := make(chan struct{})
			receiver := servertest.NewReceiver(t, servertest.Status(500), servertest.After(answer, servertest.Reply(tt.status, http.Header{}, "late")))
			sub := r.subscribe(receiver.URL, retries(time.Millisecond, time.Hour))
			r.worker(quick())
			r.recorder()
			id := r.send(r.event(), sub)
			receiver.Wait(2)
			if err := tt.end(r, id); err != nil {
				t.Fatal(err)
			}
			r.await(id, "cancelled after one attempt", func(e ledger.Entry) bool { return e.State == "cancelled" && e.Attempts == 1 })
			close(answer)
			e := r.await(id, "told of the attempt", func(e ledger.Entry) bool { return e.Attempts == 2 })
			if e.State != "cancelled" {
				t.Errorf("the attempt changed the delivery to %s", e.State)
			}
			log := must(history.NewReader(r.DB, nil).Attempts(t.Context(), "acme", id))(t)
			if len(log) != 2 || log[1].Number != 2 || log[1].Status != tt.status {
				t.Errorf("the attempts are %+v, want the second with %d", log, tt.status)
			}
			want := outcome.Later
			if tt.status == http.StatusOK {
				want = outcome.Delivered
			}
			if got := log[len(log)-1].Outcome; got != want {
				t.Errorf("the outcome of an attempt that was answered %d is %s, want %s", tt.status, got, want)
			}
			if faults := r.faults(); len(faults) != 0 {
				t.Errorf("an audit finds %+v", faults)
			}
			// One that nobody made is found as ever.
			if _, err := r.DB.Exec(`INSERT INTO attempts (delivery_id, number, started_at, duration_us, status, error, reason)
VALUES ($1, 3, now(), 1, 500, '', 'http_5xx')`, id); err != nil {
				t.Fatal(err)
			}
			if faults := r.faults(); len(faults) != 1 || faults[0].Kind != history.KindExtraAttempt || faults[0].Delivery != id {
				t.Errorf("with an attempt too many an audit finds %+v", faults)
			}
		})
	}
}

// A cancel and the word of an attempt that meet in the database: whichever is first, all that was made is counted.
func TestACancelAndAnAttemptMeet(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	l := ledger.New(r.DB)
	for _, end := range []outcome.Outcome{outcome.Later, outcome.Delivered, outcome.Dead} {
		for range 50 {
			e := r.event()
			d := delivery(e, uuid.New())
			word := func(step int, as outcome.Outcome) *outcome.Record {
				rec := became(d, as, outcome.ReasonServer, time.Now().Add(time.Hour))
				rec.Step, rec.Attempts = step, step
				rec.Attempt = &outcome.Made{Number: step, StartedAt: time.Now(), Micros: 1, Status: 500, Reason: outcome.ReasonServer}
				return rec
			}
			if err := l.Write(t.Context(), []*outcome.Record{word(1, outcome.Later)}); err != nil {
				t.Fatal(err)
			}
			cancelled := make(chan error, 1)
			go func() { cancelled <- l.Cancel(context.WithoutCancel(t.Context()), d.Delivery) }()
			if err := l.Write(t.Context(), []*outcome.Record{word(2, end)}); err != nil {
				t.Fatal(err)
			}
			if err := <-cancelled; err != nil {
				t.Fatal(err)
			}
			if n := r.Count(`SELECT attempts FROM deliveries WHERE id = $1`, d.Delivery); n != 2 {
				t.Fatalf("the delivery says %d attempts, want 2 (the word was %s)", n, end)
			}
		}
	}
	if faults := r.faults(); len(faults) != 0 {
		t.Errorf("an audit finds %+v", faults)
	}
}
