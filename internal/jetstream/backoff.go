package jetstream

import (
	"context"
	"math/rand/v2"
	"time"
)

// backOff pauses ever longer between tries: from 250 ms to 10 s, less up to a half by chance, so that the
// processes that lost one broker do not return in step.
type backOff struct{ next time.Duration }

// wait pauses. It returns false if ctx ended.
func (b *backOff) wait(ctx context.Context) bool {
	b.next = min(max(250*time.Millisecond, 2*b.next), 10*time.Second)
	timer := time.NewTimer(b.next - rand.N(b.next/2))
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}
