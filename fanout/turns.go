package fanout

import (
	"context"
	"sync"

	"github.com/fanfarehq/fanfare/internal/event"
)

// turns lets one event of a key through at a time, so that of two with the same id the second finds the first
// in the ledger.
type turns struct {
	mu sync.Mutex
	// taken holds the keys under way. The channel is closed when the turn ends; nil as long as nobody waits.
	taken map[event.Key]chan struct{}
}

// enter waits for the key's turn. An error is that of the context; the turn is then not taken.
func (t *turns) enter(ctx context.Context, key event.Key) error {
	for {
		t.mu.Lock()
		if t.taken == nil {
			t.taken = make(map[event.Key]chan struct{})
		}
		ended, busy := t.taken[key]
		switch {
		case !busy:
			t.taken[key] = nil
		case ended == nil:
			ended = make(chan struct{})
			t.taken[key] = ended
		}
		t.mu.Unlock()
		if !busy {
			return nil
		}
		select {
		case <-ended:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// leave ends the key's turn.
func (t *turns) leave(key event.Key) {
	t.mu.Lock()
	ended := t.taken[key]
	delete(t.taken, key)
	t.mu.Unlock()
	if ended != nil {
		close(ended)
	}
}
