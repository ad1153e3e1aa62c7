package deliver

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/google/uuid"

	"github.com/fanfarehq/fanfare/internal/jetstream"
)

// load is one message of tasks in a worker's hands. It may be acknowledged once each of its flights has its
// outcome on disk, or a row among the deferrals.
type load struct {
	worker  *Worker
	flights []*flight

	mu     sync.Mutex
	left   int
	err    error // of a flight that must be given back
	closed bool
	done   chan struct{}
}

// handle takes one message of tasks through: the Router acknowledges it if the error is nil, and hands it back if
// not. A message that comes again while it is in hand does not get here; see jetstream.Subscriber.
func (w *Worker) handle(msg *message.Message) error {
	meta, _ := jetstream.Meta(msg)
	tasks, err := unpack[Task](w.codec, msg.Payload)
	if err != nil {
		return w.quarantine(meta, err, msg.Payload)
	}
	flights := w.board(tasks)
	weight := int64(min(len(flights), w.cfg.maxTargets()))
	if err := w.targets.Acquire(w.draining, weight); err != nil {
		return errStopping
	}
	defer w.targets.Release(weight)
	if flights, err = w.unknown(tasks, flights, meta.Suspect); err != nil {
		return err
	}
	if err := w.catchUpWith(tasks); err != nil {
		return err
	}
	return w.take(flights)
}

// board makes the flights of tasks.
func (w *Worker) board(tasks []Task) []*flight {
	n := 0
	for i := range tasks {
		n += len(tasks[i].Targets)
	}
	room := make([]flight, n)
	flights := make([]*flight, 0, n)
	epoch := w.pulse.now()
	for i := range tasks {
		e := &tasks[i].Event
		bodies := new(Bodies)
		for _, t := range tasks[i].Targets {
			f := &room[len(flights)]
			*f = flight{
				delivery: ID(e.UID, t.Subscription, t.Generation, e.AcceptedAt),
				tenant:   e.Tenant, eventUID: e.UID, eventID: e.ID, eventType: e.Type, seq: e.Seq,
				subscription: t.Subscription, generation: t.Generation, test: e.Test, created: e.AcceptedAt,
				event: e, bodies: bodies, epoch: epoch,
			}
			flights = append(flights, f)
		}
	}
	return flights
}

// unknown leaves out the flights of suspect tasks that the ledger knows.
func (w *Worker) unknown(tasks []Task, flights []*flight, all bool) ([]*flight, error) {
	var suspects []uuid.UUID
	i := 0
	for t := range tasks {
		for range tasks[t].Targets {
			if all || tasks[t].Suspect {
				suspects = append(suspects, flights[i].delivery)
			}
			i++
		}
	}
	if len(suspects) == 0 {
		return flights, nil
	}
	known, err := w.suspects.known(w.draining, suspects)
	if err != nil {
		return nil, err
	}
	fresh := flights[:0]
	for _, f := range flights {
		if !known[f.delivery] {
			fresh = append(fresh, f)
		}
	}
	w.metrics.skipped.Add(float64(len(flights) - len(fresh)))
	return fresh, nil
}

// catchUpWith waits until the directory knows the subscriptions as well as those did who matched the tasks.
func (w *Worker) catchUpWith(tasks []Task) error {
	revision := tasks[0].Revision
	for i := range tasks {
		revision = max(revision, tasks[i].Revision)
	}
	return w.patiently("learn of subscriptions", func(ctx context.Context) error {
		return w.directory.AtLeast(ctx, revision)
	})
}

// patiently repeats what fails because Postgres or NATS is away, until it succeeds or the worker stops. The
// message stays in progress meanwhile, which is better than to hand it to somebody who cannot do it either.
func (w *Worker) patiently(what string, do func(context.Context) error) error {
	for wait := 50 * time.Millisecond; ; wait = min(2*wait, 2*time.Second) {
		err := do(w.draining)
		if err == nil {
			return nil
		}
		if w.draining.Err() != nil {
			return errStopping
		}
		w.trouble.note("waiting to "+what, err)
		select {
		case <-time.After(wait):
		case <-w.draining.Done():
			return errStopping
		}
	}
}

// take flies flights and waits for them. What takes longer than Config.HandOff is handed off.
func (w *Worker) take(flights []*flight) error {
	if len(flights) == 0 {
		return nil
	}
	l := &load{worker: w, flights: flights, left: len(flights), done: make(chan struct{})}
	for _, f := range flights {
		w.flights.Go(func() { l.fly(f) })
	}
	timer := time.NewTimer(w.cfg.HandOff)
	defer timer.Stop()
	for {
		select {
		case <-l.done:
			return l.err
		case <-timer.C:
			l.handOff()
			timer.Reset(w.cfg.HandOff)
		case <-w.abandoned.Done():
			return errStopping
		}
	}
}

// fly takes one flight to its record on disk.
func (l *load) fly(f *flight) {
	w := l.worker
	s, r, err := w.checkIn(f)
	if s != nil {
		r, err = w.fly(f, s)
	}
	step, was := f.land()
	var full noRoom
	waitedFor := was == flying || was == handing
	if errors.As(err, &full) && waitedFor {
		r, err = f.record(OutcomeLater, ReasonBusy, w.now().Add(full.wait)), nil
	}
	if err == nil && (was != lost || r.Attempt != nil) {
		r.Step = step
		err = w.write(r)
	}
	switch {
	case was == lost: // Somebody else has the row, and the task does not wait for it.
	case was == handed && err != nil:
		l.worker.giveBack(giveBackAfter(f, err))
	case waitedFor && err != nil:
		l.settle(1, fmt.Errorf("deliver %s: %w", f.delivery, err))
	case waitedFor:
		l.settle(1, nil)
	}
}

// settle notes that the task need not wait for n more of its flights.
func (l *load) settle(n int, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.left -= n
	if l.err == nil {
		l.err = err
	}
	if l.left == 0 && !l.closed {
		l.closed = true
		close(l.done)
	}
}
