package subscriptions

import "sync"

// maxWholes is how many Subscriptions a Directory keeps in full, about 1 KiB each; the others are made of
// their entries when they are asked for, which takes some microseconds.
const maxWholes = 1 << 16

// wholes bounds how many entries hold their Subscription: the one that has held it longest gives it up.
type wholes struct {
	mu   sync.Mutex
	ring []*entry
	next int
}

// keep lets an entry hold a Subscription and returns the one that it holds, which may be another caller's.
func (w *wholes) keep(e *entry, s *Subscription) *Subscription {
	w.mu.Lock()
	defer w.mu.Unlock()
	if held := e.whole.Load(); held != nil {
		return held
	}
	if len(w.ring) < maxWholes {
		w.ring = append(w.ring, e)
	} else {
		w.ring[w.next].whole.Store(nil)
		w.ring[w.next] = e
		w.next = (w.next + 1) % maxWholes
	}
	e.whole.Store(s)
	return s
}
