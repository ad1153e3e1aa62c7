package deliver

import (
	"errors"
	"fmt"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"

	"github.com/google/uuid"

	"github.com/fanfarehq/fanfare/subscriptions"
)

// flight is one delivery on its way through a worker: from a task or a lease to its record.
type flight struct {
	delivery     uuid.UUID
	tenant       string
	eventUID     uuid.UUID
	eventID      string
	eventType    string
	seq          uint64
	subscription uuid.UUID
	generation   int
	attempts     int // made before this one
	test         bool
	byHand       bool // its retry was asked for: it is attempted although the subscription is paused
	created      time.Time
	limited      bool // it has waited for the rate limit already
	ordered      bool // others may wait for it to end

	event  *Event
	bodies *Bodies
	epoch  uint64 // of the pulse, when the worker got it

	// queued says that it waits for a slot of the worker. That is nobody's fault but the worker's, so
	// it is not handed off: its task stays unacknowledged, and no more tasks are taken.
	queued atomic.Bool
	// placed says that the request may begin (see starts), and that the place is given back by who runs the flight.
	placed bool

	mu    sync.Mutex
	step  int       // of its row among the deferrals; 0 while it has none
	until time.Time // the end of its lease; zero without one
	state flightState
}

// flightState says whether a flight's task must wait for it.
type flightState int

const (
	flying  flightState = iota // the task must wait
	handing                    // a row is being written
	handed                     // the row is there: the task need not wait
	landed                     // the attempt is over: too late to hand off
	lost                       // the row is somebody else's, or the delivery ended
)

var (
	// errLost says that the delivery may be with another worker by now: nothing may be sent.
	errLost = errors.New("the delivery may be with another worker")
	// errStopping ends what waits when the worker stops.
	errStopping = errors.New("the worker stops")
)

// seat is a flight's place: a slot of its subscription, or one in the queue for it.
type seat struct {
	sub    *subscriptions.Subscription
	waiter *waiter
	limit  int // requests at once that the subscription may have
	admission
	host string
	way  admission // to the host
}

// checkIn judges whether the delivery is to be attempted at all and takes its place. Either a seat is taken, which fly or
// leave gives back, or there is a record already; noRoom says that it must come back.
func (w *Worker) checkIn(f *flight) (*seat, *Record, error) {
	sub, ok := w.directory.Get(f.subscription)
	switch {
	case !ok || sub.Tenant != f.tenant:
		return nil, f.record(OutcomeCancelled, ReasonDeleted, w.now()), nil
	case sub.Status == subscriptions.Disabled && !f.test: // Who may test one is judged where the test is asked for.
		return nil, f.record(OutcomeCancelled, ReasonDisabled, w.now()), nil
	case sub.Status == subscriptions.Paused && !f.test && !f.byHand:
		return nil, w.hold(f), nil
	}
	s, r, err := w.admit(f, sub)
	if err != nil || r != nil {
		return nil, r, err
	}
	if s.waiter, err = w.slots.take(f.subscription, s.admission.limit); err != nil {
		w.forgo(f, s)
		return nil, nil, err
	}
	return s, nil, nil
}

// fly takes a flight with a seat to its record: slots, attempt, verdict. An error means that no attempt was made and
// that there is nothing to record: noRoom, errLost, or that the worker stops.
func (w *Worker) fly(f *flight, s *seat) (*Record, error) {
	if s.waiter != nil || s.sub.RateLimit != nil {
		w.yield(f)
	}
	err := w.slots.wait(w.draining, f.subscription, s.waiter, w.patience())
	if err != nil {
		w.forgo(f, s)
		return nil, err
	}
	if err = w.permits.wait(w.draining, f, s.sub.RateLimit); err == nil {
		err = w.admitAgain(f, s)
	}
	if err == nil {
		err = w.begin(f, s)
	}
	if err != nil {
		w.slots.exit(f.subscription)
		w.forgo(f, s)
		return nil, err
	}
	result, err := w.attempt(f, s.sub)
	w.hosts.exit(s.host)
	if err == nil && result.Status != 0 {
		// What the receiver said is heeded before its next request begins.
		defer w.leave(f)
		return w.judge(f, s, result), nil
	}
	w.leave(f) // Why nothing came of it may take a moment to find out.
	if err != nil {
		w.forgo(f, s)
		return nil, err
	}
	return w.judge(f, s, result), nil
}

// yield gives the place to begin to others, as this flight has to wait: not for the worker.
func (w *Worker) yield(f *flight) {
	if f.placed {
		f.placed = false
		w.slots.starts.end()
	}
}

// begin waits until the host has room, and then the worker.
func (w *Worker) begin(f *flight, s *seat) error {
	if turn := w.hosts.take(s.host, s.way.limit); turn != nil {
		w.yield(f)
		if err := w.hosts.wait(w.draining, s.host, turn, w.patience()); err != nil {
			return err
		}
	}
	err := w.hosts.admitAgain(s)
	if err == nil {
		err = w.start(f)
	}
	if err != nil {
		w.hosts.exit(s.host)
	}
	return err
}

// start takes a slot of the worker.
func (w *Worker) start(f *flight) error {
	f.queued.Store(true)
	defer f.queued.Store(false)
	if f.placed {
		return w.slots.occupy(w.draining)
	}
	return w.slots.start(w.draining)
}

// leave gives back what start took, and the subscription's slot.
func (w *Worker) leave(f *flight) {
	if f.placed {
		w.slots.vacate(f.subscription)
	} else {
		w.slots.release(f.subscription)
	}
}

// attempt makes the attempt.
func (w *Worker) attempt(f *flight, sub *subscriptions.Subscription) (result Result, err error) {
	if !f.mayStart(w, sub) {
		return Result{}, errLost
	}
	start, begun := w.now(), time.Now()
	defer func() { w.slots.took(f.subscription, time.Since(begun)) }()
	defer func() {
		if p := recover(); p != nil {
			w.metrics.panics.Inc()
			w.log.Error("attempt panicked", "delivery", f.delivery, "panic", p, "stack", string(debug.Stack()))
			// Retried by schedule: the cause may be this event, this receiver or this version of Fanfare.
			result = Result{StartedAt: start, Duration: w.now().Sub(start), Reason: ReasonProtocol, Err: fmt.Errorf("internal error: %v", p)}
		}
	}()
	if sub.Err != nil {
		// Its secrets do not open: that is for a person to mend, and the delivery to be sent again then.
		return Result{StartedAt: start, Reason: ReasonConfig, Err: sub.Err}, nil
	}
	result = w.poster.Send(w.hard, Attempt{
		Event: f.event, Subscription: sub, Delivery: f.delivery, Number: f.attempts + 1, Bodies: f.bodies,
	})
	if w.hard.Err() != nil && result.Reason != ReasonOK {
		// Broken off by ourselves: not the receiver's failure, and not to be counted as one.
		return Result{}, errStopping
	}
	return result, nil
}

// mayStart reports whether the delivery is surely still this worker's: the process has not been paused, and its
// lease, if it has one, outlasts the attempt.
func (f *flight) mayStart(w *Worker, sub *subscriptions.Subscription) bool {
	if !w.pulse.steady(f.epoch) {
		return false
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.state == lost {
		return false
	}
	timeout := sub.Timeout
	if timeout <= 0 {
		timeout = subscriptions.DefaultTimeout
	}
	return f.until.IsZero() || time.Until(f.until) > timeout+leaseMargin
}

// leaseMargin is what of a lease remains after the longest attempt, for its outcome to be judged and to reach the disk.
const leaseMargin = 1500 * time.Millisecond

// record begins the record of what became of f.
func (f *flight) record(outcome Outcome, reason Reason, at time.Time) *Record {
	return &Record{
		Delivery: f.delivery, EventUID: f.eventUID, EventID: f.eventID, EventType: f.eventType, Tenant: f.tenant,
		Seq: f.seq, Subscription: f.subscription, Generation: f.generation,
		Outcome: outcome, Reason: reason, Attempts: f.attempts, CreatedAt: f.created, At: at, Test: f.test,
	}
}

// hold is the record of a delivery that waits until its subscription is resumed.
func (w *Worker) hold(f *flight) *Record {
	r := f.record(OutcomeLater, ReasonPaused, w.now())
	r.Held = true
	w.keepBytes(f, r)
	return r
}

// keepBytes puts the event's bytes into a record whose delivery may outlive the stream of events.
func (w *Worker) keepBytes(f *flight, r *Record) {
	switch {
	case f.event == nil:
		return
	case r.Outcome == OutcomeDead, r.Held:
	case r.Outcome == OutcomeLater && r.At.Sub(f.event.AcceptedAt) > w.cfg.EventsMaxAge-keepBefore:
	default:
		return
	}
	r.Event = packEvent(f.event)
}

// keepBefore is how long before an event leaves its stream the bytes are copied for a delivery that waits.
const keepBefore = 12 * time.Hour

// land notes that the flight's attempt is over and returns the step of its record. A hand-off that is under way is
// not waited for: the record's step is beyond that of its row, whichever is written first.
func (f *flight) land() (step int, was flightState) {
	f.mu.Lock()
	defer f.mu.Unlock()
	was = f.state
	f.state = landed
	return f.step + 1, was
}
