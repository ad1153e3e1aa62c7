package deliver

import (
	"context"
	"time"

	"github.com/fanfarehq/fanfare/subscriptions"
)

// followEvery is how often the subscriptions' revision is looked at: one row of one page.
const followEvery = 500 * time.Millisecond

// follower lets deferrals follow their subscriptions: what is held goes on when its subscription is resumed,
// what is pending is cancelled when it is disabled or deleted. Several may run; each step is safe to repeat.
type follower struct {
	worker  *Worker
	seen    int64
	started bool
}

// run follows until ctx ends.
func (f *follower) run(ctx context.Context) {
	ticker := time.NewTicker(followEvery)
	defer ticker.Stop()
	for {
		if err := f.step(ctx); err != nil && ctx.Err() == nil {
			f.worker.trouble.note("deliveries cannot follow their subscriptions yet", err)
		}
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return
		}
	}
}

// step follows what changed since the last one. The first looks at what changed while no worker ran.
func (f *follower) step(ctx context.Context) error {
	l := f.worker.ledger
	revision, err := l.revision(ctx)
	if err != nil {
		return err
	}
	if !f.started {
		stray, err := l.straying(ctx)
		if err != nil {
			return err
		}
		if err := f.each(ctx, stray); err != nil {
			return err
		}
		f.seen, f.started = revision, true
		return nil
	}
	for f.seen < revision {
		changed, err := l.changedSince(ctx, f.seen)
		if err != nil {
			return err
		}
		if err := f.each(ctx, changed); err != nil {
			return err
		}
		if len(changed) == 0 {
			f.seen = revision // The rest of the revisions belongs to something else.
			break
		}
		f.seen = changed[len(changed)-1].revision
	}
	return nil
}

func (f *follower) each(ctx context.Context, list []change) error {
	l := f.worker.ledger
	for _, c := range list {
		var n int64
		var err error
		switch {
		case c.deleted:
			n, err = l.cancelPending(ctx, c.id, ReasonDeleted)
		case c.status == string(subscriptions.Disabled):
			n, err = l.cancelPending(ctx, c.id, ReasonDisabled)
		case c.status != string(subscriptions.Paused):
			if n, err = l.setFree(ctx, c.id); n > 0 {
				f.worker.ease(c.id)
				f.worker.due.expect(time.Now())
			}
			if err == nil {
				err = f.worker.retune(ctx, c.id)
			}
		}
		if err != nil {
			return err
		}
		if n > 0 {
			f.worker.log.Info("deliveries follow their subscription", "subscription", c.id, "status", c.status, "deleted", c.deleted, "count", n)
		}
	}
	return nil
}

// goodbye disables a subscription whose receiver answered 410 and cancels what is pending for it. If Postgres is
// away the next delivery gets the next 410.
func (w *Worker) goodbye(f *flight, sub *subscriptions.Subscription) {
	w.flights.Go(func() {
		ctx, cancel := context.WithTimeout(w.abandoned, 2*handOffTimeout)
		defer cancel()
		if err := w.disable(ctx, sub, ReasonGone, isOperational(f.eventType)); err != nil {
			w.log.Warn("receiver is gone, subscription not disabled", "subscription", sub.ID, "error", err)
		}
	})
}
