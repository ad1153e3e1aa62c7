package seal

import (
	"errors"
	"fmt"
	"sync/atomic"
	"time"
)

// troubleFor is how long after bytes did not open a Ring reports it. Deliveries that wait for a key try again sooner.
const troubleFor = 5 * time.Minute

// failures count what a Ring could not open.
type failures struct {
	unknown, damaged atomic.Uint64
	last             atomic.Pointer[failure] // by a key that the ring lacks
}

type failure struct {
	at  time.Time
	err error
}

func (f *failures) note(err error) {
	if !errors.Is(err, ErrUnknownKey) {
		f.damaged.Add(1)
		return
	}
	f.unknown.Add(1)
	f.last.Store(&failure{time.Now(), err})
}

// Failures counts what did not open: for want of its key, and because it is damaged or belongs elsewhere.
func (r *Ring) Failures() (unknown, damaged uint64) {
	return r.failures.unknown.Load(), r.failures.damaged.Load()
}

// Trouble is why the ring lately lacked a key that other processes seal with; nil if it did not. Damaged bytes concern their own
// row only.
func (r *Ring) Trouble() error {
	last := r.failures.last.Load()
	if last == nil || time.Since(last.at) > troubleFor {
		return nil
	}
	return fmt.Errorf("%w (%s ago): give this process the FANFARE_SECRET_KEYS of the others", last.err, time.Since(last.at).Round(time.Second))
}
