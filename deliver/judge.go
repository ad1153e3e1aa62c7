package deliver

import (
	"cmp"
	"math/rand/v2"
	"time"

	"github.com/fanfarehq/fanfare/subscriptions"
)

// admit judges whether a request to a subscription may be made now, and how many at once. Its error is a notYet; instead
// of one there may be a record, of a delivery that has waited for as long as its schedule is. What it returns otherwise is
// a seat that has no slot yet.
func (w *Worker) admit(f *flight, sub *subscriptions.Subscription) (*seat, *Record, error) {
	limit := most(sub)
	host := hostOf(sub)
	s := &seat{sub: sub, limit: limit, host: host}
	err := w.network.admit()
	if err == nil {
		s.way, err = w.hosts.admit(host, sub)
	}
	if err == nil {
		if s.admission, err = w.health.admit(receiverOf(sub), limit); err == nil {
			return s, nil, nil
		}
		w.hosts.health.forgo(host, s.way)
	}
	if now := w.now(); now.Sub(f.created) > longest(sub.Retry) {
		r := f.record(OutcomeDead, reasonOfWait(err), now)
		w.keepBytes(f, r)
		return nil, r, nil
	}
	return nil, nil, err
}

// admitAgain judges once more after a delivery has waited: its endpoint may have got into trouble since.
func (w *Worker) admitAgain(f *flight, s *seat) error {
	if s.probe || s.waiter == nil && s.sub.RateLimit == nil {
		return nil
	}
	a, err := w.health.admit(receiverOf(s.sub), s.limit)
	if err == nil {
		s.admission = a
	}
	return err
}

// forgo gives back what a seat was let do by the breakers, as no request was made.
func (w *Worker) forgo(f *flight, s *seat) {
	w.health.forgo(receiverOf(s.sub), s.admission)
	w.hosts.health.forgo(s.host, s.way)
}

// most is how many requests at once a subscription may have.
func most(sub *subscriptions.Subscription) int {
	if sub.MaxInFlight <= 0 {
		return subscriptions.DefaultMaxInFlight
	}
	return sub.MaxInFlight
}

// leastSpan is how long a delivery waits at least for an endpoint that is away, however short its schedule.
const leastSpan = time.Hour

// longest is how long after its acceptance a delivery may at most be put off because its endpoint is away: the whole
// of its schedule with all jitter.
func longest(r subscriptions.Retry) time.Duration {
	var span time.Duration
	for n := 1; ; n++ {
		delay, again := r.Delay(n)
		if !again || span > 365*24*time.Hour {
			break
		}
		span += delay
	}
	return max(span+time.Duration(maxJitter*float64(span)), leastSpan)
}

// judge makes a record of an attempt, and lets it be felt: by the breaker of its endpoint, by the failure rule, and by
// who has to be told.
func (w *Worker) judge(f *flight, s *seat, result Result) *Record {
	if result.Reason == ReasonGone && s.sub.Dialect != subscriptions.Native {
		result.Reason = ReasonClient // No vendor lets a receiver's answer end a subscription: it fails like any 4xx.
	}
	w.reportHost(s, result)
	if w.network.excuses(w.draining, cmp.Or(result.Elsewhere, s.host), result) {
		w.forgo(f, s)
		v := w.network.excuse(result)
		w.metrics.attempted(result, v)
		r := f.record(v.Outcome, v.Reason, v.At)
		w.keepBytes(f, r)
		return r
	}
	now := w.now()
	v := verdict(result, f.attempts+1, s.sub.Retry, now, rand.Float64())
	w.metrics.attempted(result, v)
	w.learn(f, s, result)
	if v.Outcome != OutcomeLater {
		v.At = now
	}
	r := f.record(v.Outcome, v.Reason, v.At)
	r.Attempts++
	r.Attempt = made(result, r.Attempts)
	w.keepBytes(f, r)
	if v.Disable {
		w.goodbye(f, s.sub)
	}
	return r
}

// reportHost tells of a host that it can be connected to, or not. It does not wait until it is known whose fault that is:
// meanwhile all others would try it as well. If it was ours, what was told is forgotten.
func (w *Worker) reportHost(s *seat, result Result) {
	if w.network.isDown() {
		w.hosts.health.forgo(s.host, s.way)
	} else if list := w.hosts.report(s.host, s.way, result); len(list) > 0 {
		w.recovered(list...)
	}
	s.way.probe = false // It has been told of.
}

// learn tells the breaker and the failure rule of a result.
func (w *Worker) learn(f *flight, s *seat, result Result) {
	if result.Reason == ReasonConfig {
		w.forgo(f, s) // Nothing was sent.
		return
	}
	if w.health.report(receiverOf(s.sub), s.admission, result, s.limit) {
		w.recovered(s.sub)
	}
	w.failing.note(f, s.sub, result)
}
