package deliver

import (
	"errors"
	"time"
)

// laterOf tells from an error whether a delivery is only to come back, when and why.
func laterOf(err error) (notYet, bool) {
	if full, ok := errors.AsType[noRoom](err); ok {
		return notYet{wait: full.wait, reason: ReasonBusy}, true
	}
	return errors.AsType[notYet](err)
}

// reasonOfWait is the reason of a delivery that waits.
func reasonOfWait(err error) Reason {
	p, _ := laterOf(err)
	return p.reason
}

// puttingOff is the record of a delivery that was put off.
func (w *Worker) puttingOff(f *flight, p notYet) *Record {
	r := f.record(OutcomeLater, p.reason, w.now().Add(p.wait))
	w.metrics.limits.putOff.WithLabelValues(string(p.reason)).Inc()
	w.keepBytes(f, r)
	return r
}

// outlives reports whether a delivery that is put off may outlive the stream of events, so that its bytes are to be
// kept. A later generation is younger than its event.
func (w *Worker) outlives(f *flight, wait time.Duration) bool {
	return w.now().Add(wait).Sub(timeOf(f.eventUID)) > w.cfg.EventsMaxAge-keepBefore
}
