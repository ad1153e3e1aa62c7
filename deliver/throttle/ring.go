package throttle

import "slices"

// ring serves queues in turn: one item of each, in the order of arrival within a queue.
type ring[K comparable, T any] struct {
	queues map[K]*queue[K, T]
	order  []*queue[K, T] // the next to be served comes first
	size   int
}

type queue[K comparable, T any] struct {
	key   K
	items []T
}

// push adds an item to the end of a queue.
func (r *ring[K, T]) push(key K, item T) {
	q := r.queues[key]
	if q == nil {
		if r.queues == nil {
			r.queues = make(map[K]*queue[K, T])
		}
		q = &queue[K, T]{key: key}
		r.queues[key] = q
		r.order = append(r.order, q)
	}
	q.items = append(q.items, item)
	r.size++
}

// pop removes the next item. There must be one.
func (r *ring[K, T]) pop() (K, T) {
	q := r.order[0]
	item := q.items[0]
	var none T
	q.items[0] = none
	q.items = q.items[1:]
	r.size--
	switch {
	case len(q.items) == 0:
		delete(r.queues, q.key)
		r.order[0] = nil
		r.order = r.order[1:]
	case len(r.order) > 1:
		r.order[0] = nil
		r.order = append(r.order[1:], q)
	}
	return q.key, item
}

// remove removes an item of a queue and reports whether it was there.
func (r *ring[K, T]) remove(key K, is func(T) bool) bool {
	q := r.queues[key]
	if q == nil {
		return false
	}
	i := slices.IndexFunc(q.items, is)
	if i < 0 {
		return false
	}
	q.items = slices.Delete(q.items, i, i+1)
	r.size--
	if len(q.items) == 0 {
		delete(r.queues, key)
		i = slices.Index(r.order, q)
		r.order = slices.Delete(r.order, i, i+1)
	}
	return true
}
