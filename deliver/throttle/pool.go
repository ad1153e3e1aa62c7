package throttle

import (
	"container/heap"
	"time"

	"github.com/google/uuid"
)

// reservePart is which part of a pool is reserved for tenants below their share: one in so many.
const reservePart = 8

// pool shares places among tenants by how many each holds, and each tenant's among its subscriptions in
// turn. Two rules decide which tenant may take a free place:
//
//   - A tenant below its share may take any. The share is an equal part for each tenant that used the
//     pool lately, and one part more, so that a tenant alone has no more than half of the pool as its share.
//   - Beyond its share a tenant may take places as long as more than the reserve is free.
//
// A place is held for as long as a receiver takes, so the pool compares places held, not places given:
// a tenant with slow receivers holds no more than others although each of its requests takes longer.
type pool struct {
	size, free int
	tenants    map[string]*share // of those that used it lately
	waiting    shares            // of those that wait
	waiters    int
}

// share is what one tenant has of a pool.
type share struct {
	pool  *pool
	held  int
	users int // tickets that point here
	due   int // deliveries that were put off before and wait in line again
	queue ring[uuid.UUID, *Ticket]
	index int // in pool.waiting; meaningless if nothing waits

	used  time.Time     // when a place was taken or given back last
	freed time.Time     // when a place was given back last
	hold  time.Duration // how long its requests hold a place, about
}

func newPool(size int) pool { return pool{size: size, free: size, tenants: make(map[string]*share)} }

// of returns a tenant's share. Whoever asks counts as a user until leave.
func (p *pool) of(tenant string, now time.Time) *share {
	s := p.tenants[tenant]
	if s == nil {
		s = &share{pool: p, freed: now}
		p.tenants[tenant] = s
	}
	s.users++
	return s
}

// below reports whether the tenant holds less than its share.
func (s *share) below() bool { return s.held < max(s.pool.size/(len(s.pool.tenants)+1), 1) }

// may reports whether the tenant may take a place.
func (s *share) may() bool {
	p := s.pool
	return p.free > 0 && (p.free > p.size/reservePart || s.below())
}

// free reports whether the tenant has a place at once.
func (s *share) free() bool { return s.queue.size == 0 && s.may() }

// take takes a place for a ticket, or puts it in the queue.
func (s *share) take(t *Ticket, now time.Time) bool {
	if s.free() {
		s.give(now)
		return true
	}
	s.queue.push(t.Subscription.ID, t)
	s.pool.waiters++
	if s.queue.size == 1 {
		heap.Push(&s.pool.waiting, s)
	}
	return false
}

func (s *share) give(now time.Time) {
	s.pool.free--
	s.held++
	s.used = now
}

// put gives a place back that was held for a time, and grants places to those who wait.
func (s *share) put(now time.Time, held time.Duration) {
	s.pool.free++
	s.held--
	s.used, s.freed = now, now
	s.hold += (held - s.hold) / 8
	if s.queue.size > 0 {
		heap.Fix(&s.pool.waiting, s.index)
	}
	s.pool.serve(now)
}

// serve grants free places: the tenant that holds fewest comes first.
func (p *pool) serve(now time.Time) {
	for len(p.waiting) > 0 && p.waiting[0].may() {
		s := p.waiting[0]
		_, t := s.queue.pop()
		p.waiters--
		s.give(now)
		if s.queue.size > 0 {
			heap.Fix(&p.waiting, 0)
		} else {
			heap.Pop(&p.waiting)
		}
		t.grant()
	}
}

// abandon takes a ticket out of the queue; false if it was granted a place already.
func (s *share) abandon(t *Ticket) bool {
	if !s.queue.remove(t.Subscription.ID, func(x *Ticket) bool { return x == t }) {
		return false
	}
	s.pool.waiters--
	if s.queue.size == 0 {
		heap.Remove(&s.pool.waiting, s.index)
	}
	return true
}

// slow reports whether the tenant's places do not come free within a second or so.
func (s *share) slow(now time.Time) bool { return s.hold > slowHold || now.Sub(s.freed) > slowHold }

// sweep forgets tenants that have not used the pool for a while.
func (p *pool) sweep(now time.Time) {
	for tenant, s := range p.tenants {
		if s.users == 0 && now.Sub(s.used) > shareKept {
			delete(p.tenants, tenant)
		}
	}
}

// shareKept is how long a tenant counts after it used a pool.
const shareKept = 10 * time.Second

// shares is a heap of the tenants that wait: the one that holds fewest comes first.
type shares []*share

func (h shares) Len() int           { return len(h) }
func (h shares) Less(i, j int) bool { return h[i].held < h[j].held }

// Swap keeps the indexes right.
func (h shares) Swap(i, j int) {
	h[i], h[j] = h[j], h[i]
	h[i].index, h[j].index = i, j
}

// Push is for package heap.
func (h *shares) Push(x any) {
	s := x.(*share)
	s.index = len(*h)
	*h = append(*h, s)
}

// Pop is for package heap.
func (h *shares) Pop() any {
	old := *h
	s := old[len(old)-1]
	old[len(old)-1] = nil
	*h = old[:len(old)-1]
	return s
}
