package replay

import (
	"context"
	"time"

	"github.com/google/uuid"

	"github.com/fanfarehq/fanfare/fanout"
)

// How many times as long as a step took a replay rests at least, so that live events go in between. Counting has no
// rate that it must keep, and it would be half of what collects garbage.
const (
	restSending  = 2
	restCounting = 8
)

// pauseAfter returns how long to wait after a step that took so long; but a replay that sends does not rest where the rows
// written ahead would run out.
func pauseAfter(counting bool, wait, took time.Duration) time.Duration {
	if counting {
		return max(wait, restCounting*took)
	}
	if wait < -replayAhead/2 {
		return 0
	}
	return max(wait, restSending*took)
}

// course is a replay in this process's hands, between two steps.
type course struct {
	*fanout.Settling
	*replay           // nil: to be read
	renewed time.Time // when its lease was
	room    time.Time // when there was room for more of its deliveries
}

// counting says whether the step that was taken was one of counting.
func (c *course) counting() bool { return c.replay != nil && c.replay.state == replayCounting }

// hold keeps the lease, and returns the replay as it is. Whoever pauses or ends it meanwhile is found out when a stretch
// is written.
func (r *Replayer) hold(ctx context.Context, id uuid.UUID, at *course) (*replay, error) {
	now := time.Now()
	if at.replay != nil && now.Sub(at.renewed) < replayPoll {
		return at.replay, nil
	}
	p, err := r.store.renew(ctx, id, r.worker)
	at.replay, at.renewed = p, now
	return p, err
}

// crowded reports whether so many deliveries wait for the replay's subscription that it waits as well.
func (r *Replayer) crowded(ctx context.Context, at *course) (bool, error) {
	now := time.Now()
	if now.Sub(at.room) < replayPoll {
		return false, nil
	}
	most := max(backlogLeast, 2*at.rate)
	n, err := r.again.Backlog(ctx, at.subscription.UUID, most)
	if err != nil || n == most {
		return true, err
	}
	at.room = now
	return false, nil
}
