package suspect

import (
	"context"
	"database/sql"
	"log/slog"
	"math"
	"time"

	"golang.org/x/sync/semaphore"
)

const (
	// yield is how long a message that is to be handled alone waits for the other stages. They wait for each other where a
	// stream is full, so none may be waited for without end.
	yield = 10 * time.Second
	// yieldAlone is how long it waits for another one that is handled alone. At a death both would be accused, so it is longer.
	yieldAlone = time.Minute
)

// everybody is the weight of a semaphore: one handler takes one of it, and a handler that is alone takes all.
const everybody = math.MaxInt64

// chain is the stages of a process, upstream first. A stage may wait for those downstream, never the other way round.
type chain struct {
	guards []*Guard
	solo   *semaphore.Weighted // held by the message that is handled alone
}

// New returns a Guard for each stage of a process. The stages are named upstream first.
func New(db *sql.DB, log *slog.Logger, stages ...string) []*Guard {
	c := &chain{solo: semaphore.NewWeighted(1)}
	counts := newTable(db)
	for i, stage := range stages {
		g := &Guard{stage: stage, chain: c, place: i, counts: counts, log: log.With("stage", stage)}
		g.all, g.suspects = semaphore.NewWeighted(everybody), semaphore.NewWeighted(everybody)
		g.left.Store(maxNew)
		c.guards = append(c.guards, g)
	}
	return c.guards
}

// clear returns once nothing else is in hand at a stage, no other message is handled alone, and, as far as they can be waited for,
// nothing is in hand upstream and no suspect downstream: whatever ends the process then is not one of those. What is downstream
// goes first, while nothing is held: an alone message there waits for the stages upstream.
func (c *chain) clear(ctx context.Context, place int) (done func(), err error) {
	for _, g := range c.guards[place+1:] {
		if acquire(ctx, yieldAlone, g.suspects, everybody) {
			g.suspects.Release(everybody)
		}
	}
	others, cancel := context.WithTimeout(ctx, yield)
	defer cancel()
	var held []func()
	done = func() {
		for _, release := range held {
			release()
		}
	}
	for _, g := range c.guards[:place] {
		if acquire(others, yield, g.all, everybody) {
			held = append(held, func() { g.all.Release(everybody) })
		}
	}
	all := c.guards[place].all
	if err := all.Acquire(ctx, everybody); err != nil {
		done()
		return nil, err
	}
	held = append(held, func() { all.Release(everybody) })
	if acquire(ctx, yieldAlone, c.solo, 1) {
		held = append(held, func() { c.solo.Release(1) })
	}
	return done, nil
}

// acquire takes n of a semaphore, if it can be had within a while.
func acquire(ctx context.Context, within time.Duration, s *semaphore.Weighted, n int64) bool {
	ctx, cancel := context.WithTimeout(ctx, within)
	defer cancel()
	return s.Acquire(ctx, n) == nil
}
