package deliver

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/google/uuid"

	"github.com/fanfarehq/fanfare/deliver/ledger"
	"github.com/fanfarehq/fanfare/deliver/outcome"
	"github.com/fanfarehq/fanfare/deliver/webhook"
	"github.com/fanfarehq/fanfare/internal/jetstream"
	"github.com/fanfarehq/fanfare/internal/retry"
	"github.com/fanfarehq/fanfare/internal/suspect"
)

// load is one message of tasks in a worker's hands. It may be acknowledged once each of its flights has its
// outcome on disk, or a row among the deferrals.
type load struct {
	worker  *Worker
	flights []*flight

	mu     sync.Mutex
	left   int           // flights that the message must wait for
	err    error         // of a flight that must be given back
	landed []landing     // whose records are to be written
	nobody bool          // the handler has returned: whoever lands writes for himself
	moved  chan struct{} // holds one when landed, left or err changed
}

// landing is a flight that ended with a record.
type landing struct {
	flight *flight
	record *outcome.Record
	was    flightState
}

// handle takes one message of tasks through: the Router acknowledges it if the error is nil, and hands it back if
// not. A message that comes again while it is in hand does not get here; see jetstream.Subscriber.
func (w *Worker) handle(ctx context.Context, msg *message.Message) error {
	meta, _ := jetstream.Meta(msg)
	epoch := w.pulse.now()
	tasks, err := unpackTasks(msg.Payload)
	if err != nil {
		return w.quarantine(ctx, meta, err, msg.Payload)
	}
	tenant, weight := "", min(targetsOf(tasks), w.inHand.most)
	if meta.Stream == BacklogStream {
		tenant, weight = tasks[0].Event.Tenant, min(weight, w.inHand.backlogMost())
	}
	if err := w.inHand.acquire(ctx, tenant, weight); err != nil {
		return errStopping
	}
	defer w.inHand.release(tenant, weight)
	if err := w.open(ctx, tasks); err != nil {
		return err
	}
	defer w.traceTasks(tasks)()
	flights := w.board(tasks)
	defer w.aloft.enter(flights)() // Before the ledger is asked: afterwards the other message's outcomes are on disk.
	meta, _ = jetstream.Meta(msg)  // Again: the message may have become suspect while it waited.
	flights, err = w.unknown(ctx, tasks, flights, meta.Suspect || !w.pulse.steady(epoch) || heldUp(msg, meta.Timestamp))
	if err != nil {
		return err
	}
	flights = w.withoutTwins(flights)
	for _, f := range flights {
		f.counted = suspect.Counted(msg)
	}
	if err := w.catchUpWith(ctx, tasks); err != nil {
		return err
	}
	if suspect.Alone(msg) {
		return w.apart(ctx, flights)
	}
	return w.take(ctx, flights)
}

// open opens the contents of tasks. Keys that are not in memory need Postgres, which is waited for.
func (w *Worker) open(ctx context.Context, tasks []Task) error {
	return w.patiently(ctx, "read tenant keys", func(ctx context.Context) error { return openTasks(ctx, w.ledger.Keys, tasks) })
}

// apart gives each delivery of a message that was in hand at several deaths a row of its own. One that kills its worker there,
// too, is alone after the next death; see due.
func (w *Worker) apart(ctx context.Context, flights []*flight) error {
	if len(flights) == 0 {
		return nil
	}
	err := w.patiently(ctx, "take a message apart", func(ctx context.Context) error {
		_, err := w.ledger.HandOff(ctx, deferralsOf(flights), ledger.Lease{Lapses: maxLapses - 1})
		return err
	})
	if err == nil {
		w.due.expect(w.now())
	}
	return err
}

// endAll ends the deliveries of a message that is in quarantine.
func (w *Worker) endAll(ctx context.Context, msg *message.Message) error {
	tasks, err := unpackTasks(msg.Payload)
	if err != nil {
		return nil // It asks for nothing.
	}
	if err := w.open(ctx, tasks); err != nil {
		return err
	}
	flights, err := w.unknown(ctx, tasks, w.board(tasks), true)
	if err != nil || len(flights) == 0 {
		return err
	}
	records := make([]*outcome.Record, len(flights))
	for i, f := range flights {
		records[i] = f.record(outcome.Dead, outcome.ReasonProtocol, w.now())
		records[i].Step, records[i].Counted = 1, true
		w.keepBytes(f, records[i])
	}
	return w.write(ctx, records...)
}

// targetsOf returns how many deliveries tasks ask for.
func targetsOf(tasks []Task) (n int) {
	for i := range tasks {
		n += len(tasks[i].Targets)
	}
	return n
}

// board makes the flights of tasks.
func (w *Worker) board(tasks []Task) []*flight {
	n := targetsOf(tasks)
	room := make([]flight, n)
	flights := make([]*flight, 0, n)
	epoch := w.pulse.now()
	for i := range tasks {
		e := &tasks[i].Event
		bodies := new(webhook.Bodies)
		for _, t := range tasks[i].Targets {
			f := &room[len(flights)]
			*f = flight{
				Deferral: ledger.Deferral{
					Delivery: outcome.ID(e.UID, t.Subscription, t.Generation, e.AcceptedAt),
					Tenant:   e.Tenant, EventUID: e.UID, EventID: e.ID, EventType: e.Type, Seq: e.Seq,
					Subscription: t.Subscription, Generation: t.Generation, Test: e.Test, Created: e.AcceptedAt,
				},
				event: e, bodies: bodies, epoch: epoch, gone: tasks[i].lost,
			}
			flights = append(flights, f)
		}
	}
	return flights
}

// unknown leaves out the flights of suspect tasks that the ledger knows.
func (w *Worker) unknown(ctx context.Context, tasks []Task, flights []*flight, all bool) ([]*flight, error) {
	var suspects []uuid.UUID
	i := 0
	for t := range tasks {
		for range tasks[t].Targets {
			if all || tasks[t].Suspect {
				suspects = append(suspects, flights[i].Delivery)
			}
			i++
		}
	}
	if len(suspects) == 0 {
		return flights, nil
	}
	known, err := w.suspects.Known(ctx, suspects)
	if err != nil {
		return nil, err
	}
	fresh := flights[:0]
	for _, f := range flights {
		if !known[f.Delivery] {
			fresh = append(fresh, f)
		}
	}
	w.metrics.skipped.Add(float64(len(flights) - len(fresh)))
	return fresh, nil
}

// withoutTwins leaves out the flights whose delivery another message has in hand. That message is acknowledged once they have
// an outcome or a row, so this one need not wait for them.
func (w *Worker) withoutTwins(flights []*flight) []*flight {
	before := len(flights)
	flights = slices.DeleteFunc(flights, func(f *flight) bool { return f.twin })
	w.metrics.skipped.Add(float64(before - len(flights)))
	return flights
}

// catchUpWith waits until the directory knows the subscriptions as well as those did who matched the tasks.
func (w *Worker) catchUpWith(ctx context.Context, tasks []Task) error {
	revision := tasks[0].Revision
	for i := range tasks {
		revision = max(revision, tasks[i].Revision)
	}
	return w.patiently(ctx, "learn of subscriptions", func(ctx context.Context) error {
		return w.directory.AtLeast(ctx, revision)
	})
}

// patiently repeats what fails because Postgres or NATS is away, until it succeeds or the worker stops. The
// message stays in progress meanwhile, which is better than to hand it to somebody who cannot do it either.
func (w *Worker) patiently(ctx context.Context, what string, do func(context.Context) error) error {
	pauses := retry.Pauses{First: 50 * time.Millisecond, Most: 2 * time.Second}
	err := retry.Until(ctx, pauses, func() error { return do(ctx) }, func(err error) bool {
		w.trouble.Note("waiting to "+what, err)
		return true
	})
	if err != nil {
		return errStopping
	}
	return nil
}

// take flies flights and waits for them. What takes longer than Config.HandOff is handed off.
func (w *Worker) take(ctx context.Context, flights []*flight) error {
	if len(flights) == 0 {
		return nil
	}
	l := &load{worker: w, flights: flights, left: len(flights), moved: make(chan struct{}, 1)}
	for _, f := range flights {
		l.start(ctx, f)
	}
	timer := time.NewTimer(w.cfg.HandOff)
	defer timer.Stop()
	for {
		select {
		case <-l.moved:
			// While these are written others land, to be written together with the next.
			l.write(ctx, l.take())
			if done, err := l.done(); done {
				return err
			}
		case <-timer.C:
			w.flights.Go(func() {
				defer timer.Reset(w.cfg.HandOff)
				l.handOff(ctx)
			})
		case <-recording(ctx).Done():
			l.leave(ctx)
			return errStopping
		}
	}
}

// start has a flight fly once a request may begin.
func (l *load) start(ctx context.Context, f *flight) {
	f.queued.Store(true)
	l.worker.gate.Go(f.Tenant, &f.start, func(may bool) {
		f.queued.Store(false)
		l.fly(ctx, f, may)
	})
}

// fly takes one flight to its record.
func (l *load) fly(ctx context.Context, f *flight, may bool) {
	w := l.worker
	var r *outcome.Record
	err := errStopping
	if may {
		r, err = w.guarded(ctx, f, func() (*outcome.Record, error) { return w.through(ctx, f) })
	}
	step, was := f.land()
	waitedFor := was == flying || was == handing
	defer func() {
		if p := recover(); p != nil {
			w.outlived("landing", p)
			if waitedFor {
				l.settle(1, fmt.Errorf("land %s: %w", f.Delivery, errPanicked))
			}
		}
	}()
	switch p, ok := laterOf(err); {
	case ok && waitedFor:
		r, err = w.puttingOff(f, p), nil
	case ok && was == handed:
		w.countPutOff(p) // Its row gets the reason when the lease goes back.
	}
	switch {
	case err == nil && (was != lost || r.Attempt != nil):
		r.Step = step
		l.land(ctx, landing{flight: f, record: r, was: was})
	case was == handed && err != nil:
		w.giveBack(ctx, giveBackAfter(f, err))
	case waitedFor:
		l.settle(1, fmt.Errorf("deliver %s: %w", f.Delivery, err))
	}
}

// through takes a flight of a task to its record.
func (w *Worker) through(ctx context.Context, f *flight) (*outcome.Record, error) {
	s, r, err := w.checkIn(f)
	if s != nil {
		return w.fly(ctx, f, s)
	}
	return r, err
}

// land leaves a record to the handler of the message, or writes it if that has returned.
func (l *load) land(ctx context.Context, x landing) {
	l.mu.Lock()
	if !l.nobody {
		l.landed = append(l.landed, x)
		l.mu.Unlock()
		l.move()
		return
	}
	l.mu.Unlock()
	l.write(ctx, []landing{x})
}

// take returns the landed flights.
func (l *load) take() []landing {
	l.mu.Lock()
	defer l.mu.Unlock()
	list := l.landed
	l.landed = nil
	return list
}

// write puts the records of flights on disk. If that fails, what can be given back is.
func (l *load) write(ctx context.Context, list []landing) {
	if len(list) == 0 {
		return
	}
	records := make([]*outcome.Record, len(list))
	for i, x := range list {
		records[i] = x.record
	}
	err := l.worker.write(ctx, records...)
	if errors.Is(err, errPanicked) {
		l.writeApart(ctx, list, err)
		return
	}
	n := 0
	for _, x := range list {
		switch x.was {
		case flying, handing:
			n++
		case handed:
			if err != nil {
				l.worker.giveBack(ctx, giveBackAfter(x.flight, err))
			}
		}
	}
	l.settle(n, err)
}

// writeApart writes records one by one, as the writing of one of them panics. That counts for its delivery.
func (l *load) writeApart(ctx context.Context, list []landing, cause error) {
	if len(list) > 1 {
		for _, x := range list {
			l.write(ctx, []landing{x})
		}
		return
	}
	x := list[0]
	r, err := l.worker.panicked(ctx, x.flight, cause)
	if err == nil {
		r.Step = x.record.Step
		err = l.worker.write(ctx, r)
	}
	switch x.was {
	case flying, handing:
		l.settle(1, err)
	case handed:
		if err != nil {
			l.worker.giveBack(ctx, giveBackAfter(x.flight, err))
		}
	}
}

// settle notes that the message need not wait for n more of its flights.
func (l *load) settle(n int, err error) {
	l.mu.Lock()
	l.left -= n
	if l.err == nil {
		l.err = err
	}
	l.mu.Unlock()
	l.move()
}

func (l *load) move() {
	select {
	case l.moved <- struct{}{}:
	default:
	}
}

// done reports whether the message waits for nothing more. Then nobody writes for those that land from now on.
func (l *load) done() (bool, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.left > 0 || len(l.landed) > 0 {
		return false, nil
	}
	l.nobody = true
	return true, l.err
}

// leave is done without waiting.
func (l *load) leave(ctx context.Context) {
	l.mu.Lock()
	l.nobody = true
	list := l.landed
	l.landed = nil
	l.mu.Unlock()
	l.write(ctx, list)
}
