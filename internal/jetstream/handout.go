package jetstream

import (
	"slices"
	"sync"
)

// reserve keeps room for other keys: a key may have with handlers so many times as many messages as
// there is room left.
const reserve = 7

// ready holds the messages that wait for a handler, in a queue for each key. The keys are served in
// turn, and no key takes all handlers. Without keyOf there is one queue, which may take all.
type ready struct {
	keyOf func(subject string) string
	most  int // messages with handlers, over all keys

	mu     sync.Mutex
	queues map[string]*readyQueue
	turns  []*readyQueue // those that are not empty, in the order of their turns
	chosen int           // the place in turns of the message that next returned
	// handed is how many messages have handlers. A quick handler is done before take counts its message: then it is
	// one too low for a moment.
	handed int
	idle   chan struct{} // closed when no message has a handler; nil while nobody waits for that
}

// readyQueue holds the messages of one key.
type readyQueue struct {
	waiting []*delivery
	head    int // the first that still waits
	handed  int // messages with handlers
}

func newReady(most int, keyOf func(subject string) string) *ready {
	return &ready{keyOf: keyOf, most: most, queues: make(map[string]*readyQueue)}
}

// add puts a message at the end of its key's queue.
func (r *ready) add(d *delivery) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.keyOf != nil {
		d.key = r.keyOf(d.Subject)
	}
	q := r.queues[d.key]
	if q == nil {
		q = new(readyQueue)
		r.queues[d.key] = q
	}
	if q.empty() {
		r.turns = append(r.turns, q)
	}
	q.waiting = append(q.waiting, d)
}

// next returns the message to hand out; nil if none waits or none may have a handler now. It stays in
// its queue until take is called.
func (r *ready) next() *delivery {
	r.mu.Lock()
	defer r.mu.Unlock()
	free := r.most - r.handed
	if free <= 0 {
		return nil
	}
	for i, q := range r.turns {
		if r.keyOf == nil || q.handed < reserve*free {
			r.chosen = i
			return q.waiting[q.head]
		}
	}
	return nil
}

// take removes the message that next returned: a handler has it. The queue's next turn is after those
// of the others.
func (r *ready) take() {
	r.mu.Lock()
	defer r.mu.Unlock()
	q := r.turns[r.chosen]
	r.turns = slices.Delete(r.turns, r.chosen, r.chosen+1)
	key := q.waiting[q.head].key
	q.pop()
	q.handed++
	r.handed++
	if !q.empty() {
		r.turns = append(r.turns, q)
	}
	r.drop(q, key)
}

// done makes the room of a message that was handed out another's.
func (r *ready) done(d *delivery) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.handed--
	q := r.queues[d.key]
	q.handed--
	r.drop(q, d.key)
	if r.handed == 0 && r.idle != nil {
		close(r.idle)
		r.idle = nil
	}
}

// drop forgets the queue of a key that has no messages left.
func (r *ready) drop(q *readyQueue, key string) {
	if r.keyOf != nil && q.handed == 0 && q.empty() {
		delete(r.queues, key)
	}
}

// allDone returns a channel that is closed when no message has a handler. None may be taken any more.
func (r *ready) allDone() <-chan struct{} {
	r.mu.Lock()
	defer r.mu.Unlock()
	idle := make(chan struct{})
	if r.handed == 0 {
		close(idle)
	} else {
		r.idle = idle
	}
	return idle
}

// all returns the messages that wait.
func (r *ready) all() (list []*delivery) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, q := range r.turns {
		list = append(list, q.waiting[q.head:]...)
	}
	return list
}

func (q *readyQueue) empty() bool { return q.head == len(q.waiting) }

// pop removes the first message. The room of those before it is used again.
func (q *readyQueue) pop() {
	q.waiting[q.head] = nil
	q.head++
	switch {
	case q.empty():
		q.waiting, q.head = q.waiting[:0], 0
	case q.head >= 1024 && q.head > len(q.waiting)/2:
		n := copy(q.waiting, q.waiting[q.head:])
		clear(q.waiting[n:])
		q.waiting, q.head = q.waiting[:n], 0
	}
}
