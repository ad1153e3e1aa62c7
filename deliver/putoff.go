package deliver

import (
	"errors"
	"time"

	"github.com/fanfarehq/fanfare/deliver/outcome"
	"github.com/fanfarehq/fanfare/deliver/throttle"
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

// outlives reports whether a delivery that is put off may outlive the stream of events, so that its bytes are to be
// kept. A later generation is younger than its event.
func (w *Worker) outlives(f *flight, wait time.Duration) bool {
	return w.now().Add(wait).Sub(outcome.TimeOf(f.eventUID)) > w.cfg.EventsMaxAge-keepBefore
}
