package throttle

import (
	"encoding/binary"
	"slices"
	"sync"

	"github.com/google/uuid"
)

// counts is how many counts of the workers a share is computed from. The smallest of them holds, so a share shrinks with
// the next count and grows only after all other workers have counted as well.
const counts = 3

// Workers shares max_in_flight among all workers. The shares of a subscription add up to its max_in_flight if all workers
// count the same workers. A nil Workers gives the whole to each worker.
type Workers struct {
	mu      sync.RWMutex
	latest  []place // the last counts, the newest last
	counted chan struct{}
}

// place is a worker's position among the live workers.
type place struct{ workers, rank int }

// NewWorkers returns Workers before the first count: every share is 0.
func NewWorkers() *Workers { return &Workers{counted: make(chan struct{})} }

// Counted is closed when shares are valid: at once if the first count found this worker alone, else after three counts.
func (w *Workers) Counted() <-chan struct{} { return w.counted }

// Count takes the number of live workers, this one included, and its rank among them, from 0. It is to be called
// every few seconds, at the same interval by every worker.
func (w *Workers) Count(workers, rank int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	p := place{workers, rank}
	before := len(w.latest)
	w.latest = append(w.latest, p)
	switch {
	case before == 0 && workers == 1:
		w.latest = slices.Repeat([]place{p}, counts)
	case before == counts:
		w.latest = slices.Delete(w.latest, 0, 1)
	}
	if before < counts && len(w.latest) == counts {
		close(w.counted)
	}
}

// share returns how many of most requests at once of a subscription are this worker's; it may be 0.
func (w *Workers) share(subscription uuid.UUID, most int) int {
	if w == nil {
		return most
	}
	w.mu.RLock()
	defer w.mu.RUnlock()
	if len(w.latest) < counts {
		return 0
	}
	share := most
	for _, p := range w.latest {
		share = min(share, p.share(subscription, most))
	}
	return share
}

// share divides most evenly. The remainder goes to other workers for each subscription: the random bits of its id rotate
// the ranks.
func (p place) share(subscription uuid.UUID, most int) int {
	turn := int(binary.BigEndian.Uint64(subscription[8:]) % uint64(p.workers))
	share := most / p.workers
	if (p.rank+turn)%p.workers < most%p.workers {
		share++
	}
	return share
}
