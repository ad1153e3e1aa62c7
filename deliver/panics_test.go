package deliver_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/fanfarehq/fanfare/deliver"
	"github.com/fanfarehq/fanfare/deliver/ledger"
	"github.com/fanfarehq/fanfare/deliver/outcome"
	"github.com/fanfarehq/fanfare/internal/event"
	"github.com/fanfarehq/fanfare/internal/servertest"
	"github.com/fanfarehq/fanfare/subscriptions"
)

// faulty is a directory that panics when it is asked for one subscription.
type faulty struct {
	deliver.Directory
	bad uuid.UUID
}

func (d faulty) Get(id uuid.UUID) (*subscriptions.Subscription, bool) {
	if id == d.bad {
		panic("no such subscription should be")
	}
	return d.Directory.Get(id)
}

// A delivery whose handling panics outside of its attempt is quarantined at the third time and ends as dead; the others of its
// message are delivered, once, and the worker lives. It is so for the deliveries of tasks and for those that are due.
func TestADeliveryThatPanicsIsQuarantined(t *testing.T) {
	t.Parallel()
	for _, due := range []bool{false, true} {
		t.Run(fmt.Sprint("due ", due), func(t *testing.T) {
			t.Parallel()
			r := newRig(t)
			receiver := servertest.NewReceiver(t)
			good, bad := r.subscribe(receiver.URL, nil), r.subscribe(receiver.URL, nil)
			p := r.parts(quick())
			p.deps.Directory = faulty{p.deps.Directory, bad.ID}
			r.start(p)
			r.recorder()
			e := r.event()
			id := outcome.ID(e.UID, bad.ID, 0, e.AcceptedAt)
			if due {
				r.put(became(delivery(e, bad.ID), outcome.Later, outcome.ReasonServer, time.Now()))
				r.send(e, good)
			} else {
				r.send(e, good, bad)
			}
			r.ended(id, outcome.Dead, outcome.ReasonProtocol)
			r.ended(outcome.ID(e.UID, good.ID, 0, e.AcceptedAt), outcome.Delivered, outcome.ReasonOK)
			r.settled()
			if n := len(receiver.Requests()); n != 1 {
				t.Errorf("%d requests, want one", n)
			}
			if n := r.Count(`SELECT count(*) FROM quarantine WHERE reason = 'internal' AND tenant = 'acme' AND subject = $1`, "deliveries."+id.String()); n != 1 {
				t.Errorf("%d rows of the delivery in quarantine, want 1", n)
			}
			r.ended(r.send(r.event(), good), outcome.Delivered, outcome.ReasonOK)
		})
	}
}

// A panic in the background does not end the worker.
func TestAPanicInTheBackgroundIsSurvived(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	p := r.parts(quick())
	p.deps.Disabler = nil // A receiver that is gone makes use of it, in a goroutine of its own.
	s := r.start(p)
	r.recorder()
	receiver := servertest.NewReceiver(t, servertest.Status(410), servertest.Status(200))
	sub := r.subscribe(receiver.URL, nil)
	r.ended(r.send(r.event(), sub), outcome.Dead, outcome.ReasonGone)
	r.ended(r.send(r.event(), sub), outcome.Delivered, outcome.ReasonOK)
	r.Eventually("the panic to be counted", func() bool { return s.metric("fanfare_attempt_panics_total") == 1 })
}

// A delivery whose workers died one after the other is made alone after the third, and quarantined after the fourth; the others of
// those workers are delivered.
func TestADeliveryThatKillsItsWorkersIsQuarantined(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		deaths int
		state  outcome.Outcome
		reason outcome.Reason
	}{{3, outcome.Delivered, outcome.ReasonOK}, {4, outcome.Dead, outcome.ReasonProtocol}} {
		t.Run(fmt.Sprint(tt.deaths, " deaths"), func(t *testing.T) {
			t.Parallel()
			r := newRig(t)
			receiver := servertest.NewReceiver(t)
			sub := r.subscribe(receiver.URL, nil)
			e, other := r.event(), r.event()
			var ids []uuid.UUID
			for _, e := range []*event.Event{e, other} {
				later := became(delivery(e, sub.ID), outcome.Later, outcome.ReasonServer, time.Now())
				r.put(later)
				ids = append(ids, later.Delivery)
			}
			l := ledger.New(r.DB)
			for n := range tt.deaths {
				// A lease of no length is that of a worker that died at once.
				got := claimAll(t, l, 1, ledger.DueSpan{Back: ever, Lapsed: time.Now().Add(time.Hour)}, ledger.Lease{Worker: fmt.Sprint("dead ", n)})
				if len(got) != 1 || got[0].Delivery != ids[0] || got[0].Lapses != n {
					t.Fatalf("death %d: got %+v", n, got)
				}
				if _, err := r.DB.Exec(`UPDATE deferrals SET claim_at = now() - interval '1 minute' WHERE id = $1`, ids[0]); err != nil {
					t.Fatal(err)
				}
			}
			r.worker(quick())
			r.recorder()
			r.ended(ids[0], tt.state, tt.reason)
			r.ended(ids[1], outcome.Delivered, outcome.ReasonOK)
			if n := r.Count(`SELECT count(*) FROM quarantine`); (n == 1) != (tt.state == outcome.Dead) {
				t.Errorf("%d rows in quarantine", n)
			}
		})
	}
}
