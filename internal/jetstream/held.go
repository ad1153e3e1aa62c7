package jetstream

import (
	"maps"
	"slices"
	"sync"
)

// held is the set of messages that the broker gave to one subscription and waits for an answer to: those that
// handlers work on, and those that wait to be handed out.
type held struct {
	mu         sync.Mutex
	deliveries map[place]*delivery
	bytes      int // of their payloads
}

// place tells messages apart, also those of a stream that was deleted and made anew.
type place struct {
	sequence uint64
	stored   int64
}

func (d *delivery) place() place { return place{d.Sequence, d.Timestamp.UnixNano()} }

func newHeld() *held { return &held{deliveries: make(map[place]*delivery)} }

// take adds a message. It returns false if the message is held already, because the broker gave it out
// again: the answer to the first is then the answer to both.
func (h *held) take(d *delivery) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	if first, again := h.deliveries[d.place()]; again {
		first.reply = d.reply
		return false
	}
	h.deliveries[d.place()] = d
	h.bytes += d.size
	return true
}

// replyOf returns where the answer to a message goes.
func (h *held) replyOf(d *delivery) string {
	h.mu.Lock()
	defer h.mu.Unlock()
	return d.reply
}

// release removes a message.
func (h *held) release(d *delivery) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.deliveries[d.place()] == d {
		delete(h.deliveries, d.place())
		h.bytes -= d.size
	}
}

// size returns how many messages there are, and their bytes.
func (h *held) size() (messages, bytes int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	return len(h.deliveries), h.bytes
}

// slow returns where the broker hears of the progress of the messages that were held at the last call already.
func (h *held) slow() (replies []string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, d := range h.deliveries {
		if d.seen {
			replies = append(replies, d.reply)
		}
		d.seen = true
	}
	return replies
}

// doubt makes all messages suspect: the broker may have given them to others.
func (h *held) doubt() {
	for _, d := range h.all() {
		d.suspect.Store(true)
	}
}

// all returns the messages.
func (h *held) all() []*delivery {
	h.mu.Lock()
	defer h.mu.Unlock()
	return slices.Collect(maps.Values(h.deliveries))
}
