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
	"github.com/fanfarehq/fanfare/internal/postgres"
)

const (
	// purgeEvery is the time between two turns, and purgeLooks how often the stream is looked at in one, a second apart,
	// while it has more than a quarter of what it may hold.
	purgeEvery = 5 * time.Second
	purgeLooks = 5
	// purgePatience bounds the wait for the recorder within one turn.
	purgePatience = 3 * time.Second
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

	since   time.Time // when the stream was created that the places are of
	settled uint64    // up to this place of the stream, events are settled
	next    *settling // the place that settles next
	dropped time.Time // when copies were looked for
}

// PurgerDeps are what a Purger works with.
type PurgerDeps struct {
	JetStream natsjs.JetStream
	DB        *sql.DB
	Keeper    *ledger.Keeper
	Metrics   prometheus.Registerer
	Logger    *slog.Logger
}

// settling is a place up to which all events were matched; they are settled once their tasks are.
type settling struct {
	seq   uint64
	tasks deliver.TasksPlace
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
	if most == 0 || info.State.Msgs == 0 || info.State.Bytes <= most/4 {
		return false, nil
	}
	if err := p.follow(ctx); err != nil {
		return false, fmt.Errorf("look which events are settled: %w", err)
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

// follow moves the settled place on, as far as tasks and recorders have come since it was called last.
func (p *Purger) follow(ctx context.Context) error {
	floor, err := Floor(p.JetStream)(ctx)
	if err != nil {
		return err
	}
	end, err := deliver.TasksEnd(ctx, p.JetStream) // After the floor: the tasks of all events up to there are on disk.
	if err != nil {
		return err
	}
	if !floor.Since.Equal(p.since) || floor.Seq < p.settled || p.next != nil && end.Before(p.next.tasks) {
		// A stream was made again or restored from an older state: places of before mean nothing there.
		p.since, p.settled, p.next = floor.Since, 0, nil
	}
	if p.next != nil {
		if done, err := p.done(ctx); err != nil || !done {
			return err
		}
		p.settled = p.next.seq
	}
	p.next = &settling{floor.Seq, end}
	return nil
}

// done reports whether the next place is settled.
func (p *Purger) done(ctx context.Context) (bool, error) {
	done, err := deliver.TasksDone(ctx, p.JetStream, p.next.tasks)
	if err != nil || !done {
		return false, err
	}
	wait, cancel := context.WithTimeout(ctx, purgePatience)
	defer cancel()
	err = ledger.CaughtUp(wait, p.JetStream)
	if errors.Is(err, context.DeadlineExceeded) && ctx.Err() == nil {
		return false, nil // The recorder is behind: the next look asks again.
	}
	return err == nil, err
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
	messages, err := jetstreamext.GetBatch(ctx, p.JetStream, Stream, 1, jetstreamext.GetBatchSeq(seq+1))
	if err != nil {
		return time.Time{}, err
	}
	for raw, err := range messages {
		if errors.Is(err, jetstreamext.ErrNoMessages) {
			break
		}
		if err != nil {
			return time.Time{}, err
		}
		return raw.Time, nil
	}
	return time.Now(), nil
}
