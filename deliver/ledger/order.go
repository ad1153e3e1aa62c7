package ledger

import (
	"context"
	"crypto/sha256"
	"database/sql"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/google/uuid"

	"github.com/fanfarehq/fanfare/internal/event"
	"github.com/fanfarehq/fanfare/internal/group"
)

// Turns make the deliveries of one key go one after the other, in the order in which their events were accepted: their
// places in the stream of events. Only subscriptions that ask for an order have any part in this.
//
// Fan-out writes such a delivery as a deferral that waits for its turn, rather than into a task. It gets its turn, and
// from then on is a deferral like any other, when nothing before it is left among the deferrals of its key and nothing
// before it can come any more: fan-out handles many events at a time, so a later one may be written first. It keeps
// its turn until it has ended, whatever it waits for: a retry, a limit, a pause, a lease that lapsed.
//
// Turns are given by the recorder when it has written an end, and by a loop in each worker: to those whose events have
// just been passed by fan-out, and now and then to all that were left over. All give them under one lock, so that a
// key never has two.
type Turns struct {
	ledger *Ledger
	ask    func(context.Context) (Floor, error)
	Floor  atomic.Pointer[Floor] // the last that was heard of
	queue  *group.Committer[*queued]
	Given  chan struct{} // holds one when turns were given
}

// Floor says how far fan-out has come.
type Floor struct {
	// Seq is the place in the stream of events up to which every event was fanned out.
	Seq uint64
	// Since is when that stream was made; events of one before it have all been fanned out.
	Since time.Time
}

// TurnsDeps are what Turns work with.
type TurnsDeps struct {
	DB *sql.DB
	// Floor asks how far fan-out has come. It is fan-out's to give: the place in the stream of events is its own.
	Floor func(context.Context) (Floor, error)
}

// NewTurns makes Turns.
func NewTurns(deps TurnsDeps) *Turns {
	t := &Turns{ledger: New(deps.DB), ask: deps.Floor, Given: make(chan struct{}, 1)}
	t.Floor.Store(&Floor{})
	t.queue = group.New(group.Limits{Count: 1000, Timeout: 20 * time.Second}, nil, t.write)
	return t
}

// Turn is the delivery of an event to a subscription in the order of a key.
type Turn struct {
	Subscription uuid.UUID
	Key          string
}

// OrderKey is what the ledger knows a key by.
func OrderKey(key string) (id uuid.UUID) {
	sum := sha256.Sum256([]byte(key))
	copy(id[:], sum[:])
	return id
}

// Queue writes deliveries of an event that wait for their turn. It returns once they are in the ledger, and may be
// repeated: a delivery that is there or has ended stays as it is.
func (t *Turns) Queue(ctx context.Context, e *event.Event, turns []Turn) error {
	q := &queued{event: e, turns: turns}
	err := t.queue.Do(ctx, q)
	if err == nil {
		err = q.err
	}
	if err != nil {
		return fmt.Errorf("queue event %s: %w", e.ID, err)
	}
	return nil
}

// queued is what one caller has to write.
type queued struct {
	event *event.Event
	turns []Turn
	err   error // of this event alone
}

// Write writes a group. Should one event be at fault, it alone fails.
func (t *Turns) write(ctx context.Context, list []*queued) error {
	write := func(list []*queued) error { return t.ledger.queue(ctx, list) }
	return group.Apart(list, write, Refused, func(q *queued, err error) error {
		q.err = err
		return nil
	})
}

// Place is a key of a subscription.
type Place struct{ Subscription, Key uuid.UUID }

// floorTimeout bounds one question of how far fan-out has come.
const floorTimeout = 5 * time.Second

// refresh asks how far fan-out has come.
func (t *Turns) refresh(ctx context.Context) (Floor, error) {
	ctx, cancel := context.WithTimeout(ctx, floorTimeout)
	defer cancel()
	f, err := t.ask(ctx)
	if err != nil {
		return f, fmt.Errorf("ask how far fan-out has come: %w", err)
	}
	t.Floor.Store(&f)
	return f, nil
}

// pass gives turns to those that are next at places where one has ended. It is called after that was committed: so
// what it does not see was written later, and will be found by who sees fan-out pass it.
func (t *Turns) pass(ctx context.Context, places []Place) error {
	if len(places) == 0 {
		return nil
	}
	floor := *t.Floor.Load()
	early, err := t.give(ctx, places, floor)
	if err != nil || early == 0 {
		return err
	}
	fresh, err := t.refresh(ctx)
	if err != nil || fresh == floor {
		return err
	}
	_, err = t.give(ctx, places, fresh)
	return err
}

// give gives turns at places, and returns at how many the next one is not yet passed by fan-out.
func (t *Turns) give(ctx context.Context, places []Place, floor Floor) (early int, err error) {
	given, early, err := t.ledger.GiveTurns(ctx, places, floor)
	if given > 0 {
		select {
		case t.Given <- struct{}{}:
		default:
		}
	}
	return early, err
}
