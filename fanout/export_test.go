package fanout

import (
	"context"
	"iter"
	"time"
)

// SetClock makes a Reconciler believe that it is another time.
func SetClock(r *Reconciler, now func() time.Time) { r.now = now }

// StepOf is how many events a step of a replay looks at.
func StepOf(state string, rate int) int {
	return (&replay{state: replayState(state), rate: rate}).most()
}

// PauseAfter is how long a replay waits after a step.
func PauseAfter(counting bool, wait, took time.Duration) time.Duration {
	return pauseAfter(counting, wait, took)
}

// Between reads the events of a tenant between two places.
func Between(ctx context.Context, r *Reader, tenant string, low, high uint64) iter.Seq2[*Event, error] {
	return r.between(ctx, tenant, low, high)
}

// NewPreviews makes the bound of previews at once; the function that it returns waits for a place.
func NewPreviews() func(ctx context.Context, tenant string) (leave func(), err error) {
	return newPreviews().enter
}
