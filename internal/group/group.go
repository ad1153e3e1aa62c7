// Package group commits work in groups: the first caller's work goes at once, what arrives while it is
// being committed goes together in the next commit.
//
// It is the one batching primitive of Fanfare: events into their stream, tasks and outcomes packed into
// messages, rows into Postgres, and the revision that fan-out asks for all pass through a Committer. There
// is no timer, unless Limits.Gather asks for one, so an idle system adds no latency, and under load the groups
// grow by themselves until the commit keeps up.
//
// A Committer starts no goroutine: one of the callers leads each commit and then hands the lead to one that
// waits. So there is nothing to close, and no work outlives its callers.
package group

import (
	"context"
	"sync"
	"time"
)

// Limits bound one group.
type Limits struct {
	// Count is how many items one commit takes at most; 0 means 1,000.
	Count int
	// Bytes is how many bytes one commit takes at most, by the Size function; 0 means no bound. A single
	// larger item is committed alone.
	Bytes int
	// Timeout bounds one commit; 0 means 30 s. It is not the callers' deadline: a caller whose context
	// ends leaves, and the commit goes on for the others.
	Timeout time.Duration
	// Gather is how long a commit that is not full waits for more items; 0: not at all. It is for items that nobody waits for.
	Gather time.Duration
}

// Committer groups concurrent calls of Do into calls of its commit function, one at a time.
type Committer[T any] struct {
	limits Limits
	size   func(T) int
	commit func(context.Context, []T) error
	hurry  chan struct{} // ends the gathering

	mu    sync.Mutex
	busy  bool
	queue []*call[T]
	spare sync.Pool // of calls that are over, to be made anew
}

// call is one Do that waits for its commit or for the lead.
type call[T any] struct {
	item T
	// wake receives the outcome of the commit that held the item, or the lead of the next one.
	wake chan signal
}

type signal struct {
	lead bool
	err  error
}

// New makes a Committer. The commit function is never called concurrently; its slice is its own to keep.
// Its error is given to every caller of the group; an item that wants an outcome of its own carries it
// behind a pointer. A nil size counts each item as no bytes.
func New[T any](limits Limits, size func(T) int, commit func(context.Context, []T) error) *Committer[T] {
	if limits.Count <= 0 {
		limits.Count = 1000
	}
	if limits.Timeout <= 0 {
		limits.Timeout = 30 * time.Second
	}
	return &Committer[T]{limits: limits, size: size, commit: commit, hurry: make(chan struct{}, 1)}
}

// Do commits one item together with those of other callers and returns the error of that commit. If ctx
// ends first, Do returns its cause and the item's fate is unknown: it may have been committed, or may still be.
func (c *Committer[T]) Do(ctx context.Context, item T) error { return c.do(ctx, item, false) }

// DoNow is Do for an item that somebody waits for: its commit gathers no further items.
func (c *Committer[T]) DoNow(ctx context.Context, item T) error { return c.do(ctx, item, true) }

func (c *Committer[T]) do(ctx context.Context, item T, now bool) error {
	if err := ctx.Err(); err != nil {
		return context.Cause(ctx)
	}
	me := c.newCall(item)
	c.mu.Lock()
	c.queue = append(c.queue, me)
	if now || len(c.queue) >= c.limits.Count {
		c.gatherNoMore()
	}
	if c.busy {
		c.mu.Unlock()
		select {
		case s := <-me.wake:
			if !s.lead {
				c.over(me)
				return s.err
			}
		case <-ctx.Done():
			c.leave(me)
			return context.Cause(ctx)
		}
	} else {
		c.busy = true
		c.mu.Unlock()
	}
	return c.lead(me)
}

func (c *Committer[T]) newCall(item T) *call[T] {
	me, ok := c.spare.Get().(*call[T])
	if !ok {
		me = &call[T]{wake: make(chan signal, 1)}
	}
	me.item = item
	return me
}

// over keeps a call that nobody will signal any more, and its channel.
func (c *Committer[T]) over(me *call[T]) {
	var none T
	me.item = none
	c.spare.Put(me)
}

// lead commits one group, which me is the first of, wakes the group and hands the lead on.
func (c *Committer[T]) lead(me *call[T]) (err error) {
	c.gather()
	calls := c.take()
	items := make([]T, len(calls))
	for i, w := range calls {
		items[i] = w.item
	}
	// The callers of a group must not wait for ever should commit panic; the panic itself goes on.
	err = errPanicked
	defer func() {
		for _, w := range calls {
			if w != me {
				w.wake <- signal{err: err}
			}
		}
		c.over(me)
		c.handOn()
	}()
	// The group is not its leader's alone, so its context is not either.
	ctx, cancel := context.WithTimeout(context.Background(), c.limits.Timeout)
	defer cancel()
	err = c.commit(ctx, items)
	return err
}

// gather waits for more items, until gatherNoMore or the end of the time for it.
func (c *Committer[T]) gather() {
	if c.limits.Gather <= 0 {
		return
	}
	timer := time.NewTimer(c.limits.Gather)
	defer timer.Stop()
	select {
	case <-c.hurry:
	case <-timer.C:
	}
}

// gatherNoMore ends the gathering that is under way, or else the next.
func (c *Committer[T]) gatherNoMore() {
	select {
	case c.hurry <- struct{}{}:
	default:
	}
}

// take removes the next group from the queue.
func (c *Committer[T]) take() []*call[T] {
	c.mu.Lock()
	defer c.mu.Unlock()
	n, bytes := 0, 0
	for n < len(c.queue) && n < c.limits.Count {
		if c.size != nil && c.limits.Bytes > 0 {
			bytes += c.size(c.queue[n].item)
			if n > 0 && bytes > c.limits.Bytes {
				break
			}
		}
		n++
	}
	calls := c.queue[:n:n]
	c.queue = c.queue[n:]
	if len(c.queue) == 0 {
		c.queue = nil
	}
	return calls
}

// handOn gives the lead to the first that waits, or leaves the Committer idle.
func (c *Committer[T]) handOn() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.queue) == 0 {
		c.busy = false
		return
	}
	c.queue[0].wake <- signal{lead: true}
}

// leave takes a caller whose context ended out of the queue. If it was just given the lead, the lead goes on.
func (c *Committer[T]) leave(me *call[T]) {
	c.mu.Lock()
	queued := false
	for i, w := range c.queue {
		if w == me {
			c.queue = append(c.queue[:i:i], c.queue[i+1:]...)
			queued = true
			break
		}
	}
	c.mu.Unlock()
	if !queued {
		return // Its commit is under way; wake is buffered, so nobody waits for us to read it.
	}
	select {
	case <-me.wake: // Only the lead can have come: a queued item is in no commit yet.
		c.handOn()
	default:
	}
}
