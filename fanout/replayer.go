package fanout

import (
	"context"
	"database/sql"
	"errors"
	"log/slog"
	"os"
	"sync"
	"time"

	"github.com/google/uuid"
	natsjs "github.com/nats-io/nats.go/jetstream"

	"github.com/fanfarehq/fanfare/deliver"
	"github.com/fanfarehq/fanfare/subscriptions"
)

const (
	// replaysAtOnce is how many replays one process works on.
	replaysAtOnce = 8
	replayPoll    = time.Second
	// replayAhead is how long before a delivery is due its row is written: what is paused or cancelled stops
	// within this time.
	replayAhead = time.Second
	// stretchMost is how many events or dead letters one step looks at.
	stretchMost = 500
	// backlogLeast is how many deliveries may wait for a subscription before its replay waits as well.
	backlogLeast = 1000
)

// ReplayerDeps are what a Replayer works with.
type ReplayerDeps struct {
	DB        *sql.DB
	Reader    *Reader
	Bytes     Bytes
	Directory *subscriptions.Directory
	JetStream natsjs.JetStream
	Books     *deliver.Books
	Logger    *slog.Logger
}

// Replayer sends the past again, as replays ask for. Any number may run: each replay is leased by one.
type Replayer struct {
	ReplayerDeps
	store  *replayStore
	again  *deliver.Repeater
	worker string
}

// NewReplayer makes a Replayer; Run starts it.
func NewReplayer(deps ReplayerDeps) *Replayer {
	host, err := os.Hostname()
	if err != nil {
		host = "replayer"
	}
	return &Replayer{
		ReplayerDeps: deps, store: newReplayStore(deps.DB), again: deliver.NewRepeater(deps.DB), worker: host + "-" + uuid.NewString(),
	}
}

// Run works on replays until ctx ends; what is not done is left to the next one who asks. While Postgres or the
// broker is away replays wait.
func (r *Replayer) Run(ctx context.Context) error {
	var working sync.WaitGroup
	room := make(chan struct{}, replaysAtOnce)
	tick := time.NewTicker(replayPoll)
	defer tick.Stop()
	for ctx.Err() == nil {
		ids, err := r.store.claim(ctx, r.worker, cap(room)-len(room))
		if err != nil && ctx.Err() == nil {
			r.Logger.WarnContext(ctx, "replays wait", "error", err)
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

// work takes steps of one replay until it ends, is taken away, or ctx ends.
func (r *Replayer) work(ctx context.Context, id uuid.UUID) {
	at := &settling{js: r.JetStream, books: r.Books}
	for trouble := false; ctx.Err() == nil; {
		wait, err := r.step(ctx, id, at)
		if errors.Is(err, errNotMine) {
			return
		}
		if err != nil {
			if !trouble && ctx.Err() == nil {
				r.Logger.WarnContext(ctx, "replay waits", "replay", id, "error", err)
			}
			wait = replayPoll
		}
		trouble = err != nil
		if wait <= 0 {
			continue
		}
		select {
		case <-ctx.Done():
		case <-time.After(wait):
		}
	}
}

// step counts or sends one stretch and returns how long to wait.
func (r *Replayer) step(ctx context.Context, id uuid.UUID, at *settling) (time.Duration, error) {
	p, err := r.store.renew(ctx, id, r.worker)
	if err != nil {
		return 0, err
	}
	if _, err := r.Directory.Fresh(ctx); err != nil {
		return 0, err
	}
	var sub *subscriptions.Subscription
	if p.subscription.Valid {
		var ok bool
		if sub, ok = r.Directory.Get(p.subscription.UUID); !ok || sub.Tenant != p.tenant || sub.Status == subscriptions.Disabled {
			return 0, r.store.end(ctx, p, r.worker) // Nobody is there to receive it.
		}
	}
	if p.only == deliver.OnlyMissing && !p.lastSeq.Valid {
		if over, err := at.over(ctx); err != nil || !over {
			return settlePoll, err
		}
		return 0, r.store.settle(ctx, p, r.worker, at)
	}
	if p.state == replayRunning && sub != nil {
		most := max(backlogLeast, 2*p.rate)
		if n, err := r.again.Backlog(ctx, sub.ID, most); err != nil || n == most {
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
	if p.state == replayCounting {
		n, err := r.again.Count(ctx, p.only, of.list)
		if err != nil {
			return 0, err
		}
		return 0, r.store.count(ctx, p, r.worker, of, n)
	}
	wait, err := r.store.send(ctx, p, r.worker, of, r.again)
	return min(wait-replayAhead, replayPoll), err
}

// stretch is the next part of a replay.
type stretch struct {
	list  []deliver.Again
	place uuid.UUID
	last  bool
}

// stretch reads the next part: as much as about a second sends.
func (r *Replayer) stretch(ctx context.Context, p *replay, sub *subscriptions.Subscription) (stretch, error) {
	limit := stretchMost
	if p.state == replayRunning {
		limit = min(limit, p.rate)
	}
	of := stretch{place: p.place}
	if p.only == deliver.OnlyDead {
		list, err := r.again.Dead(ctx, deliver.Dead{
			Span: p.span, Tenant: p.tenant, Subscription: p.subscription.UUID, EventID: p.eventID, Types: p.types, Before: p.createdAt,
		}, p.place, limit)
		if len(list) > 0 {
			of.place = list[len(list)-1].Place
		}
		of.list, of.last = list, len(list) < limit
		return of, err
	}
	rows, err := r.store.events(ctx, p, limit)
	if err != nil {
		return of, err
	}
	if len(rows) > 0 {
		of.place = rows[len(rows)-1].uid
	}
	of.last = len(rows) < limit
	found, err := r.find(ctx, p.tenant, rows)
	if err != nil {
		return of, err
	}
	for _, row := range rows {
		e := found[row.uid]
		if e == nil || e.Test || !r.Directory.Would(e.matchEvent(), sub) {
			continue
		}
		of.list = append(of.list, deliver.Again{
			Tenant: row.tenant, EventUID: row.uid, EventID: row.id, EventType: row.eventType, Seq: row.seq, Subscription: sub.ID, Place: row.uid,
		})
	}
	return of, nil
}

// find reads the events of rows: in one go where they lie close together, else one by one. Those whose bytes are
// gone are left out.
func (r *Replayer) find(ctx context.Context, tenant string, rows []recorded) (map[uuid.UUID]*Event, error) {
	found := make(map[uuid.UUID]*Event, len(rows))
	if len(rows) == 0 {
		return found, nil
	}
	low, high := rows[0].seq, rows[0].seq
	for _, row := range rows {
		low, high = min(low, row.seq), max(high, row.seq)
	}
	const sparse = 50 // a message that is read in vain costs about a fiftieth of one that is read alone
	if high-low <= uint64(sparse*len(rows)) {
		for e, err := range r.Reader.recent(ctx, tenant, low) {
			if err != nil {
				return nil, err
			}
			if e.Seq > high {
				break
			}
			found[e.UID()] = e
			if e.Seq == high {
				break
			}
		}
	}
	for _, row := range rows {
		if found[row.uid] != nil {
			continue
		}
		e, err := readEvent(ctx, r.Reader, r.Bytes, row)
		if err != nil && !errors.Is(err, deliver.ErrEventGone) {
			return nil, err
		}
		if err == nil {
			found[row.uid] = e
		}
	}
	return found, nil
}
