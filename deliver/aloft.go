package deliver

import (
	"slices"
	"sync"

	"github.com/google/uuid"
)

// aloft holds the deliveries of the messages in hand. A fan-out that does not learn that its tasks are on disk sends them
// again: the second message must not make deliveries that the first is making, and whose outcomes the ledger cannot know yet.
type aloft struct {
	mu  sync.Mutex
	ids map[uuid.UUID]struct{}
}

func newAloft() *aloft { return &aloft{ids: make(map[uuid.UUID]struct{})} }

// enter marks the flights whose delivery another message has in hand, and holds those of the others until leave.
func (a *aloft) enter(flights []*flight) (leave func()) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, f := range flights {
		if _, f.twin = a.ids[f.Delivery]; !f.twin {
			a.ids[f.Delivery] = struct{}{}
		}
	}
	held := slices.Clone(flights)
	return func() {
		a.mu.Lock()
		defer a.mu.Unlock()
		for _, f := range held {
			if !f.twin {
				delete(a.ids, f.Delivery)
			}
		}
	}
}
