package deliver

import "sync"

// idleHands is how many goroutines a crew keeps for later.
const idleHands = 256

// crew runs functions in goroutines that it uses again: a request's call chain grows a goroutine's stack several times,
// and for short requests that costs more than all else that a goroutine does.
type crew struct {
	jobs     sync.WaitGroup
	panicked func(cause any) // what happens to a panic; nil lets it end the process

	mu     sync.Mutex
	idle   []chan func() // the last one that became idle is the first to be used
	closed bool
}

// Go runs f in a goroutine.
func (c *crew) Go(f func()) {
	c.jobs.Add(1)
	c.mu.Lock()
	if n := len(c.idle); n > 0 {
		hand := c.idle[n-1]
		c.idle = c.idle[:n-1]
		c.mu.Unlock()
		hand <- f
		return
	}
	c.mu.Unlock()
	go c.work(f)
}

func (c *crew) work(f func()) {
	hand := make(chan func(), 1)
	for f != nil {
		c.call(f)
		if !c.rest(hand) {
			return
		}
		f = <-hand
	}
}

// call calls a function. A panic that nothing recovered nearer to its cause ends the function, not the process.
func (c *crew) call(f func()) {
	defer c.jobs.Done()
	defer func() {
		if c.panicked == nil {
			return
		}
		if p := recover(); p != nil {
			c.panicked(p)
		}
	}()
	f()
}

// rest makes a goroutine idle, unless there are enough of them.
func (c *crew) rest(hand chan func()) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed || len(c.idle) >= idleHands {
		return false
	}
	c.idle = append(c.idle, hand)
	return true
}

// Wait waits until all functions have returned, and lets go of the goroutines. Those functions may call Go, nobody else may.
func (c *crew) Wait() {
	c.jobs.Wait()
	c.mu.Lock()
	defer c.mu.Unlock()
	c.closed = true
	for _, hand := range c.idle {
		close(hand)
	}
	c.idle = nil
}
