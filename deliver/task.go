package deliver

import (
	"context"
	"slices"
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
	return w.flyAll(ctx, flights)
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
