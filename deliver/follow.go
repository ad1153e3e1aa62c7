package deliver

import (
	"context"
	"sync"
	"time"

	"github.com/google/uuid"

	"github.com/fanfarehq/fanfare/deliver/ledger"
	"github.com/fanfarehq/fanfare/deliver/outcome"
	"github.com/fanfarehq/fanfare/deliver/webhook"
	"github.com/fanfarehq/fanfare/subscriptions"
)

const (
	// followEvery is how often the subscriptions' revision is looked at: one row of one page.
	followEvery = 500 * time.Millisecond
	// followHands is how many subscriptions are followed at the same time.
	followHands = 4
	// followSweep is how often all subscriptions with deferrals are looked at, a page at a time, for changes that were missed:
	// made while no worker ran, or lost with a worker that was killed.
	followSweep = time.Minute
)

// follower lets deferrals follow their subscriptions: held ones go on when their subscription is resumed, pending ones are
// cancelled when it is disabled or deleted. Several may run; each step is safe to repeat.
//
// The work goes by chunks of rows, and after each the next tenant has its turn. So the backlog of one subscription delays nobody
// else's. What remains to do is in the rows: a worker that dies leaves it to the others and to the sweep.
type follower struct {
	worker *Worker
	seen   int64
	begun  bool
	swept  time.Time
	at     uuid.UUID // where the sweep is
	queue  changes
}

// run follows until ctx ends.
func (f *follower) run(ctx context.Context) {
	var hands sync.WaitGroup
	defer hands.Wait()
	f.queue.ready = make(chan struct{}, followHands)
	for range followHands {
		hands.Go(f.worker.lasting(ctx, "follow a subscription", f.work))
	}
	ticker := time.NewTicker(followEvery)
	defer ticker.Stop()
	for {
		err := f.step(ctx)
		if err == nil {
			err = f.sweep(ctx)
		}
		if err != nil && ctx.Err() == nil {
			f.worker.trouble.Note("deliveries cannot follow their subscriptions yet", err)
		}
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return
		}
	}
}

// step queues what changed since the last one. What changed before the first is found by the sweep.
func (f *follower) step(ctx context.Context) error {
	l := f.worker.ledger
	revision, err := l.Revision(ctx)
	if err != nil {
		return err
	}
	if !f.begun {
		f.seen, f.begun = revision, true
	}
	for f.seen < revision {
		changed, err := l.ChangedSince(ctx, f.seen)
		if err != nil {
			return err
		}
		f.queue.add(changed...)
		if len(changed) == 0 {
			f.seen = revision // The rest of the revisions belongs to something else.
			break
		}
		f.seen = changed[len(changed)-1].Revision
	}
	return nil
}

// sweep queues the subscriptions of one page whose deferrals have not followed them. The first sweep begins at once and takes a
// page each time; then it rests.
func (f *follower) sweep(ctx context.Context) error {
	if time.Since(f.swept) < followSweep {
		return nil
	}
	stray, next, more, err := f.worker.ledger.Straying(ctx, f.at)
	if err != nil {
		return err
	}
	f.queue.add(stray...)
	f.at = next
	if !more {
		f.at, f.swept = uuid.Nil, time.Now()
	}
	return nil
}

// work follows one chunk after the other until ctx ends.
func (f *follower) work(ctx context.Context) {
	for {
		c, ok := f.queue.next()
		if !ok {
			select {
			case <-f.queue.ready:
				continue
			case <-ctx.Done():
				return
			}
		}
		more := true
		func() {
			defer func() { f.queue.done(c, more) }()
			var err error
			if more, err = f.chunk(ctx, c); err == nil || ctx.Err() != nil {
				return
			}
			more = true
			f.worker.trouble.Note("deliveries cannot follow their subscriptions yet", err)
			select {
			case <-time.After(followEvery):
			case <-ctx.Done():
			}
		}()
		if ctx.Err() != nil {
			return
		}
	}
}

// chunk lets the next rows of a subscription follow it and reports whether there are more.
func (f *follower) chunk(ctx context.Context, c *ledger.Change) (more bool, err error) {
	w := f.worker
	var n int64
	switch {
	case c.Deleted:
		n, err = w.ledger.CancelChunk(ctx, c.ID, outcome.ReasonDeleted)
	case c.Status == string(subscriptions.Disabled):
		n, err = w.ledger.CancelChunk(ctx, c.ID, outcome.ReasonDisabled)
	case c.Status == string(subscriptions.Paused):
		return false, nil
	default:
		if n, err = w.ledger.FreeChunk(ctx, c.ID); n > 0 {
			w.ease(c.ID)
			w.due.expect(time.Now())
		}
		if err == nil && n < ledger.FollowChunk {
			err = w.retune(ctx, c.ID)
		}
	}
	c.Count += n
	if err == nil && n < ledger.FollowChunk && c.Count > 0 {
		w.log.Info("deliveries follow their subscription", "subscription", c.ID, "status", c.Status, "deleted", c.Deleted, "count", c.Count)
	}
	return n == ledger.FollowChunk, err
}

// goodbye disables a subscription whose receiver answered 410; the follower cancels its pending deliveries. If Postgres is
// away the next delivery gets the next 410.
func (w *Worker) goodbye(ctx context.Context, f *flight, sub *subscriptions.Subscription, r webhook.Result) {
	w.flights.Go(func() {
		ctx, cancel := context.WithTimeout(recording(ctx), 2*handOffTimeout)
		defer cancel()
		if err := w.disable(ctx, &streak{sub: sub, last: sampleOf(f, r), operational: isOperational(f.EventType)}, outcome.ReasonGone); err != nil {
			w.log.Warn("receiver is gone, subscription not disabled", "subscription", sub.ID, "error", err)
		}
	})
}
