package deliver

import (
	"context"
	"sync"
)

// inHand bounds the deliveries of tasks that a worker has in hand. Tasks of the backlog leave an eighth of it
// to those of TASKS, which also come first. Among tenants with a backlog, the one that has the fewest
// deliveries in hand is next.
type inHand struct {
	most int

	mu      sync.Mutex
	taken   int
	tenants map[string]*holder
	shared  *holder // of TASKS
}

// holder is one tenant's part of the deliveries in hand.
type holder struct {
	taken int
	queue []*entrant // in order of arrival
}

// entrant waits for a part of it.
type entrant struct {
	weight  int
	granted chan struct{} // closed once the weight is taken
}

func newInHand(most int) *inHand {
	return &inHand{most: most, tenants: make(map[string]*holder), shared: new(holder)}
}

// backlogMost is how many of them the backlog may take.
func (h *inHand) backlogMost() int { return h.most - h.most/8 }

// acquire waits until a tenant may have weight more deliveries in hand; no tenant means tasks of TASKS. An error is
// that of the context. Who gets nil calls release.
func (h *inHand) acquire(ctx context.Context, tenant string, weight int) error {
	c := &entrant{weight: weight, granted: make(chan struct{})}
	h.mu.Lock()
	of := h.holder(tenant)
	of.queue = append(of.queue, c)
	h.grant()
	h.mu.Unlock()
	select {
	case <-c.granted:
		return nil
	default:
	}
	select {
	case <-c.granted:
		return nil
	case <-ctx.Done():
		h.giveUp(tenant, of, c)
		return context.Cause(ctx)
	}
}

// release gives back what acquire took.
func (h *inHand) release(tenant string, weight int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	of := h.holder(tenant)
	of.taken -= weight
	h.taken -= weight
	h.forget(tenant, of)
	h.grant()
}

// giveUp takes an entrant back that is not waited for any more.
func (h *inHand) giveUp(tenant string, of *holder, c *entrant) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for i, x := range of.queue {
		if x == c {
			of.queue = append(of.queue[:i], of.queue[i+1:]...)
			h.forget(tenant, of)
			h.grant() // It may have been in the way of smaller ones.
			return
		}
	}
	of.taken -= c.weight // It was granted in that moment.
	h.taken -= c.weight
	h.forget(tenant, of)
	h.grant()
}

func (h *inHand) holder(tenant string) *holder {
	if tenant == "" {
		return h.shared
	}
	of := h.tenants[tenant]
	if of == nil {
		of = new(holder)
		h.tenants[tenant] = of
	}
	return of
}

func (h *inHand) forget(tenant string, of *holder) {
	if of.taken == 0 && len(of.queue) == 0 && tenant != "" {
		delete(h.tenants, tenant)
	}
}

// grant gives free places to waiting entrants. The first entrant may exceed the bound, so that none is too large.
func (h *inHand) grant() {
	for len(h.shared.queue) > 0 && h.fits(h.shared, h.most) {
		h.give(h.shared)
	}
	for {
		next := h.neediest()
		if next == nil || !h.fits(next, h.backlogMost()) {
			return
		}
		h.give(next)
	}
}

func (h *inHand) fits(of *holder, most int) bool {
	return h.taken == 0 || h.taken+of.queue[0].weight <= most
}

// neediest returns the tenant that waits and has the fewest deliveries in hand.
func (h *inHand) neediest() (next *holder) {
	for _, of := range h.tenants {
		if len(of.queue) > 0 && (next == nil || of.taken < next.taken) {
			next = of
		}
	}
	return next
}

func (h *inHand) give(of *holder) {
	c := of.queue[0]
	of.queue[0] = nil
	of.queue = of.queue[1:]
	of.taken += c.weight
	h.taken += c.weight
	close(c.granted)
}
