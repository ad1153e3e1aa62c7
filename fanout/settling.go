package fanout

import (
	"context"
	"errors"
	"fmt"
	"time"

	natsjs "github.com/nats-io/nats.go/jetstream"

	"github.com/fanfarehq/fanfare/deliver"
	"github.com/fanfarehq/fanfare/deliver/ledger"
)

const (
	// SettlePoll is how often the ledger is asked whether it has the accepted events.
	SettlePoll = 100 * time.Millisecond
	// settlePatience bounds one wait for the recorder, well below a replay's lease.
	settlePatience = 3 * time.Second
)

// Settling waits for the moment from which on the ledger tells what became of all that was accepted before it began.
// Whatever is stored later than the last event seen here is matched against subscriptions that are known as they are
// now. What is before went through fan-out, then through a worker, then through a recorder: each is waited for.
type Settling struct {
	js natsjs.JetStream

	seen   bool
	Events uint64    // the last event that was in the stream
	Until  time.Time // just after its acceptance

	matched bool               // all up to there are matched
	tasks   deliver.TasksPlace // the end of tasks then
}

// NewSettling makes one that has seen nothing yet.
func NewSettling(js natsjs.JetStream) *Settling { return &Settling{js: js} }

// Over reports whether the moment has come. It is asked again and again.
func (s *Settling) Over(ctx context.Context) (bool, error) {
	if !s.seen {
		stream, err := s.js.Stream(ctx, Stream)
		if err != nil {
			return false, fmt.Errorf("look at stream %s: %w", Stream, err)
		}
		state := stream.CachedInfo().State
		s.Events, s.Until, s.seen = state.LastSeq, state.LastTime.Add(time.Millisecond), true
	}
	if !s.matched {
		consumer, err := s.js.Consumer(ctx, Stream, Durable)
		if err != nil {
			return false, fmt.Errorf("look at consumer %s: %w", Durable, err)
		}
		at := consumer.CachedInfo()
		if at.AckFloor.Stream < s.Events && (at.NumPending > 0 || at.NumAckPending > 0) {
			return false, nil
		}
		if s.tasks, err = deliver.TasksEnd(ctx, s.js); err != nil {
			return false, err
		}
		s.matched = true
	}
	if done, err := deliver.TasksDone(ctx, s.js, s.tasks); err != nil || !done {
		return false, err
	}
	ctx, cancel := context.WithTimeout(ctx, settlePatience)
	defer cancel()
	err := ledger.CaughtUp(ctx, s.js)
	return err == nil, err
}

// errUnderWay says that deliveries of before are under way still.
var errUnderWay = errors.New("deliveries are under way")

// wait returns when it is over; errUnderWay if that takes longer than patience.
func (s *Settling) wait(ctx context.Context, patience time.Duration) error {
	ctx, cancel := context.WithTimeoutCause(ctx, patience, errUnderWay)
	defer cancel()
	for {
		over, err := s.Over(ctx)
		if over {
			return nil
		}
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if err != nil {
			return err
		}
		select {
		case <-time.After(SettlePoll):
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}
