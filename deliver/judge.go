package deliver

import (
	"context"
	"math/rand/v2"
	"time"

	"github.com/fanfarehq/fanfare/deliver/outcome"
	"github.com/fanfarehq/fanfare/deliver/throttle"
	"github.com/fanfarehq/fanfare/deliver/webhook"
	"github.com/fanfarehq/fanfare/subscriptions"
)

// tooLate is the record of a refused delivery that has waited for as long as its schedule is; nil if it has not.
func (w *Worker) tooLate(f *flight, sub *subscriptions.Subscription, refused error) *outcome.Record {
	p, ok := laterOf(refused)
	now := w.now()
	if !ok || p.Reason == throttle.Busy || now.Sub(f.Created) <= longest(sub.Retry) {
		return nil
	}
	r := f.record(outcome.Dead, outcome.Reason(p.Reason), now)
	w.keepBytes(f, r)
	return r
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

// judge makes a record of an attempt. It reports the result to the gate and to the failure rule, and queues notices.
func (w *Worker) judge(ctx context.Context, f *flight, s *seat, result webhook.Result) *outcome.Record {
	if result.Reason == outcome.ReasonGone && s.sub.Dialect != subscriptions.Native {
		result.Reason = outcome.ReasonClient // No vendor lets a receiver's answer end a subscription: it fails like any 4xx.
	}
	wait, excused := s.ticket.Release(ctx, resultFor(result))
	now := w.now()
	if excused {
		v := Verdict{Outcome: outcome.Later, Reason: result.Reason, At: now.Add(wait)}
		w.metrics.attempted(result, v)
		r := f.record(v.Outcome, v.Reason, v.At)
		r.Excused++
		w.keepBytes(f, r)
		return r
	}
	v := verdict(result, f.Attempts+1, s.sub.Retry, now, rand.Float64())
	w.metrics.attempted(result, v)
	if result.Reason != outcome.ReasonConfig {
		w.failing.note(f, s.sub, result)
	}
	if v.Outcome != outcome.Later {
		v.At = now
	}
	r := f.record(v.Outcome, v.Reason, v.At)
	r.Attempts++
	r.Attempt = made(result, r.Attempts)
	r.Attempt.Revision = s.sub.Revision
	w.keepBytes(f, r)
	if v.Disable {
		w.goodbye(ctx, f, s.sub, result)
	}
	return r
}

// made describes an attempt for the ledger.
func made(r webhook.Result, number int) *outcome.Made {
	m := &outcome.Made{
		Number: number, StartedAt: r.StartedAt, Micros: r.Duration.Microseconds(),
		Status: r.Status, Response: r.Response, Reason: r.Reason,
		Exchange: outcome.PackExchange(r.Exchange), Headers: r.ResponseHeaders,
	}
	if r.Err != nil {
		m.Error = outcome.SanitizeText(r.Err.Error())
	}
	return m
}
