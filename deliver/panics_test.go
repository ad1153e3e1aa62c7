package deliver

import (
	"fmt"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/fanfarehq/fanfare/internal/servertest"
	"github.com/fanfarehq/fanfare/subscriptions"
)

// faulty is a directory that panics when it is asked for one subscription.
type faulty struct {
	Directory
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
			id := ID(e.UID, bad.ID, 0, e.AcceptedAt)
			if due {
				f := &flight{delivery: id, tenant: e.Tenant, eventUID: e.UID, eventID: e.ID, eventType: e.Type, seq: e.Seq, subscription: bad.ID, created: e.AcceptedAt}
				later := f.record(OutcomeLater, ReasonServer, time.Now())
				later.Step = 1
				r.put(later)
				r.send(e, good)
			} else {
				r.send(e, good, bad)
			}
			r.ended(id, OutcomeDead, ReasonProtocol)
			r.ended(ID(e.UID, good.ID, 0, e.AcceptedAt), OutcomeDelivered, ReasonOK)
			r.settled()
			if n := len(receiver.Requests()); n != 1 {
				t.Errorf("%d requests, want one", n)
			}
			if n := r.count(`SELECT count(*) FROM quarantine WHERE reason = 'internal' AND tenant = 'acme' AND subject = $1`, "deliveries."+id.String()); n != 1 {
				t.Errorf("%d rows of the delivery in quarantine, want 1", n)
			}
			r.ended(r.send(r.event(), good), OutcomeDelivered, ReasonOK)
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
	r.ended(r.send(r.event(), sub), OutcomeDead, ReasonGone)
	r.ended(r.send(r.event(), sub), OutcomeDelivered, ReasonOK)
	r.eventually("the panic to be counted", func() bool { return metric(t, s.metrics.panics) == 1 })
}
