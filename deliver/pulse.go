package deliver

import (
	"context"
	"sync/atomic"
	"time"
)

// A process that was stopped for a while (SIGSTOP, a suspended machine) has lost its tasks to others without
// knowing. The pulse tells: an attempt begun before a pause must not be sent after it.
const (
	pulseEvery = time.Second
	// pulseLost is the pause after which tasks may be with others; well below jetstream.AckWait, less
	// the time between two heartbeats of a message.
	pulseLost = 6 * time.Second
)

// pulse beats once a second. The zero value has not begun to beat; see run.
type pulse struct {
	start time.Time // the monotonic clock counts from here
	last  atomic.Int64
	epoch atomic.Uint64 // grows with each pause
}

// newPulse makes a pulse that has just beaten.
func newPulse() *pulse {
	return &pulse{start: time.Now()}
}

// run beats until ctx ends.
func (p *pulse) run(ctx context.Context) {
	ticker := time.NewTicker(pulseEvery)
	defer ticker.Stop()
	for {
		select {
		case <-ticker.C:
			p.beat()
		case <-ctx.Done():
			return
		}
	}
}

// beat notes that the process lives, and whether it did not for a while.
func (p *pulse) beat() {
	now := int64(time.Since(p.start))
	if now-p.last.Load() > int64(pulseLost) {
		p.epoch.Add(1)
	}
	p.last.Store(now)
}

// now returns the epoch, to be compared later.
func (p *pulse) now() uint64 { return p.epoch.Load() }

// steady reports whether the process has lived without a pause since the epoch.
func (p *pulse) steady(epoch uint64) bool {
	// After a pause this may run before the next beat does.
	return p.epoch.Load() == epoch && int64(time.Since(p.start))-p.last.Load() < int64(pulseLost)
}
