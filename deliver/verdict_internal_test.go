package deliver

import (
	"net/http"
	"testing"
	"time"

	"github.com/fanfarehq/fanfare/deliver/outcome"
	"github.com/fanfarehq/fanfare/deliver/webhook"
	"github.com/fanfarehq/fanfare/subscriptions"
)

// This file needs the inside: the verdict is a function of a result, and its table is of a thousand statuses, each reason and days of
// retries.

// wantReason is written by hand, number by number, against ReasonOf.
func wantReason(status int) outcome.Reason {
	switch {
	case status == 410:
		return "gone"
	case status == 429:
		return "rate_limited"
	case status/100 == 1:
		return "protocol"
	case status/100 == 2:
		return "ok"
	case status/100 == 3:
		return "http_3xx"
	case status/100 == 4:
		return "http_4xx"
	case status/100 == 5:
		return "http_5xx"
	}
	return "protocol"
}

// Every status that there can be, first attempt, with and without Retry-After.
func TestVerdictOfEveryStatus(t *testing.T) {
	t.Parallel()
	now := time.Unix(1_795_000_000, 0)
	for status := range 1000 {
		for _, retryAfter := range []time.Duration{0, time.Second, time.Hour, 48 * time.Hour} {
			r := webhook.Result{Status: status, Reason: outcome.ReasonOf(status), RetryAfter: retryAfter}
			got := verdict(r, 1, subscriptions.Retry{}, now, 0)
			want := Verdict{Outcome: outcome.Later, Reason: wantReason(status), At: now.Add(5 * time.Second)}
			switch {
			case status/100 == 2:
				want = Verdict{Outcome: outcome.Delivered, Reason: "ok"}
			case status == 410:
				want = Verdict{Outcome: outcome.Dead, Reason: "gone", Disable: true}
			case status == 429 || status == 502 || status == 503 || status == 504:
				if retryAfter > 5*time.Second {
					want.Reason = outcome.ReasonRetryAfter
					want.At = now.Add(min(retryAfter, 24*time.Hour))
				}
			}
			if got != want {
				t.Errorf("%d, Retry-After %v: got %+v, want %+v", status, retryAfter, got, want)
			}
		}
	}
}

// Every reason that an attempt can have.
func TestVerdictOfEveryReason(t *testing.T) {
	t.Parallel()
	now := time.Unix(1_795_000_000, 0)
	later := Verdict{Outcome: outcome.Later, At: now.Add(5 * time.Second)}
	tests := map[outcome.Reason]Verdict{
		outcome.ReasonOK:          {Outcome: outcome.Delivered},
		outcome.ReasonRedirect:    later,
		outcome.ReasonClient:      later,
		outcome.ReasonServer:      later,
		outcome.ReasonRateLimited: later,
		outcome.ReasonTimeout:     later,
		outcome.ReasonConnect:     later,
		outcome.ReasonTLS:         later,
		outcome.ReasonDNS:         later,
		outcome.ReasonBlocked:     later,
		outcome.ReasonReset:       later,
		outcome.ReasonProtocol:    later,
		outcome.ReasonGone:        {Outcome: outcome.Dead, Disable: true},
		outcome.ReasonConfig:      {Outcome: outcome.Dead},
		outcome.ReasonCancelled:   {Outcome: outcome.Later, At: now},
	}
	none := 0
	for reason, want := range tests {
		want.Reason = reason
		if got := verdict(webhook.Result{Reason: reason}, 1, subscriptions.Retry{}, now, 0); got != want {
			t.Errorf("%s: got %+v, want %+v", reason, got, want)
		}
		// With no retries left, what would wait is dead, for the same reason; but an attempt that we broke off
		// ourselves was none.
		if want.Outcome == outcome.Later && reason != outcome.ReasonCancelled {
			want = Verdict{Outcome: outcome.Dead, Reason: reason}
		}
		retry := subscriptions.Retry{MaxRetries: &none}
		if got := verdict(webhook.Result{Reason: reason}, 1, retry, now, 0); got != want {
			t.Errorf("%s, no retries: got %+v, want %+v", reason, got, want)
		}
	}
}

// The default schedule makes ten attempts over 75 h 35 min 5 s.
func TestVerdictSchedule(t *testing.T) {
	t.Parallel()
	start := time.Unix(1_795_000_000, 0)
	for _, test := range []struct {
		name     string
		retry    subscriptions.Retry
		attempts int
		total    time.Duration
	}{
		{"default", subscriptions.Retry{}, 10, 75*time.Hour + 35*time.Minute + 5*time.Second},
		{"none", subscriptions.Retry{MaxRetries: new(0)}, 1, 0},
		{"cut short", subscriptions.Retry{MaxRetries: new(2)}, 3, 5*time.Minute + 5*time.Second},
		{"own", subscriptions.Retry{Schedule: []time.Duration{time.Second, time.Minute}}, 3, 61 * time.Second},
		{"own, last repeats", subscriptions.Retry{Schedule: []time.Duration{time.Second, time.Minute}, MaxRetries: new(4)}, 5,
			time.Second + 3*time.Minute},
	} {
		now, number := start, 1
		for {
			v := verdict(webhook.Result{Status: 500, Reason: outcome.ReasonServer}, number, test.retry, now, 0)
			if v.Outcome == outcome.Dead {
				break
			}
			now = v.At
			number++
		}
		if number != test.attempts || now.Sub(start) != test.total {
			t.Errorf("%s: got %d attempts over %v, want %d over %v", test.name, number, now.Sub(start), test.attempts, test.total)
		}
	}
}

// Jitter only ever adds, and a fifth at most; so a receiver's wish is kept.
func TestVerdictJitter(t *testing.T) {
	t.Parallel()
	now := time.Unix(1_795_000_000, 0)
	busy := webhook.Result{Status: http.StatusServiceUnavailable, Reason: outcome.ReasonServer, RetryAfter: 100 * time.Second}
	for jitter, want := range map[float64]time.Duration{
		0: 100 * time.Second, 0.5: 110 * time.Second, 1: 120 * time.Second, -1: 100 * time.Second, 9: 120 * time.Second,
	} {
		if got := verdict(busy, 1, subscriptions.Retry{}, now, jitter).At.Sub(now); got != want {
			t.Errorf("jitter %v: got %v, want %v", jitter, got, want)
		}
	}
	// A wish that is shorter than the schedule changes nothing.
	if v := verdict(busy, 2, subscriptions.Retry{}, now, 0); v.At.Sub(now) != 5*time.Minute || v.Reason != outcome.ReasonServer {
		t.Errorf("second attempt: got %+v", v)
	}
	// The last attempt's wish cannot be granted.
	if v := verdict(busy, 10, subscriptions.Retry{}, now, 0); v.Outcome != outcome.Dead || v.Reason != outcome.ReasonServer {
		t.Errorf("last attempt: got %+v", v)
	}
}
