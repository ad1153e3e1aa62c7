package deliver

import (
	"context"
	"math/rand/v2"
	"time"

	"github.com/google/uuid"
)

// spare makes what spares endpoints, and what tells tenants of it.
func (w *Worker) spare(announcer Announcer) {
	w.health = newHealth[receiverURL](w.cfg.BreakerAfter, w.now, rand.Float64, func(to breaker) { w.metrics.limits.breakers.WithLabelValues(string(to)).Inc() })
	w.hosts = newHosts(w.cfg, w.now)
	w.permits = newPermits(w.ledger, time.Now)
	w.network = newNetwork(w.now, rand.Float64, func(down bool) {
		if held := w.hosts.reset(); !down && len(held) > 0 {
			w.recovered(held...)
		}
		if down {
			w.metrics.limits.outage.Set(1)
			w.log.Error("no endpoint can be reached: failures to connect count for nobody until one answers")
		} else {
			w.metrics.limits.outage.Set(0)
			w.log.Info("endpoints can be reached again")
		}
	})
	w.failing = newFailing(w)
	w.announcer, w.notices = announcer, make(chan Notice, maxNotices)
}

// ease lets what a subscription held begin one by one.
func (w *Worker) ease(subscription uuid.UUID) {
	if sub, ok := w.directory.Get(subscription); ok {
		w.health.ease(receiverOf(sub), most(sub))
	}
}

// retune lets what waits for a rate limit that was changed ask for times by the new one.
func (w *Worker) retune(ctx context.Context, subscription uuid.UUID) error {
	if err := w.refresh(); err != nil {
		return err
	}
	sub, ok := w.directory.Get(subscription)
	if !ok {
		return nil
	}
	gap := int64(0)
	if sub.RateLimit != nil {
		gap = paceOf(*sub.RateLimit).gap
	}
	changed, err := w.ledger.retune(ctx, subscription, gap)
	if err != nil || !changed {
		return err
	}
	if _, err := w.ledger.goOn(ctx, subscription, ReasonRateLimited, time.Microsecond); err != nil {
		return err
	}
	w.due.expect(time.Now())
	return nil
}
