package throttle

import "time"

// Connection says how far an attempt got on its way to the receiver.
type Connection int

// The connections. Untried is the zero value: the attempt ended before anything was sent to the receiver.
const (
	Untried Connection = iota
	Missed             // no connection came about
	Silent             // the time was over; the connection may be an old one that leads nowhere
	Reached            // the receiver, or its machine, sent something
)

// Verdict says what an attempt tells of its endpoint.
type Verdict int

// The verdicts. Nothing is the zero value.
const (
	Nothing Verdict = iota
	Works           // it answers, whatever it thinks of the delivery
	Fails
)

// Result is what became of an attempt, as far as throttling goes by it. The zero Result says that no
// attempt was made.
type Result struct {
	Connection Connection
	Endpoint   Verdict
	Crowded    bool          // fewer requests at once would be better
	RetryAfter time.Duration // the receiver named a time
	Elsewhere  string        // the host that failed, if it is not the receiver's
}
