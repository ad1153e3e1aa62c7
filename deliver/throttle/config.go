package throttle

import "time"

// Config tunes a Gate. The worker fills it from its own configuration.
type Config struct {
	InFlight     int           // requests in flight at most
	BreakerAfter int           // failures in a row that open a breaker; never if negative
	Patience     time.Duration // how long a delivery waits for a place before it is refused
}
