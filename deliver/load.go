package deliver

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/fanfarehq/fanfare/deliver/outcome"
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

// flyAll flies flights and waits for them. What takes longer than Config.HandOff is handed off.
func (w *Worker) flyAll(ctx context.Context, flights []*flight) error {
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
			l.write(ctx, l.takeLanded())
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
		l.carry(ctx, f, may)
	})
}

// carry takes one flight to its record, and notes that the message need not wait for it.
func (l *load) carry(ctx context.Context, f *flight, may bool) {
	w := l.worker
	var r *outcome.Record
	err := errStopping
	if may {
		r, err = w.guarded(ctx, f, func() (*outcome.Record, error) { return w.through(ctx, f) })
	}
	step, was := f.course.land()
	waitedFor := was.awaited()
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
		l.submit(ctx, landing{flight: f, record: r, was: was})
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

// submit leaves a record to the handler of the message, or writes it if that has returned.
func (l *load) submit(ctx context.Context, x landing) {
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

// takeLanded returns the flights that landed since it was last called.
func (l *load) takeLanded() []landing {
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
	for _, x := range list {
		l.finish(ctx, x, err)
	}
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
	l.finish(ctx, x, err)
}

// finish notes that a record was written, or why not: then a flight that was handed off gives its lease back.
func (l *load) finish(ctx context.Context, x landing, err error) {
	switch {
	case x.was.awaited():
		l.settle(1, err)
	case x.was == handed && err != nil:
		l.worker.giveBack(ctx, giveBackAfter(x.flight, err))
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

// leave returns the message while some of its flights are still under way: those write for themselves from now on.
func (l *load) leave(ctx context.Context) {
	l.mu.Lock()
	l.nobody = true
	list := l.landed
	l.landed = nil
	l.mu.Unlock()
	l.write(ctx, list)
}
