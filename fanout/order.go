package fanout

import (
	"context"
	"errors"
	"fmt"

	"github.com/google/uuid"
	natsjs "github.com/nats-io/nats.go/jetstream"

	"github.com/fanfarehq/fanfare/deliver"
	"github.com/fanfarehq/fanfare/internal/event"
	"github.com/fanfarehq/fanfare/subscriptions"
)

// Queue takes deliveries that are made in the order of a key; *deliver.Turns is one.
type Queue interface {
	// Queue returns once they are in the ledger. It may be repeated.
	Queue(ctx context.Context, e *deliver.Event, turns []deliver.Turn) error
}

// receivers are where an event goes.
type receivers struct {
	targets  []deliver.Target // by tasks
	turns    []deliver.Turn   // in the order of a key
	revision int64            // that a worker must know to know them
}

func (r receivers) count() int { return len(r.targets) + len(r.turns) }

// receiversOf sorts them out. A test goes at once.
func receiversOf(e *Event, matched subscriptions.Received) receivers {
	to := receivers{targets: make([]deliver.Target, len(matched.IDs)), revision: matched.Revision}
	for i, id := range matched.IDs {
		to.targets[i].Subscription = id
	}
	for _, o := range matched.Ordered {
		if e.Test {
			to.targets = append(to.targets, deliver.Target{Subscription: o.ID})
		} else {
			to.turns = append(to.turns, deliver.Turn{Subscription: o.ID, Key: o.Key})
		}
	}
	return to
}

// queue writes the deliveries that go in the order of a key. That is done before the event is acknowledged: who has
// passed its place in the stream knows that they are there.
func (j *job) queue(turns []deliver.Turn) error {
	if len(turns) == 0 {
		return nil
	}
	return j.persist(j.patience, func(ctx context.Context) error { return j.order.Queue(ctx, j.event, turns) })
}

// Floor asks how far fan-out has come in the stream of events.
func Floor(js natsjs.JetStream) func(context.Context) (deliver.Floor, error) {
	return func(ctx context.Context) (deliver.Floor, error) {
		stream, err := js.Stream(ctx, Stream)
		if err != nil {
			return deliver.Floor{}, fmt.Errorf("look at stream %s: %w", Stream, err)
		}
		consumer, err := stream.Consumer(ctx, Durable)
		if err != nil {
			return deliver.Floor{}, fmt.Errorf("look at consumer %s: %w", Durable, err)
		}
		at := consumer.CachedInfo()
		floor := deliver.Floor{Seq: at.AckFloor.Stream, Since: stream.CachedInfo().Created}
		// What was deleted from the stream moves no floor until the next acknowledgement.
		if at.NumAckPending == 0 {
			floor.Seq = max(floor.Seq, at.Delivered.Stream)
		}
		return floor, nil
	}
}

// receivers sorts subscriptions out that an event goes to.
func (a *Auditor) receivers(e *Event, list []*subscriptions.Subscription, revision int64) receivers {
	matched := subscriptions.Received{Revision: revision}
	for _, sub := range list {
		if key, ok := a.Directory.OrderingKey(e, sub); ok {
			matched.Ordered = append(matched.Ordered, subscriptions.InOrder{ID: sub.ID, Key: key})
		} else {
			matched.IDs = append(matched.IDs, sub.ID)
		}
	}
	return receiversOf(e, matched)
}

// send sends what is missing; deliver skips what was made.
func (a *Auditor) send(ctx context.Context, e *Event, to receivers) error {
	if len(to.targets) > 0 {
		if err := a.Outbox.Send(ctx, tasks(e, to.targets, deliver.Task{Revision: to.revision, Suspect: true, Counted: true})...); err != nil {
			return err
		}
	}
	if len(to.turns) == 0 {
		return nil
	}
	return a.Order.Queue(ctx, e, to.turns)
}

// putInOrder gives those deliveries of a replay their key whose subscriptions ask for an order.
func (r *Replayer) putInOrder(ctx context.Context, list []deliver.Again) error {
	for i := range list {
		a := &list[i]
		sub, ok := r.Directory.Get(a.Subscription)
		if !ok || sub.Ordering == nil {
			continue
		}
		e, err := readEvent(ctx, r.Reader, r.Bytes, recorded{uid: a.EventUID, seq: a.Seq})
		if errors.Is(err, event.ErrGone) {
			continue
		}
		if err != nil {
			return fmt.Errorf("read event %s: %w", a.EventID, err)
		}
		if key, ok := r.Directory.OrderingKey(e, sub); ok {
			a.Order = uuid.NullUUID{UUID: deliver.OrderKey(key), Valid: true}
		}
	}
	return nil
}
