package throttle

import (
	"math"
	"sync"
	"time"

	"github.com/google/uuid"

	"github.com/fanfarehq/fanfare/subscriptions"
)

// The bounds by which a worker spares an endpoint that is in trouble, and tries again.
const (
	// A breaker stays open for firstOpen, then twice as long with each probe that fails, up to longestOpen, and a tenth
	// more at most by jitter.
	firstOpen   = 5 * time.Second
	longestOpen = 5 * time.Minute
	// probeTime is how long a probe keeps others back; longer than any attempt.
	probeTime = 45 * time.Second
	// What an open breaker puts off comes back one after the other, putOffGap apart, and nothing later than
	// putOffMost after the breaker may close: there the rest is spread over that whole time.
	putOffGap  = 20 * time.Millisecond
	putOffMost = 15 * time.Minute
	// backOffEvery is how often the window is halved at most: requests in flight together fail together.
	backOffEvery = time.Second
	// longestAsked is the longest Retry-After that is followed.
	longestAsked = 24 * time.Hour
)

// breaker is a state of the breaker of a subscription.
type breaker string

const (
	closed   breaker = "closed"    // requests are made
	open     breaker = "open"      // none is
	halfOpen breaker = "half_open" // one is, the probe
)

// receiverURL is one subscription's URL: its breaker does not hold for the URL that the subscription gets next.
type receiverURL struct {
	subscription uuid.UUID
	url          string
}

func receiverOf(sub *subscriptions.Subscription) receiverURL { return receiverURL{sub.ID, sub.URL} }

// health is what a worker knows of the endpoints that have been failing, by subscription, or by host. Each worker has its own: where there are
// several, each finds out for itself, with one probe at a time. Of those that do well it keeps nothing.
type health[K comparable] struct {
	now    func() time.Time
	random func() float64 // 0 to 1
	after  int            // failures in a row open a breaker; never if negative

	mu   sync.Mutex
	subs map[K]*condition
}

// condition is that of one subscription's endpoint.
type condition struct {
	state    breaker
	failures int       // in a row
	trips    int       // how often the breaker opened since it was closed last
	reason   string    // why it is open
	until    time.Time // open: no request before; half open: the probe is lost then
	told     bool      // the receiver said until when
	next     time.Time // the last time given to a delivery that was put off

	// As TCP does: a window of requests at once that grows by one with each success up to the threshold, and by
	// one for each window of successes beyond it. Zero means as many as the subscription may have.
	window    float64
	threshold float64
	halved    time.Time
	touched   time.Time
}

// admission is what admit lets a delivery do.
type admission struct {
	limit int  // requests at once to that endpoint
	probe bool // it is the one that finds out whether the endpoint is back; it must be reported or forgone
}

// change is what became of a breaker; both are the same if it did not change.
type change struct{ from, to breaker }

func (c change) opened() bool { return c.from == closed && c.to == open }
func (c change) closed() bool { return c.from != closed && c.to == closed }

func newHealth[K comparable](after int, now func() time.Time, random func() float64) *health[K] {
	return &health[K]{after: after, now: now, random: random, subs: make(map[K]*condition)}
}

// admit judges whether a request may be made now. Its error is a Refusal.
func (h *health[K]) admit(id K, limit int) (admission, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	c := h.subs[id]
	if c == nil {
		return admission{limit: limit}, nil
	}
	now := h.now()
	c.touched = now
	if c.state == closed {
		if c.window > 0 {
			limit = min(limit, int(c.window))
		}
		return admission{limit: limit}, nil
	}
	if now.Before(c.until) {
		return admission{}, h.later(c, now)
	}
	c.state = halfOpen
	c.until = now.Add(probeTime)
	return admission{limit: 1, probe: true}, nil
}

// later gives a delivery a time after the breaker may have closed, and each its own, in the order in which they ask.
func (h *health[K]) later(c *condition, now time.Time) Refusal {
	from := c.until
	if c.state == halfOpen {
		from = now.Add(time.Second) // The probe may be back then.
	}
	c.next = c.next.Add(putOffGap)
	if c.next.Before(from) {
		c.next = from
	}
	at := c.next
	if last := from.Add(putOffMost); at.After(last) {
		c.next = last
		at = from.Add(time.Duration(h.random() * float64(putOffMost)))
	}
	return Refusal{Wait: at.Sub(now), Reason: c.reason}
}

// forgo gives back what admit let a delivery do, as no request was made.
func (h *health[K]) forgo(id K, a admission) {
	if !a.probe {
		return
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if c := h.subs[id]; c != nil && c.state == halfOpen {
		c.state, c.until = open, h.now()
	}
}

// report takes note of an attempt's result. Limit is how many requests at once the subscription may have.
func (h *health[K]) report(id K, a admission, r Result, limit int) change {
	h.mu.Lock()
	defer h.mu.Unlock()
	c := h.subs[id]
	good := r.Endpoint == Works
	if c == nil {
		if good {
			return change{closed, closed}
		}
		c = &condition{state: closed}
		h.subs[id] = c
	}
	c.touched = h.now()
	from := c.state
	switch {
	case !good:
		h.fail(c, a, r, limit)
	case h.succeed(c, a, limit):
		delete(h.subs, id)
	}
	return change{from, c.state}
}

// succeed notes a success and reports whether there is nothing left to be remembered.
func (h *health[K]) succeed(c *condition, a admission, limit int) bool {
	c.failures = 0
	switch {
	case c.state != closed && c.told && !a.probe:
		return false // It was asked before the receiver said when to come back.
	case c.state != closed:
		c.state = closed
		c.trips, c.told = 0, false
		h.ramp(c, limit)
		return false
	case c.window == 0:
		return true
	case c.window < c.threshold:
		c.window++
	default:
		c.window += 1 / c.window
	}
	return c.window >= float64(limit)
}

// ramp lets requests begin again one by one.
func (h *health[K]) ramp(c *condition, limit int) { c.window, c.threshold = 1, float64(limit) }

// fail notes a failure.
func (h *health[K]) fail(c *condition, a admission, r Result, limit int) {
	now := h.now()
	c.failures++
	if c.state == closed && r.Crowded && now.Sub(c.halved) >= backOffEvery {
		if c.window == 0 {
			c.window = float64(limit)
		}
		c.window = math.Max(c.window/2, 1)
		c.threshold, c.halved = c.window, now
	}
	switch asked := min(r.RetryAfter, longestAsked); {
	case asked > 0:
		h.openUntil(c, now.Add(asked), RetryAfter)
		c.told = true
	case a.probe, c.state == closed && h.after > 0 && c.failures >= h.after:
		pause := min(firstOpen<<min(c.trips, 10), longestOpen)
		pause += time.Duration(float64(pause) * h.random() / 10)
		c.trips++
		c.told = false
		h.openUntil(c, now.Add(pause), BreakerOpen)
	}
}

// openUntil opens the breaker. One that is open already stays so for the longer of both.
func (h *health[K]) openUntil(c *condition, until time.Time, reason string) {
	if c.state != open {
		c.until = until
	} else if until.After(c.until) {
		c.until = until
	}
	c.reason, c.state = reason, open
}

// ease lets the waiting deliveries of a subscription begin one by one.
func (h *health[K]) ease(id K, limit int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	c := h.subs[id]
	if c == nil {
		c = &condition{state: closed, touched: h.now()}
		h.subs[id] = c
	}
	h.ramp(c, limit)
}

// sweep forgets endpoints that nothing was heard of for long, and returns how many breakers are not closed.
func (h *health[K]) sweep() (opened int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	now := h.now()
	for id, c := range h.subs {
		if now.Sub(c.touched) > 2*putOffMost && now.After(c.until) {
			delete(h.subs, id)
		} else if c.state != closed {
			opened++
		}
	}
	return opened
}

// drop forgets an endpoint.
func (h *health[K]) drop(id K) {
	h.mu.Lock()
	defer h.mu.Unlock()
	delete(h.subs, id)
}

// knows reports whether anything is remembered.
func (h *health[K]) knows(id K) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.subs[id] != nil
}
