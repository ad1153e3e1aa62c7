package deliver

import (
	"sync"
	"time"
)

// course is the state of a flight, which says whether its task must wait for it.
//
//	from      when                                            to
//	flying    its hand-off begins                             handing
//	handing   its row and its lease are written               handed
//	handing   the row is another worker's, or it has ended    lost
//	handing   nothing was written                             flying
//	any       its attempt is over                             landed
//
// A task waits for flights that are flying or handing, and for the records of those that were so when they landed. The flight of a lease
// begins handed. A hand-off that ends after the landing changes nothing.
type course struct {
	mu    sync.Mutex
	state flightState
	step  int       // of its row among the deferrals, 0 while it has none
	until time.Time // the end of its lease, zero without one
}

// flightState is where a flight is on its course.
type flightState int

const (
	flying  flightState = iota // on its way, without a row
	handing                    // a row is being written
	handed                     // the row and its lease are there
	landed                     // the attempt is over: too late to hand off
	lost                       // the row is another worker's, or the delivery ended
)

// awaited reports whether a task waits for a flight in this state.
func (s flightState) awaited() bool { return s == flying || s == handing }

// lease sets out as a flight with a row and a lease.
func (c *course) lease(step int, until time.Time) { c.state, c.step, c.until = handed, step, until }

// handOff begins a hand-off and reports whether there is one to make.
func (c *course) handOff() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.state != flying {
		return false
	}
	c.state = handing
	// From here on the row may exist, even if the write seems to fail: the outcome takes the step after it.
	c.step = 1
	return true
}

// handedOff notes how a hand-off went: whether rows were written, and whether the row is this flight's, with a lease until then. It
// reports whether the task need not wait any more.
func (c *course) handedOff(written, taken bool, until time.Time) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case c.state == landed:
		return false // The task waits for its record, which is on its way.
	case !written:
		c.state = flying
		return false
	case taken:
		c.state, c.until = handed, until
	default:
		c.state = lost
	}
	return true
}

// land notes that the attempt is over and returns the step of its record. A hand-off that is under way is not waited for: the
// record's step is beyond that of its row, whichever is written first.
func (c *course) land() (step int, was flightState) {
	c.mu.Lock()
	defer c.mu.Unlock()
	was = c.state
	c.state = landed
	return c.step + 1, was
}

// lasts reports whether the delivery is surely nobody else's for so long.
func (c *course) lasts(d time.Duration) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.state != lost && (c.until.IsZero() || time.Until(c.until) > d)
}

// row returns the step of the row and the end of its lease.
func (c *course) row() (step int, until time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.step, c.until
}
