package ledger

import (
	"context"
	"time"

	"github.com/fanfarehq/fanfare/deliver/outcome"
	"github.com/fanfarehq/fanfare/internal/tenantkeys"
	"github.com/fanfarehq/fanfare/internal/trouble"
)

// How turns are looked for.
const (
	turnsNear = 20 * time.Millisecond  // while deliveries wait for fan-out to pass their events
	turnsFar  = 200 * time.Millisecond // else: one question to an index that is empty
	// sweepEvery is how often every key is looked at, for what no end made go on: cancelled, erased, allowed by a
	// change of the subscription, or left by a recorder that was killed. Where that takes long it is done less often.
	sweepEvery = 3 * time.Second
	sweepShare = 20 // at most this part of the time
	turnsPage  = 1000
)

// TurnerDeps are what a Turner works with.
type TurnerDeps struct {
	Turns     *Turns
	Events    eventReader
	KeepAfter time.Duration    // how old an event is when its bytes are copied for deliveries that wait
	Keys      *tenantkeys.Keys // nil: they are copied in the clear
	Now       func() time.Time
	Metrics   *Metrics
	Trouble   *trouble.Log
}

// NewTurner makes a Turner; Run starts it.
func NewTurner(deps TurnerDeps) *Turner { return &Turner{TurnerDeps: deps} }

// turnsRetry is how long a turner waits after an error.
const turnsRetry = time.Second

// Turner gives turns until its context ends. Several may run.
type Turner struct {
	TurnerDeps
	done  uint64    // places in the stream of events up to which all waiting deliveries were looked at
	begun bool      // whether done says anything
	sweep time.Time // when to look at every key
	at    *Place    // where the sweep is; nil while there is none
	stops *Place    // where it is among the keys that stand still; nil once it has seen them all
	floor Floor     // of the sweep
	took  time.Duration
	near  time.Duration // until fan-out is asked again, how far it has come
	keep  time.Time     // when to look for events that are about to leave their stream
}

// Run gives turns until ctx ends. While Postgres or NATS is away they wait.
func (t *Turner) Run(ctx context.Context) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-timer.C:
		case <-ctx.Done():
			return
		}
		wait, err := t.step(ctx)
		if err != nil {
			if ctx.Err() == nil {
				t.Trouble.Note("deliveries wait for their turn", err)
			}
			wait = turnsRetry
		}
		timer.Reset(wait)
	}
}

// step gives the turns that are due and returns after how long to look again.
func (t *Turner) step(ctx context.Context) (time.Duration, error) {
	if err := t.sweepOn(ctx); err != nil {
		return 0, err
	}
	wait, err := t.first(ctx)
	if t.at != nil {
		wait = 0
	}
	return wait, err
}

// first gives turns to those whose events were just passed by fan-out, and are the first of their key.
func (t *Turner) first(ctx context.Context) (time.Duration, error) {
	l := t.Turns.ledger
	waiting, err := l.lastWaiting(ctx)
	if err != nil || waiting <= t.done {
		return turnsFar, err
	}
	before := *t.Turns.Floor.Load()
	floor, err := t.Turns.refresh(ctx)
	if err != nil {
		return 0, err
	}
	if floor == before {
		t.near = min(max(2*t.near, turnsNear), turnsFar) // It may stand still for long.
	} else {
		t.near = turnsNear
	}
	for t.done < floor.Seq {
		places, last, err := l.passedTurns(ctx, t.done, floor.Seq, turnsPage)
		if err != nil {
			return 0, err
		}
		if _, err := t.Turns.give(ctx, places, floor); err != nil {
			return 0, err
		}
		t.done = last
	}
	return t.near, nil
}

// sweepOn begins a sweep if it is time for one, and goes on with it by one page.
func (t *Turner) sweepOn(ctx context.Context) error {
	now := time.Now()
	if t.at == nil {
		if now.Before(t.sweep) {
			return nil
		}
		t.sweep = now.Add(max(sweepEvery, sweepShare*t.took))
		t.took = 0
		if some, err := t.beginSweep(ctx); err != nil || !some {
			return err
		}
	}
	if t.stops != nil {
		err := t.goOn(ctx)
		t.took += time.Since(now)
		return err
	}
	places, err := t.Turns.ledger.places(ctx, *t.at, turnsPage)
	if err != nil {
		return err
	}
	if _, err := t.Turns.give(ctx, places, t.floor); err != nil {
		return err
	}
	t.took += time.Since(now)
	if len(places) == turnsPage {
		t.at = &places[len(places)-1]
		return nil
	}
	t.at = nil
	return t.keepWaiting(ctx)
}

// beginSweep counts waiting deliveries and reports whether there are any.
func (t *Turner) beginSweep(ctx context.Context) (some bool, err error) {
	l := t.Turns.ledger
	waiting, stopped, err := l.countTurns(ctx)
	if err != nil {
		return false, err
	}
	t.Metrics.WaitingTurn.Set(float64(waiting))
	t.Metrics.Stopped.Set(float64(stopped))
	if waiting == 0 && stopped == 0 {
		return false, nil
	}
	if t.floor, err = t.Turns.refresh(ctx); err != nil {
		return false, err
	}
	// Whatever was passed before the first sweep is the sweep's. A place that lies behind is that of a stream which
	// was made anew, or of a broker that forgot some acknowledgements.
	if !t.begun || t.floor.Seq < t.done {
		t.done, t.begun = t.floor.Seq, true
	}
	t.at, t.stops = &Place{}, &Place{}
	return true, nil
}

// GoOn lets keys of the next page go on that need not stand still any more.
func (t *Turner) goOn(ctx context.Context) error {
	page, err := t.Turns.ledger.goOnKeys(ctx, *t.stops, turnsPage)
	if err != nil {
		return err
	}
	t.stops = nil
	if len(page) == turnsPage {
		t.stops = &page[len(page)-1]
	}
	return nil
}

// keepEvery is how often events are looked for that are about to leave their stream while deliveries of them wait.
const keepEvery = 10 * time.Minute

// keepWaiting copies the bytes of such events.
func (t *Turner) keepWaiting(ctx context.Context) error {
	if time.Now().Before(t.keep) {
		return nil
	}
	keeper := Keeper{ledger: t.Turns.ledger, events: t.Events, keys: t.Keys}
	before := outcome.FirstID(t.Now().Add(-t.KeepAfter))
	for {
		page, err := t.Turns.ledger.unkept(ctx, before, turnsPage)
		if err != nil {
			return err
		}
		n, err := keeper.copy(ctx, page)
		if err != nil {
			t.Trouble.Note("cannot keep events of deliveries that wait for their turn", err)
			return nil // They are looked for again with the next sweep; turns are given meanwhile.
		}
		if len(page) < turnsPage || n == 0 {
			break
		}
	}
	t.keep = time.Now().Add(keepEvery)
	return nil
}
