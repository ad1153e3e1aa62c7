package deliver

import (
	"time"

	"github.com/fanfarehq/fanfare/deliver/outcome"
	"github.com/fanfarehq/fanfare/deliver/webhook"
	"github.com/fanfarehq/fanfare/subscriptions"
)

// Verdict says what becomes of a delivery after an attempt.
type Verdict struct {
	Outcome outcome.Outcome
	Reason  outcome.Reason
	At      time.Time // when the next attempt is due; only of outcome.Later
	Disable bool      // the receiver said that it is gone for good
}

// maxJitter is the share of the delay by which jitter may lengthen it.
const maxJitter = 0.2

// verdict judges attempt number (from 1). Jitter is from 0 to 1; it adds up to a fifth to the delay, so
// that what failed together does not come back together.
func verdict(r webhook.Result, number int, retry subscriptions.Retry, now time.Time, jitter float64) Verdict {
	switch r.Reason {
	case outcome.ReasonOK:
		return Verdict{Outcome: outcome.Delivered, Reason: r.Reason}
	case outcome.ReasonGone:
		return Verdict{Outcome: outcome.Dead, Reason: r.Reason, Disable: true}
	case outcome.ReasonConfig:
		// The same subscription gives the same error again: only a change of it helps, and then a replay.
		return Verdict{Outcome: outcome.Dead, Reason: r.Reason}
	case outcome.ReasonCancelled:
		// Broken off by ourselves; whether it arrived is unknown, so it is made again, and at once.
		return Verdict{Outcome: outcome.Later, Reason: r.Reason, At: now}
	}
	// A blocked address is retried like any failure: what a name resolves to changes, and a wrong answer of
	// a name server must not cost a delivery.
	delay, again := retry.Delay(number)
	if !again {
		return Verdict{Outcome: outcome.Dead, Reason: r.Reason}
	}
	v := Verdict{Outcome: outcome.Later, Reason: r.Reason}
	if asked := min(r.RetryAfter, webhook.MaxRetryAfter); asked > delay && webhook.HeedsRetryAfter(r.Status) {
		delay = asked
		v.Reason = outcome.ReasonRetryAfter
	}
	delay += time.Duration(float64(delay) * maxJitter * min(max(jitter, 0), 1))
	v.At = now.Add(delay)
	return v
}
