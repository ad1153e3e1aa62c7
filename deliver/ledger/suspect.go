package ledger

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"
	natsjs "github.com/nats-io/nats.go/jetstream"

	"github.com/fanfarehq/fanfare/internal/group"
)

// Suspects asks the ledger about deliveries that may have been made before: many tasks in one question.
type Suspects struct {
	group *group.Committer[*question]
}

type question struct {
	ids   []uuid.UUID
	known map[uuid.UUID]bool
}

// caughtUpEvery is how often the recorder's place is looked at, while it is behind.
const caughtUpEvery = 20 * time.Millisecond

// checkTimeout bounds one question, so that a recorder that is far behind does not keep a group for ever; it is
// asked again.
const checkTimeout = 30 * time.Second

// NewSuspects makes the Suspects of a ledger, which first waits until it has caught up with ATTEMPTS.
func NewSuspects(js natsjs.JetStream, l *Ledger) *Suspects {
	limits := group.Limits{Count: 256, Timeout: checkTimeout}
	return &Suspects{group: group.New(limits, nil, func(ctx context.Context, list []*question) error {
		var ids []uuid.UUID
		for _, q := range list {
			ids = append(ids, q.ids...)
		}
		// First the ledger must know all outcomes written until now: an outcome may be on its way to it.
		if err := caughtUp(ctx, js); err != nil {
			return err
		}
		known, err := l.known(ctx, ids)
		if err != nil {
			return err
		}
		for _, q := range list {
			q.known = known
		}
		return nil
	})}
}

// Known returns which of the deliveries the ledger has. It fails if NATS or Postgres is away.
func (s *Suspects) Known(ctx context.Context, ids []uuid.UUID) (map[uuid.UUID]bool, error) {
	q := &question{ids: ids}
	if err := s.group.Do(ctx, q); err != nil {
		return nil, fmt.Errorf("check %d suspect deliveries: %w", len(ids), err)
	}
	return q.known, nil
}

// CaughtUp returns once the ledger holds all outcomes that were on disk when it was called; it fails if that takes long.
func CaughtUp(ctx context.Context, js natsjs.JetStream) error {
	ctx, cancel := context.WithTimeout(ctx, checkTimeout)
	defer cancel()
	return caughtUp(ctx, js)
}

func caughtUp(ctx context.Context, js natsjs.JetStream) error {
	stream, err := look(ctx, func(ctx context.Context) (natsjs.Stream, error) { return js.Stream(ctx, Stream) })
	if err != nil {
		return fmt.Errorf("look at stream %s: %w", Stream, err)
	}
	last := stream.CachedInfo().State.LastSeq
	for {
		consumer, err := look(ctx, func(ctx context.Context) (natsjs.Consumer, error) { return stream.Consumer(ctx, Durable) })
		if err != nil {
			return fmt.Errorf("look at consumer %s: %w", Durable, err)
		}
		at := consumer.CachedInfo()
		// What was trimmed moves no floor that is not there yet, hence the second condition.
		if at.AckFloor.Stream >= last || at.NumPending == 0 && at.NumAckPending == 0 {
			return nil
		}
		select {
		case <-time.After(caughtUpEvery):
		case <-ctx.Done():
			return errors.Join(errBehind, context.Cause(ctx))
		}
	}
}

// lookTimeout bounds one question to the broker. One that is lost with its connection is never answered, so it is asked again.
const lookTimeout = 2 * time.Second

// look asks the broker until it answers, or ctx ends.
func look[T any](ctx context.Context, ask func(context.Context) (T, error)) (T, error) {
	for {
		once, cancel := context.WithTimeout(ctx, lookTimeout)
		answer, err := ask(once)
		unanswered := err != nil && once.Err() != nil
		cancel()
		if !unanswered || ctx.Err() != nil {
			return answer, err
		}
	}
}

// Recorded returns the end of all outcomes that are on disk, and the place up to which the ledger has all of them.
func Recorded(ctx context.Context, js natsjs.JetStream) (end, done uint64, err error) {
	stream, err := js.Stream(ctx, Stream)
	if err != nil {
		return 0, 0, fmt.Errorf("look at stream %s: %w", Stream, err)
	}
	consumer, err := stream.Consumer(ctx, Durable)
	if err != nil {
		return 0, 0, fmt.Errorf("look at consumer %s: %w", Durable, err)
	}
	end, at := stream.CachedInfo().State.LastSeq, consumer.CachedInfo()
	done = at.AckFloor.Stream
	if at.NumPending == 0 && at.NumAckPending == 0 {
		done = max(done, end) // Trimmed messages move no floor.
	}
	return end, done, nil
}

// errBehind says that outcomes wait for the ledger.
var errBehind = errors.New("the recorder is behind")
