package deliver

import (
	"context"
	"database/sql"
	"errors"
	"sync"
	"time"

	"github.com/google/uuid"

	"github.com/fanfarehq/fanfare/deliver/outcome"
	"github.com/fanfarehq/fanfare/deliver/webhook"
	"github.com/fanfarehq/fanfare/subscriptions"
)

const (
	// failingEvery is how often a worker tells Postgres which subscriptions fail, and learns what others found.
	failingEvery = 2 * time.Second
	// recoveringAfter failures without a success between, the success that follows is told.
	recoveringAfter = 10
)

// failing counts, over all workers, since when and how often each subscription has failed without a success between. It
// is what the failure rule goes by, and what tells that a subscription recovers.
type failing struct {
	worker *Worker
	store  failingStore

	mu     sync.Mutex
	counts map[uuid.UUID]*streak // since the last flush
	mended map[uuid.UUID]*streak // that had a success since
	known  map[uuid.UUID]bool    // to have failed, as Postgres has it
	round  map[uuid.UUID]bool    // what known will be once all pages were read
	at     uuid.UUID             // where the next page begins
	swept  time.Time
}

// streak is a row of failures of one subscription at one URL.
type streak struct {
	sub         *subscriptions.Subscription
	since       time.Time
	failures    int64
	told        bool // the tenant was told that it fails
	last        sample
	operational bool // the last of them was of an operational event, of which no more is told
}

// sample is an attempt that stands for those of a streak.
type sample struct {
	reason   outcome.Reason
	status   int // 0 where none came
	err      string
	delivery uuid.UUID
}

func sampleOf(f *flight, r webhook.Result) sample {
	m := made(r, 0)
	return sample{reason: r.Reason, status: m.Status, err: m.Error, delivery: f.Delivery}
}

func newFailing(w *Worker, db *sql.DB) *failing {
	return &failing{worker: w, store: failingStore{db}, counts: make(map[uuid.UUID]*streak), mended: make(map[uuid.UUID]*streak), known: make(map[uuid.UUID]bool),
		round: make(map[uuid.UUID]bool)}
}

// note counts an attempt's result. Results of a URL that was changed since count for nothing.
func (k *failing) note(f *flight, sub *subscriptions.Subscription, r webhook.Result) {
	k.mu.Lock()
	defer k.mu.Unlock()
	counted, good := k.counts[sub.ID], k.mended[sub.ID]
	if counted.overtook(sub) || good.overtook(sub) {
		return
	}
	if r.Reason == outcome.ReasonOK {
		if k.known[sub.ID] || counted != nil {
			delete(k.counts, sub.ID)
			k.mended[sub.ID] = &streak{sub: sub, last: sampleOf(f, r), operational: isOperational(f.EventType)}
		}
		return
	}
	if counted == nil || counted.sub.URL != sub.URL {
		counted = &streak{since: k.worker.now()}
		k.counts[sub.ID] = counted
	}
	counted.sub, counted.last, counted.operational = sub, sampleOf(f, r), isOperational(f.EventType)
	counted.failures++
}

// overtook reports whether a streak is of another URL than a subscription had at an attempt, and of a later one.
func (s *streak) overtook(sub *subscriptions.Subscription) bool {
	return s != nil && s.sub.URL != sub.URL && s.sub.Revision > sub.Revision
}

// run flushes until ctx ends.
func (k *failing) run(ctx context.Context) {
	ticker := time.NewTicker(failingEvery)
	defer ticker.Stop()
	for {
		if err := k.flush(ctx); err != nil && ctx.Err() == nil {
			k.worker.trouble.Note("failures wait to be counted", err)
		}
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return
		}
	}
}

// flush writes the counts, first of subscriptions that recovered, and disables those that have failed for too long. If Postgres is away, all
// that is kept for the next time.
func (k *failing) flush(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, handOffTimeout)
	defer cancel()
	mended, counts := k.take()
	over, err := k.store.mend(ctx, mended)
	if err != nil {
		k.putBack(mended, counts)
		return err
	}
	for id, s := range over {
		s.sub, s.last = mended[id].sub, mended[id].last
		if (s.told || s.failures >= recoveringAfter) && !mended[id].operational {
			k.worker.tellRecovering(s)
		}
	}
	rows, err := k.store.fail(ctx, counts)
	if err != nil {
		k.putBack(nil, counts)
		return err
	}
	k.mu.Lock()
	for id := range rows {
		k.remember(id)
	}
	k.mu.Unlock()
	var errs []error
	for id, s := range rows {
		s.sub, s.last, s.operational = counts[id].sub, counts[id].last, counts[id].operational
		errs = append(errs, k.warn(ctx, s))
		if k.worker.givenUp(s) {
			errs = append(errs, k.worker.disable(ctx, s, outcome.ReasonFailing))
		}
	}
	return errors.Join(append(errs, k.learn(ctx))...)
}

// warn tells a tenant once that a subscription fails, before anything is disabled.
func (k *failing) warn(ctx context.Context, s *streak) error {
	w := k.worker
	if s.told || s.operational || w.now().Sub(s.since) < w.cfg.FailingAfter && s.failures < int64(w.cfg.FailingAttempts) {
		return nil
	}
	first, err := k.store.told(ctx, s.sub.ID)
	if first {
		w.tellFailing(s)
	}
	return err
}

func (k *failing) take() (mended, counts map[uuid.UUID]*streak) {
	k.mu.Lock()
	defer k.mu.Unlock()
	mended, counts = k.mended, k.counts
	k.mended, k.counts = make(map[uuid.UUID]*streak), make(map[uuid.UUID]*streak)
	return mended, counts
}

// putBack undoes a take, but for counts that were overtaken since: a success ends the failures counted before it.
func (k *failing) putBack(mended, counts map[uuid.UUID]*streak) {
	k.mu.Lock()
	defer k.mu.Unlock()
	for id, s := range counts {
		switch now := k.counts[id]; {
		case k.mended[id] != nil:
		case now != nil && now.sub.URL != s.sub.URL: // The streak that was taken has ended.
		case now != nil:
			now.since, now.failures = s.since, now.failures+s.failures
		default:
			k.counts[id] = s
		}
	}
	for id, s := range mended {
		if k.mended[id] == nil {
			k.mended[id] = s
		}
	}
}

// learn reads the next page of the subscriptions that fail, which forgets those that are gone.
func (k *failing) learn(ctx context.Context) error {
	if time.Since(k.swept) > time.Minute {
		k.swept = time.Now()
		if err := k.worker.gate.Forget(ctx); err != nil {
			return err
		}
	}
	page, err := k.store.failing(ctx, k.at)
	if err != nil {
		return err
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	k.remember(page...)
	if len(page) == failingPage {
		k.at = page[len(page)-1]
		return nil
	}
	k.known, k.round, k.at = k.round, make(map[uuid.UUID]bool), uuid.Nil
	return nil
}

// remember notes that subscriptions fail.
func (k *failing) remember(ids ...uuid.UUID) {
	for _, id := range ids {
		k.known[id], k.round[id] = true, true
	}
}

// givenUp is the failure rule: a subscription that has had no success for so long, and so many failures, is disabled.
// Those of dialects are not: no vendor has such a rule.
func (w *Worker) givenUp(s *streak) bool {
	return w.cfg.DisableAfter > 0 && s.sub.Dialect == subscriptions.Native &&
		w.now().Sub(s.since) >= w.cfg.DisableAfter && s.failures >= int64(w.cfg.DisableFailures)
}

// disable disables a subscription and tells its tenant. The follower cancels its pending deliveries. If the subscription was
// changed since, nothing happens: the verdict is about what it was. The next attempt gets a verdict of its own.
func (w *Worker) disable(ctx context.Context, s *streak, reason outcome.Reason) error {
	sub := s.sub
	done, err := w.disabler.Disable(ctx, sub.ID, sub.Revision, string(reason))
	if err != nil || !done {
		return err
	}
	w.metrics.limits.disabled.WithLabelValues(string(reason)).Inc()
	w.log.InfoContext(ctx, "subscription disabled", "subscription", sub.ID, "tenant", sub.Tenant, "reason", reason)
	if !s.operational {
		w.tellDisabled(s, reason)
	}
	return nil
}

// disablesAt is when the failure rule disables the subscription of a streak; false if it never does.
func (w *Worker) disablesAt(s *streak) (time.Time, bool) {
	return s.since.Add(w.cfg.DisableAfter), w.cfg.DisableAfter > 0 && s.sub.Dialect == subscriptions.Native
}

// recovered lets what a breaker held back go on.
func (w *Worker) recovered(ctx context.Context, subs []*subscriptions.Subscription) {
	w.flights.Go(func() {
		ctx, cancel := context.WithTimeout(ctx, time.Minute)
		defer cancel()
		for _, sub := range subs {
			if err := w.hurry(ctx, sub); err != nil {
				w.trouble.Note("deliveries wait although their endpoint is back", err) // They are due within 15 minutes anyway.
				return
			}
		}
	})
}

// hurry makes deliveries due that wait for an endpoint that is back.
func (w *Worker) hurry(ctx context.Context, sub *subscriptions.Subscription) error {
	n, err := w.ledger.GoOn(ctx, sub.ID, outcome.ReasonBreakerOpen, time.Second/time.Duration(hurryPerSlot*most(sub)))
	if err != nil || n == 0 {
		return err
	}
	w.due.expect(time.Now())
	w.metrics.limits.recovered.Add(float64(n))
	w.log.Info("endpoint is back", "subscription", sub.ID, "deliveries", n)
	return nil
}

// hurryPerSlot is how many deliveries a second come due for each request that an endpoint may have at once, when it is
// back: as if it took 100 ms for each.
const hurryPerSlot = 10
