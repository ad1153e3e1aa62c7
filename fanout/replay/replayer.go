package replay

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"time"

	"github.com/google/uuid"
	natsjs "github.com/nats-io/nats.go/jetstream"

	"github.com/fanfarehq/fanfare/deliver/ledger"
	"github.com/fanfarehq/fanfare/fanout"
	"github.com/fanfarehq/fanfare/internal/event"
	"github.com/fanfarehq/fanfare/internal/survive"
	"github.com/fanfarehq/fanfare/internal/trouble"
	"github.com/fanfarehq/fanfare/subscriptions"
)

const (
	// replaysAtOnce is how many replays one process works on.
	replaysAtOnce = 8
	replayPoll    = time.Second
	// replayLinger is how long after its last delivery was due a replay ends although some wait for their endpoint; until then it looks
	// every replayEndPoll whether all were sent.
	replayLinger  = 5 * time.Second
	replayEndPoll = 100 * time.Millisecond
	// replayAhead is how long before a delivery is due its row is written: a paused or cancelled replay stops
	// within this time.
	replayAhead = time.Second
	// A step looks at so many events or dead letters at most, and at those of a fortieth of a second, or at stretchLeast:
	// what it asks of Postgres and the stream is done within milliseconds, and live events go in between.
	countMost    = 200
	stretchMost  = 500
	stretchLeast = 20
	// backlogLeast is how many deliveries may wait for a subscription before its replay waits as well.
	backlogLeast = 1000
)

// Deps are what a Replayer works with.
type Deps struct {
	DB        *sql.DB
	Reader    *fanout.Reader
	Bytes     fanout.Bytes
	Directory *subscriptions.Directory
	JetStream natsjs.JetStream
	Logger    *slog.Logger
	// Remember is told of each event that is to be sent, so that a worker of this process need not read it once more; nil:
	// none is there.
	Remember func(*event.Event)
}

// Replayer sends the past again, as replays ask for. Any number may run: each replay is leased by one.
type Replayer struct {
	Deps
	store   *replayStore
	again   *ledger.Repeater
	worker  string
	trouble *trouble.Log
}

// NewReplayer makes a Replayer; Run starts it.
func NewReplayer(deps Deps) *Replayer {
	host, err := os.Hostname()
	if err != nil {
		host = "replayer"
	}
	return &Replayer{
		Deps: deps, store: newReplayStore(deps.DB), again: ledger.NewRepeater(deps.DB), worker: host + "-" + uuid.NewString(),
		trouble: trouble.New(deps.Logger),
	}
}

// Run works on replays until ctx ends; the next process that asks continues them. While Postgres or the
// broker is away replays wait.
func (r *Replayer) Run(ctx context.Context) error {
	var working sync.WaitGroup
	room := make(chan struct{}, replaysAtOnce)
	tick := time.NewTicker(replayPoll)
	defer tick.Stop()
	for ctx.Err() == nil {
		r.takeBack(ctx)
		ids, err := r.store.claim(ctx, r.worker, cap(room)-len(room))
		if err != nil && ctx.Err() == nil {
			r.trouble.Note("replays wait", err)
		}
		for _, id := range ids {
			room <- struct{}{}
			working.Go(func() {
				defer func() { <-room }()
				r.work(ctx, id)
			})
		}
		select {
		case <-ctx.Done():
		case <-tick.C:
		}
	}
	working.Wait()
	release, cancel := context.WithTimeout(context.WithoutCancel(ctx), 3*time.Second)
	defer cancel()
	if err := r.store.release(release, r.worker); err != nil {
		r.Logger.WarnContext(ctx, "replays wait until their leases end", "error", err)
	}
	return nil
}

// takeBack recalls what workers gave back of replays that were stopped.
func (r *Replayer) takeBack(ctx context.Context) {
	ids, err := r.store.stopped(ctx)
	for _, id := range ids {
		if err == nil {
			err = r.store.sweep(ctx, id)
		}
	}
	if err != nil && ctx.Err() == nil {
		r.trouble.Note("cannot recall deliveries of stopped replays", err)
	}
}

// work takes steps of one replay until it ends, is taken away, or ctx ends.
func (r *Replayer) work(ctx context.Context, id uuid.UUID) {
	at := &course{Settling: fanout.NewSettling(r.JetStream)}
	for trouble := false; ctx.Err() == nil; {
		begun := time.Now()
		var wait time.Duration
		err := survive.Do(func() (err error) {
			wait, err = r.step(ctx, id, at)
			return err
		})
		if errors.Is(err, errNotMine) {
			return
		}
		if err != nil {
			if !trouble && ctx.Err() == nil {
				r.Logger.WarnContext(ctx, "replay waits", "replay", id, "error", err)
			}
			wait, at.replay = replayPoll, nil
		}
		trouble = err != nil
		if wait = pauseAfter(at.counting(), wait, time.Since(begun)); wait <= 0 {
			continue
		}
		select {
		case <-ctx.Done():
		case <-time.After(wait):
		}
	}
}

// step counts or sends one stretch and returns how long to wait.
func (r *Replayer) step(ctx context.Context, id uuid.UUID, at *course) (time.Duration, error) {
	p, err := r.hold(ctx, id, at)
	if err != nil {
		return 0, err
	}
	if _, err := r.Directory.Fresh(ctx); err != nil {
		return 0, err
	}
	if p.kind != kindReplay {
		return r.jobStep(ctx, p, at)
	}
	var sub *subscriptions.Subscription
	if p.subscription.Valid {
		var ok bool
		if sub, ok = r.Directory.Get(p.subscription.UUID); !ok || sub.Tenant != p.tenant || sub.Status == subscriptions.Disabled {
			err := r.store.end(ctx, p, r.worker) // Nobody is there to receive it.
			r.ended(ctx, p, err)
			return 0, err
		}
	}
	if p.only == ledger.OnlyMissing && !p.lastSeq.Valid {
		if over, err := at.Over(ctx); err != nil || !over {
			return fanout.SettlePoll, err
		}
		at.replay = nil
		return 0, r.store.settle(ctx, p, r.worker, at.Settling)
	}
	if p.state == replayRunning && sub != nil && p.place != uuid.Max {
		if crowded, err := r.crowded(ctx, at); err != nil || crowded {
			return replayPoll, err
		}
	}
	of, err := r.stretch(ctx, p, sub)
	if err != nil {
		return 0, err
	}
	if err := r.putInOrder(ctx, of.list); err != nil {
		return 0, err
	}
	wait, err := r.write(ctx, p, of)
	if of.last && (p.dryRun || p.state == replayRunning) {
		r.ended(ctx, p, err)
	}
	if p.place = of.place; of.last {
		at.replay = nil
		if p.state == replayRunning {
			wait = replayEndPoll
		}
	}
	return wait, err
}

// ended logs the end of a replay as it was written, if it was.
func (r *Replayer) ended(ctx context.Context, p *replay, failed error) {
	if failed != nil {
		return
	}
	last, err := r.store.get(ctx, p.id, p.tenant)
	if err == nil && (last.state == replayDone || last.state == replayCancelled) { // Else nobody is there to ask, and the next trouble is logged.
		last.tell(r.Logger)
	}
}

// write counts or sends a stretch and returns how long to wait.
func (r *Replayer) write(ctx context.Context, p *replay, of stretch) (time.Duration, error) {
	if p.state == replayCounting {
		n, err := r.tally(ctx, p, of)
		if err != nil {
			return 0, err
		}
		return 0, r.store.count(ctx, p, r.worker, of, n)
	}
	wait, err := r.store.send(ctx, p, r.worker, of, r.again)
	return min(wait-replayAhead, replayPoll), err
}

// tally counts the deliveries of a stretch, and those that cannot be made.
func (r *Replayer) tally(ctx context.Context, p *replay, of stretch) (n tally, err error) {
	if n.matched, err = r.again.Count(ctx, p.only, of.list); err != nil || len(of.gone) == 0 {
		return n, err
	}
	n.unreachable, err = r.again.Count(ctx, p.only, of.gone)
	return n, err
}

// putInOrder gives those deliveries of a replay their key whose subscriptions ask for an order.
func (r *Replayer) putInOrder(ctx context.Context, list []ledger.Again) error {
	for i := range list {
		a := &list[i]
		sub, ok := r.Directory.Get(a.Subscription)
		if !ok || sub.Ordering == nil {
			continue
		}
		e, err := fanout.ReadEvent(ctx, r.Reader, r.Bytes, fanout.Recorded{UID: a.EventUID, Seq: a.Seq})
		if errors.Is(err, event.ErrGone) {
			continue
		}
		if err != nil {
			return fmt.Errorf("read event %s: %w", a.EventID, err)
		}
		if key, ok := r.Directory.OrderingKey(e, sub); ok {
			a.Order = uuid.NullUUID{UUID: ledger.OrderKey(key), Valid: true}
		}
	}
	return nil
}
