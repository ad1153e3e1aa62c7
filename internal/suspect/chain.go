package suspect

import (
	"context"
	"database/sql"
	"log/slog"
	"math"
	"time"

	"golang.org/x/sync/semaphore"
)

// yield is how long a message that is to be handled alone waits for the other stages. They wait for each other where a stream
// is full, so none may be waited for without end.
const yield = 10 * time.Second

// everybody is the weight of a semaphore: one handler takes one of it, and a handler that is alone takes all.
const everybody = math.MaxInt64

// chain is the stages of a process, upstream first. A stage may wait for those downstream, never the other way round.
type chain struct{ guards []*Guard }

// New returns a Guard for each stage of a process. The stages are named upstream first.
func New(db *sql.DB, log *slog.Logger, stages ...string) []*Guard {
	c := &chain{}
	counts := newTable(db)
	for i, stage := range stages {
		g := &Guard{stage: stage, chain: c, place: i, counts: counts, log: log.With("stage", stage)}
		g.all, g.suspects = semaphore.NewWeighted(everybody), semaphore.NewWeighted(everybody)
		g.left.Store(maxNew)
		c.guards = append(c.guards, g)
	}
	return c.guards
}

// clear returns once nothing else is in hand at a stage, and, as far as they can be waited for, nothing upstream and no suspect
// downstream: whatever ends the process then is not one of those.
func (c *chain) clear(ctx context.Context, place int) (done func(), err error) {
	others, cancel := context.WithTimeout(ctx, yield)
	defer cancel()
	var held []*semaphore.Weighted
	done = func() {
		for _, s := range held {
			s.Release(everybody)
		}
	}
	for i, g := range c.guards {
		switch {
		case i < place:
			if g.all.Acquire(others, everybody) == nil {
				held = append(held, g.all)
			}
		case i == place:
			if err := g.all.Acquire(ctx, everybody); err != nil {
				done()
				return nil, err
			}
			held = append(held, g.all)
		default:
			if g.suspects.Acquire(others, everybody) == nil {
				g.suspects.Release(everybody)
			}
		}
	}
	return done, nil
}
