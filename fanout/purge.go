package fanout

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"
	"time"

	natsjs "github.com/nats-io/nats.go/jetstream"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/synadia-io/orbit.go/jetstreamext"

	"github.com/fanfarehq/fanfare/deliver"
	"github.com/fanfarehq/fanfare/deliver/ledger"
	"github.com/fanfarehq/fanfare/internal/event"
	"github.com/fanfarehq/fanfare/internal/jetstream"
	"github.com/fanfarehq/fanfare/internal/postgres"
)

const (
	// purgeEvery is the time between two turns, and purgeLooks how often the stream is looked at in one, a second apart,
	// while it has more than a quarter of what it may hold.
	purgeEvery = 5 * time.Second
	purgeLooks = 5
	// marksKept bounds the places that are to settle.
	marksKept = 512
	// dropEvery is how often copies are looked for that nothing needs any more.
	dropEvery = 10 * time.Minute
)

// purgeFrom is the bound of settled events: half of what the stream may hold. The other half is for events that wait while
// a receiver, Postgres or the workers are away.
func purgeFrom(maxBytes uint64) uint64 { return maxBytes / 2 }

// purgeUnaudited is where settled events are removed even if the reconciler has not looked at them: room for new events
// comes first.
func purgeUnaudited(maxBytes uint64) uint64 { return maxBytes / 4 * 3 }

// Purger removes settled events from the stream, oldest first, so that there is always room for new events. An event is
// settled once each of its deliveries has ended or is pending in Postgres; the events of pending ones are copied to
// Postgres first. Any number may run; one at a time works.
type Purger struct {
	PurgerDeps
	purged, copied prometheus.Counter

	since    time.Time  // when the stream was created that the places are of
	broker   string     // that has the tasks of the places
	settled  uint64     // up to this place of the stream, events are settled
	told     uint64     // the settled place that Recovery knows of
	marks    []settling // places that settle next, in their order
	outcomes uint64     // the end of outcomes when it was looked at last
	dropped  time.Time  // when copies were looked for
}

// PurgerDeps are what a Purger works with.
type PurgerDeps struct {
	JetStream natsjs.JetStream
	DB        *sql.DB
	Keeper    *ledger.Keeper
	Recovery  Recovery // nil: the broker loses nothing
	Metrics   prometheus.Registerer
	Logger    *slog.Logger
}

// Recovery sends again what a broker lost when it died; *audit.Recovery is one.
type Recovery interface {
	// Broker names the process of the broker; it is empty where none loses anything.
	Broker() string
	// Recovered reports whether all that was lost before this broker started has been sent again.
	Recovered(broker string) bool
	// Settled notes that the events that were accepted up to a time are settled: no broker can lose their deliveries.
	Settled(ctx context.Context, until time.Time) error
}

// settling is a place up to which all events were matched. They are settled once their tasks are done, and then the outcomes
// of those tasks are recorded.
type settling struct {
	seq      uint64
	tasks    deliver.TasksPlace // the end of tasks when events were matched up to here
	done     bool               // all of those are
	outcomes uint64             // the end of outcomes then
}

// NewPurger makes a Purger; Run starts it.
func NewPurger(deps PurgerDeps) *Purger {
	counter := func(name, help string) prometheus.Counter {
		c := prometheus.NewCounter(prometheus.CounterOpts{Name: "fanfare_" + name, Help: help})
		deps.Metrics.MustRegister(c)
		return c
	}
	return &Purger{
		PurgerDeps: deps,
		purged:     counter("events_purged_total", "Settled events that this process removed from the stream to make room."),
		copied:     counter("events_copied_total", "Events that this process copied to Postgres for pending deliveries before removing them."),
	}
}

// Run purges until ctx ends. While Postgres or NATS is away nothing is purged.
func (p *Purger) Run(ctx context.Context) error {
	return postgres.RunChore(ctx, p.DB, p.Logger, postgres.Chore{Name: "purge", Every: purgeEvery,
		Do: func(ctx context.Context, place time.Time) (time.Time, error) { return place, p.turn(ctx) }})
}

// turn purges for a while if there is much in the stream, and drops copies if it is time to.
func (p *Purger) turn(ctx context.Context) error {
	for range purgeLooks {
		begun := time.Now()
		busy, err := p.Purge(ctx)
		if err != nil {
			return err
		}
		if !busy || rest(ctx, time.Until(begun.Add(time.Second))) != nil {
			break
		}
	}
	if time.Since(p.dropped) < dropEvery {
		return nil
	}
	p.dropped = time.Now()
	_, err := p.Keeper.Drop(ctx)
	return err
}

// Purge removes settled events beyond the bound, and reports whether the stream has so much that it should be called again soon.
// What becomes settled meanwhile is left to the next call.
func (p *Purger) Purge(ctx context.Context) (busy bool, err error) {
	stream, err := p.JetStream.Stream(ctx, Stream)
	if err != nil {
		return false, fmt.Errorf("look at stream %s: %w", Stream, err)
	}
	info := stream.CachedInfo()
	most := uint64(max(info.Config.MaxBytes, 0))
	if err := p.follow(ctx); err != nil {
		return false, fmt.Errorf("look which events are settled: %w", err)
	}
	if err := p.tell(ctx, stream); err != nil {
		return false, err
	}
	if most == 0 || info.State.Msgs == 0 || info.State.Bytes <= most/4 {
		return false, nil
	}
	if info.State.Bytes <= purgeFrom(most) {
		return true, nil
	}
	if err := p.removeSettled(ctx, stream); err != nil {
		return false, fmt.Errorf("purge settled events: %w", err)
	}
	return true, nil
}

func (p *Purger) removeSettled(ctx context.Context, stream natsjs.Stream) error {
	info := stream.CachedInfo()
	state, most := info.State, uint64(info.Config.MaxBytes)
	excess := float64(state.Bytes-purgeFrom(most)) / float64(state.Bytes)
	last := state.FirstSeq + uint64(excess*float64(state.LastSeq-state.FirstSeq))
	last = min(last, p.settled)
	if state.Bytes < purgeUnaudited(most) {
		audited, err := p.audited(ctx)
		if err != nil {
			return err
		}
		last = min(last, audited)
	}
	if last < state.FirstSeq {
		return nil
	}
	until, err := p.acceptedAfter(ctx, last)
	if err != nil {
		return err
	}
	copied, err := p.Keeper.Keep(ctx, ledger.Stretch{Last: last, From: state.FirstTime, To: until})
	p.copied.Add(float64(copied))
	if err != nil {
		return err
	}
	if err := stream.Purge(ctx, natsjs.WithPurgeSequence(last+1)); err != nil {
		return err
	}
	p.purged.Add(float64(last + 1 - state.FirstSeq))
	return nil
}

// tell notes the settled place, by the time of its event, for a later recovery. An event that is gone is passed over.
func (p *Purger) tell(ctx context.Context, stream natsjs.Stream) error {
	if p.Recovery == nil || p.settled == 0 || p.settled == p.told {
		return nil
	}
	raw, err := stream.GetMsg(ctx, p.settled)
	if errors.Is(err, natsjs.ErrMsgNotFound) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("read the last settled event: %w", err)
	}
	if err := p.Recovery.Settled(ctx, raw.Time); err != nil {
		return err
	}
	p.told = p.settled
	return nil
}

// sameBroker reports whether the tasks and outcomes that were seen are still there, so that places may settle. A broker that
// died may have lost tasks: until they are sent again, it only seems that all tasks are done.
func (p *Purger) sameBroker() bool {
	if p.Recovery == nil {
		return true
	}
	broker := p.Recovery.Broker()
	if broker != p.broker {
		p.broker, p.marks = broker, nil
	}
	return p.Recovery.Recovered(broker)
}

// follow moves the settled place on, as far as tasks and recorders have come.
func (p *Purger) follow(ctx context.Context) error {
	if !p.sameBroker() {
		return nil
	}
	floor, err := Floor(p.JetStream)(ctx)
	if err != nil {
		return err
	}
	// After the floor, so that the tasks of all events up to there are on disk; and outcomes after acknowledged tasks.
	end, done, err := deliver.TasksPlaces(ctx, p.JetStream)
	if err != nil {
		return err
	}
	outcomes, recorded, err := ledger.Recorded(ctx, p.JetStream)
	if err != nil {
		return err
	}
	n := len(p.marks)
	if !floor.Since.Equal(p.since) || floor.Seq < p.settled || n > 0 && end.Before(p.marks[n-1].tasks) || outcomes < p.outcomes {
		// A stream was made again or restored from an older state: places of before mean nothing there.
		p.since, p.settled, p.marks = floor.Since, 0, nil
	}
	p.outcomes = outcomes
	if !p.sameBroker() { // It died while it was asked.
		return nil
	}
	for i := range p.marks {
		m := &p.marks[i]
		if !m.done && !done.Before(m.tasks) {
			m.done, m.outcomes = true, outcomes
		}
	}
	for len(p.marks) > 0 && p.marks[0].done && p.marks[0].outcomes <= recorded {
		p.settled, p.marks = p.marks[0].seq, p.marks[1:]
	}
	p.mark(settling{seq: floor.Seq, tasks: end})
	return nil
}

// mark adds a place that settles next. If there are too many, every other is dropped: then places settle in larger steps.
func (p *Purger) mark(m settling) {
	if len(p.marks) >= marksKept {
		kept := p.marks[:0:0]
		for i := 1; i < len(p.marks); i += 2 {
			kept = append(kept, p.marks[i])
		}
		p.marks = kept
	}
	p.marks = append(p.marks, m)
}

// audited returns a place up to which the reconciler has looked at all events; until then, it may send missing tasks.
func (p *Purger) audited(ctx context.Context) (seq uint64, err error) {
	var place sql.NullTime
	err = p.DB.QueryRowContext(ctx, `SELECT place FROM chores WHERE name = 'reconcile'`).Scan(&place)
	if errors.Is(err, sql.ErrNoRows) || err == nil && !place.Valid {
		return 0, nil
	}
	if err != nil {
		return 0, fmt.Errorf("ask how far events are audited: %w", err)
	}
	err = p.DB.QueryRowContext(ctx, `SELECT seq FROM events WHERE uid < $1 ORDER BY uid DESC LIMIT 1`, event.FirstUID(place.Time)).Scan(&seq)
	if err != nil && !errors.Is(err, sql.ErrNoRows) {
		return 0, fmt.Errorf("ask which event was audited last: %w", err)
	}
	return seq, nil
}

// acceptedAfter returns when the first event after a place was accepted; now, if there is none.
func (p *Purger) acceptedAfter(ctx context.Context, seq uint64) (time.Time, error) {
	for raw, err := range jetstream.Stored(ctx, p.JetStream, Stream, 1, jetstreamext.GetBatchSeq(seq+1)) {
		if err != nil {
			return time.Time{}, err
		}
		return raw.Time, nil
	}
	return time.Now(), nil
}
