// Package retry repeats work that fails because something is away: a piece of work comes in, and its error goes out once it
// succeeded, failed for good, or a context ended. It promises ever longer pauses, spread by chance, so that the callers that
// lost one dependency do not return in step.
package retry

import (
	"context"
	"math/rand/v2"
	"time"
)

// Pauses are those between tries: about First, then each time twice as long, up to about Most. Each is between half and one and
// a half of that.
type Pauses struct{ First, Most time.Duration }

// Until calls do until it succeeds, and at least once. It returns the error of the last try if ctx ended, or if again says that
// another would not help. A failure after the end of ctx is not shown to again.
func Until(ctx context.Context, pauses Pauses, do func() error, again func(error) bool) error {
	for pause := pauses.First; ; pause = min(2*pause, pauses.Most) {
		err := do()
		if err == nil || ctx.Err() != nil || !again(err) {
			return err
		}
		select {
		case <-time.After(pause/2 + rand.N(pause)):
		case <-ctx.Done():
			return err
		}
	}
}
