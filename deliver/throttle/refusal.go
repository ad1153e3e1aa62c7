package throttle

import "time"

// The reasons for which a delivery is refused. They are also the words of metrics and of the API.
const (
	Busy        = "busy"         // no place is free, or the receiver is slow
	BreakerOpen = "breaker_open" // the endpoint or its host has been failing
	RetryAfter  = "retry_after"  // the receiver named a time
	RateLimited = "rate_limited" // by the subscription's own limit
	Connect     = "connect"      // an outage of the worker's own network
)

// Refusal says that a delivery must wait, why and for how long. Nothing was sent.
type Refusal struct {
	Wait   time.Duration
	Reason string
}

func (r Refusal) Error() string { return "put off: " + r.Reason }
