package deliver

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"sync/atomic"
	"time"

	"github.com/fanfarehq/fanfare/deliver/ledger"
	"github.com/fanfarehq/fanfare/deliver/outcome"
	"github.com/fanfarehq/fanfare/deliver/throttle"
	"github.com/fanfarehq/fanfare/deliver/webhook"
	"github.com/fanfarehq/fanfare/internal/crashpoint"
	"github.com/fanfarehq/fanfare/internal/event"
	"github.com/fanfarehq/fanfare/internal/router"
	"github.com/fanfarehq/fanfare/internal/suspect"
	"github.com/fanfarehq/fanfare/subscriptions"
)

// flight is one delivery on its way through a worker: from a task or a lease to its record.
type flight struct {
	ledger.Deferral      // as far as it is known: one from a task has no row. The step is that of course
	gone            bool // the event's contents do not open any more
	twin            bool // another message in hand has the delivery: see aloft
	counted         bool // its outcome may repeat one that killed a recorder

	event  *event.Event
	bodies *webhook.Bodies
	epoch  uint64 // of the pulse, when the worker got it

	// queued says that it waits to begin. That is nobody's fault but the worker's, so it is not handed off: its task stays
	// unacknowledged, and no more tasks are taken.
	queued atomic.Bool
	start  throttle.Start
	ticket atomic.Pointer[throttle.Ticket] // once it has one

	course course
}

var (
	// errLost says that the delivery may be with another worker by now: nothing may be sent.
	errLost = errors.New("the delivery may be with another worker")
	// errStopping ends all waiting when the worker stops.
	errStopping = router.ErrStopping
)

// seat is a flight's ticket and the subscription as it was when it was asked for.
type seat struct {
	sub    *subscriptions.Subscription
	ticket *throttle.Ticket
}

// due reports whether it came from a lease, not from a task: then its event is read once it has a place.
func (f *flight) due() bool { return f.event == nil }

// waitsForWorker reports whether nothing but the worker itself holds the flight up.
func (f *flight) waitsForWorker() bool {
	if f.queued.Load() {
		return true
	}
	t := f.ticket.Load()
	return t != nil && t.Queued()
}

// checkIn judges whether the delivery is to be attempted at all and takes its place in line. It returns a seat, or the
// record of a delivery that is not to be attempted; the error is a throttle.Refusal.
func (w *Worker) checkIn(f *flight) (*seat, *outcome.Record, error) {
	sub, ok := w.directory.Get(f.Subscription)
	switch {
	case !ok || sub.Tenant != f.Tenant:
		return nil, f.record(outcome.Cancelled, outcome.ReasonDeleted, w.now()), nil
	case f.gone:
		return nil, f.record(outcome.Dead, outcome.ReasonExpired, w.now()), nil
	case sub.Status == subscriptions.Disabled && !f.Test: // Who may test one is judged where the test is asked for.
		return nil, f.record(outcome.Cancelled, outcome.ReasonDisabled, w.now()), nil
	case !f.Test && sub.Err == nil && !w.directory.MayReceive(sub, f.EventType):
		// Scopes are compared at every attempt: a change of the URL may have left those of the match behind.
		return nil, f.record(outcome.Cancelled, outcome.ReasonCancelled, w.now()), nil
	case sub.Status == subscriptions.Paused && !f.Test && !f.ByHand:
		return nil, w.hold(f), nil
	case sub.Err != nil:
		return nil, nil, w.unopened(f, sub)
	}
	ticket, err := w.gate.Line(throttle.Request{Subscription: sub, Delivery: f.Delivery, Due: f.due(), Limited: f.Limited, Excused: f.Excused, Start: &f.start})
	if err != nil {
		r := w.tooLate(f, sub, err)
		if r != nil {
			err = nil
		}
		return nil, r, err
	}
	f.ticket.Store(ticket)
	return &seat{sub: sub, ticket: ticket}, nil, nil
}

// fly takes a flight with a seat to its record: place, attempt, verdict. An error means that no attempt was made and
// that there is nothing to record: a throttle.Refusal, errLost, or that the worker stops.
func (w *Worker) fly(ctx context.Context, f *flight, s *seat) (*outcome.Record, error) {
	if err := s.ticket.Enter(ctx); err != nil {
		return nil, err
	}
	attempted := false
	defer func() {
		if !attempted { // It panics, or nothing was attempted.
			s.ticket.Cancel()
		}
	}()
	result, err := w.attempt(attempting(ctx), f, s.sub)
	if err != nil {
		return nil, err
	}
	attempted = true
	return w.judge(ctx, f, s, result), nil
}

// attempt makes the attempt. It is broken off when ctx ends.
func (w *Worker) attempt(ctx context.Context, f *flight, sub *subscriptions.Subscription) (result webhook.Result, err error) {
	if !f.mayStart(w, sub) {
		return webhook.Result{}, errLost
	}
	start := w.now()
	ctx, span := w.traceAttempt(ctx, f)
	defer func() {
		if p := recover(); p != nil {
			w.metrics.Ledger.Panics.Inc()
			w.log.ErrorContext(ctx, "attempt panicked", "delivery", f.Delivery, "panic", p, "stack", string(debug.Stack()))
			// Retried by schedule: the cause may be this event, this receiver or this version of Fanfare.
			result = webhook.Result{StartedAt: start, Duration: w.now().Sub(start), Reason: outcome.ReasonProtocol, Err: fmt.Errorf("internal error: %v", p)}
		}
		endAttempt(span, result, err)
	}()
	suspect.Fault("attempt", f.event.Data)
	if err := crashpoint.Reach(crashpoint.DeliverAttempting); err != nil {
		panic(err)
	}
	result = w.poster.Send(ctx, webhook.Attempt{
		Event: f.event, Subscription: sub, Delivery: f.Delivery, Number: f.Attempts + 1, Test: f.Test, Bodies: f.bodies,
		TraceParent: span.TraceParent(f.event.TraceParent),
	})
	if err := crashpoint.Reach(crashpoint.DeliverAnswered); err != nil {
		panic(err)
	}
	if ctx.Err() != nil && result.Reason != outcome.ReasonOK {
		// Broken off by ourselves: not the receiver's failure, and not to be counted as one.
		return webhook.Result{}, errStopping
	}
	return result, nil
}

// mayStart reports whether the delivery is surely still this worker's: the process has not been paused, and its
// lease, if it has one, outlasts the attempt.
func (f *flight) mayStart(w *Worker, sub *subscriptions.Subscription) bool {
	if !w.pulse.steady(f.epoch) {
		return false
	}
	timeout := sub.Timeout
	if timeout <= 0 {
		timeout = subscriptions.DefaultTimeout
	}
	return f.course.lasts(timeout + leaseMargin)
}

// leaseMargin is what of a lease remains after the longest attempt, for its outcome to be judged and to reach the disk.
const leaseMargin = 1500 * time.Millisecond

// record begins the record of what became of f.
func (f *flight) record(as outcome.Outcome, reason outcome.Reason, at time.Time) *outcome.Record {
	return &outcome.Record{
		Delivery: f.Delivery, EventUID: f.EventUID, EventID: f.EventID, EventType: f.EventType, Tenant: f.Tenant,
		Seq: f.Seq, Subscription: f.Subscription, Generation: f.Generation,
		Outcome: as, Reason: reason, Attempts: f.Attempts, Excused: f.Excused, CreatedAt: f.Created, At: at, Test: f.Test,
		Counted: f.counted,
	}
}

// hold is the record of a delivery that waits until its subscription is resumed.
func (w *Worker) hold(f *flight) *outcome.Record {
	r := f.record(outcome.Later, outcome.ReasonPaused, w.now())
	r.Held = true
	w.keepBytes(f, r)
	return r
}

// keepBytes puts the event's bytes into a record whose delivery may outlive the stream of events.
func (w *Worker) keepBytes(f *flight, r *outcome.Record) {
	switch {
	case f.event == nil, f.gone:
		return
	case r.Outcome == outcome.Dead, r.Held:
	case r.Outcome == outcome.Later && r.At.Sub(f.event.AcceptedAt) > w.cfg.EventsMaxAge-keepBefore:
	default:
		return
	}
	r.Keep = f.event
}

// keepBefore is how long before an event leaves its stream the bytes are copied for a delivery that waits.
const keepBefore = 12 * time.Hour
