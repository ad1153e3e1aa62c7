package deliver

import (
	"errors"
	"time"

	"github.com/fanfarehq/fanfare/deliver/outcome"
	"github.com/fanfarehq/fanfare/deliver/throttle"
	"github.com/fanfarehq/fanfare/subscriptions"
)

// laterOf tells from an error whether a delivery is only to come back, when and why.
func laterOf(err error) (throttle.Refusal, bool) { return errors.AsType[throttle.Refusal](err) }

// puttingOff is the record of a delivery that was put off.
func (w *Worker) puttingOff(f *flight, p throttle.Refusal) *outcome.Record {
	r := f.record(outcome.Later, outcome.Reason(p.Reason), w.now().Add(p.Wait))
	w.countPutOff(p)
	w.keepBytes(f, r)
	return r
}

func (w *Worker) countPutOff(p throttle.Refusal) {
	w.metrics.limits.putOff.WithLabelValues(p.Reason).Inc()
}

const (
	// keyWaitLeast and keyWaitMost bound the pause before a delivery asks again whether its secrets open: a worker with the right
	// key ring may claim it then.
	keyWaitLeast, keyWaitMost = 10 * time.Second, 2 * time.Minute
	// keyLogEvery is the least time between two lines that say so.
	keyLogEvery = time.Minute
)

// unopened puts off a delivery whose subscription's secrets do not open: the key ring of this worker may be the one that is wrong,
// so the delivery is never given up for it.
func (w *Worker) unopened(f *flight, sub *subscriptions.Subscription) error {
	now := w.now()
	if last := w.keyLogged.Load(); now.UnixNano()-last > int64(keyLogEvery) && w.keyLogged.CompareAndSwap(last, now.UnixNano()) {
		w.log.Error("deliveries wait: secrets do not open", "subscription", sub.ID, "tenant", sub.Tenant, "error", sub.Err)
	}
	wait := min(max(now.Sub(f.Created)/4, keyWaitLeast), keyWaitMost)
	return throttle.Refusal{Wait: wait, Reason: string(outcome.ReasonKey)}
}

// outlives reports whether a delivery that is put off may outlive the stream of events, so that its bytes are to be
// kept. A later generation is younger than its event.
func (w *Worker) outlives(f *flight, wait time.Duration) bool {
	return w.now().Add(wait).Sub(outcome.TimeOf(f.EventUID)) > w.cfg.EventsMaxAge-keepBefore
}
