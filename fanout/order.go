package fanout

import (
	"context"
	"fmt"

	natsjs "github.com/nats-io/nats.go/jetstream"

	"github.com/fanfarehq/fanfare/deliver"
	"github.com/fanfarehq/fanfare/deliver/ledger"
	"github.com/fanfarehq/fanfare/internal/event"
	"github.com/fanfarehq/fanfare/subscriptions"
)

// Queue takes deliveries that are made in the order of a key; *deliver.Turns is one.
type Queue interface {
	// Queue returns once they are in the ledger. It may be repeated.
	Queue(ctx context.Context, e *event.Event, turns []ledger.Turn) error
}

// Receivers are where an event goes.
type Receivers struct {
	Targets  []deliver.Target // by tasks
	Turns    []ledger.Turn    // in the order of a key
	Revision int64            // that a worker must know to know them
}

// Count returns how many deliveries the event makes.
func (r Receivers) Count() int { return len(r.Targets) + len(r.Turns) }

// ReceiversOf sorts them out. A test goes at once.
func ReceiversOf(e *event.Event, matched subscriptions.Received) Receivers {
	to := Receivers{Targets: make([]deliver.Target, len(matched.IDs)), Revision: matched.Revision}
	for i, id := range matched.IDs {
		to.Targets[i].Subscription = id
	}
	for _, o := range matched.Ordered {
		if e.Test {
			to.Targets = append(to.Targets, deliver.Target{Subscription: o.ID})
		} else {
			to.Turns = append(to.Turns, ledger.Turn{Subscription: o.ID, Key: o.Key})
		}
	}
	return to
}

// queue writes the deliveries that go in the order of a key. That is done before the event is acknowledged: a process that has
// passed its place in the stream knows that they are there.
func (j *job) queue(ctx context.Context, turns []ledger.Turn) error {
	if len(turns) == 0 {
		return nil
	}
	return j.persist(ctx, func(work context.Context) error { return j.order.Queue(work, j.event, turns) })
}

// Floor asks how far fan-out has come in the stream of events.
func Floor(js natsjs.JetStream) func(context.Context) (ledger.Floor, error) {
	return func(ctx context.Context) (ledger.Floor, error) {
		stream, err := js.Stream(ctx, Stream)
		if err != nil {
			return ledger.Floor{}, fmt.Errorf("look at stream %s: %w", Stream, err)
		}
		consumer, err := stream.Consumer(ctx, Durable)
		if err != nil {
			return ledger.Floor{}, fmt.Errorf("look at consumer %s: %w", Durable, err)
		}
		at := consumer.CachedInfo()
		floor := ledger.Floor{Seq: at.AckFloor.Stream, Since: stream.CachedInfo().Created}
		// What was deleted from the stream moves no floor until the next acknowledgement.
		if at.NumAckPending == 0 {
			floor.Seq = max(floor.Seq, at.Delivered.Stream)
		}
		return floor, nil
	}
}

// Behind asks how many events are in the stream that fan-out has not finished.
func Behind(js natsjs.JetStream) func(context.Context) (int, error) {
	return func(ctx context.Context) (int, error) {
		consumer, err := js.Consumer(ctx, Stream, Durable)
		if err != nil {
			return 0, fmt.Errorf("look at consumer %s: %w", Durable, err)
		}
		at := consumer.CachedInfo()
		return int(at.NumPending) + at.NumAckPending, nil
	}
}
