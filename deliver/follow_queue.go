package deliver

import (
	"slices"
	"sync"

	"github.com/google/uuid"

	"github.com/fanfarehq/fanfare/deliver/ledger"
)

// changes queues the subscriptions to follow, fair by tenant: tenants have their turn one after the other, and so have the
// subscriptions of each. A subscription is queued once, as it was last seen.
type changes struct {
	ready chan struct{} // holds one for each hand that may find work

	mu      sync.Mutex
	tenants []string // in the order of their turns
	queued  map[string][]*ledger.Change
	running map[uuid.UUID]*ledger.Change
}

// add queues changes.
func (q *changes) add(list ...ledger.Change) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for _, c := range list {
		q.put(&c)
	}
}

// put queues a change, in the place of an older one of its subscription.
func (q *changes) put(c *ledger.Change) {
	if q.queued == nil {
		q.queued, q.running = make(map[string][]*ledger.Change), make(map[uuid.UUID]*ledger.Change)
	}
	list := q.queued[c.Tenant]
	i := slices.IndexFunc(list, func(other *ledger.Change) bool { return other.ID == c.ID })
	switch {
	case i >= 0 && list[i].Revision <= c.Revision:
		list[i] = c
	case i < 0:
		if len(list) == 0 {
			q.tenants = append(q.tenants, c.Tenant)
		}
		q.queued[c.Tenant] = append(list, c)
	}
	select {
	case q.ready <- struct{}{}:
	default:
	}
}

// next takes the first change of the next tenant that has one whose subscription is not in hand.
func (q *changes) next() (*ledger.Change, bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for n, tenant := range q.tenants {
		list := q.queued[tenant]
		i := slices.IndexFunc(list, func(c *ledger.Change) bool { return q.running[c.ID] == nil })
		if i < 0 {
			continue
		}
		c := list[i]
		q.running[c.ID] = c
		q.tenants = slices.Delete(q.tenants, n, n+1)
		if list = slices.Delete(list, i, i+1); len(list) > 0 {
			q.queued[tenant] = list
			q.tenants = append(q.tenants, tenant)
		} else {
			delete(q.queued, tenant)
		}
		return c, true
	}
	return nil, false
}

// done ends a turn. With more to do, the subscription has its next one after all others.
func (q *changes) done(c *ledger.Change, more bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	delete(q.running, c.ID)
	if more && !slices.ContainsFunc(q.queued[c.Tenant], func(other *ledger.Change) bool { return other.ID == c.ID }) {
		q.put(c)
		return
	}
	select {
	case q.ready <- struct{}{}: // A newer change of the subscription may wait.
	default:
	}
}
