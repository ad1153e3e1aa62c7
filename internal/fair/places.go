package fair

import (
	"container/list"
	"context"
	"sync"
)

// Places are shared by tenants in turn.
type Places struct {
	mu    sync.Mutex
	free  int
	queue map[string]*list.List // the waiting requests of a tenant: chan struct{}, closed with a place
	turns *list.List            // the tenants that wait, the next one first
}

// NewPlaces makes n places.
func NewPlaces(n int) *Places {
	return &Places{free: n, queue: map[string]*list.List{}, turns: list.New()}
}

// Enter waits for a place and returns the function that gives it back; the error is the context's.
func (p *Places) Enter(ctx context.Context, tenant string) (leave func(), err error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	p.mu.Lock()
	if p.free > 0 {
		p.free--
		p.mu.Unlock()
		return p.leave, nil
	}
	granted := make(chan struct{})
	place := p.wait(tenant, granted)
	p.mu.Unlock()
	select {
	case <-granted:
		return p.leave, nil
	case <-ctx.Done():
	}
	p.mu.Lock()
	select {
	case <-granted: // at the same moment: the place goes on
		p.mu.Unlock()
		p.leave()
	default:
		p.forget(tenant, place)
		p.mu.Unlock()
	}
	return nil, ctx.Err()
}

// wait queues a request of a tenant. The caller holds mu.
func (p *Places) wait(tenant string, granted chan struct{}) *list.Element {
	q := p.queue[tenant]
	if q == nil {
		q = list.New()
		p.queue[tenant] = q
		p.turns.PushBack(tenant)
	}
	return q.PushBack(granted)
}

// forget removes a request that no longer waits. The caller holds mu. Its tenant's turn is skipped by leave.
func (p *Places) forget(tenant string, place *list.Element) {
	if q := p.queue[tenant]; q != nil {
		q.Remove(place)
	}
}

// leave gives a place to the first request of the tenant whose turn it is, and puts the tenant behind the others.
func (p *Places) leave() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for turn := p.turns.Front(); turn != nil; turn = p.turns.Front() {
		tenant := turn.Value.(string)
		q := p.queue[tenant]
		first := q.Front()
		if first != nil {
			q.Remove(first)
		}
		if q.Len() > 0 {
			p.turns.MoveToBack(turn)
		} else {
			p.turns.Remove(turn)
			delete(p.queue, tenant)
		}
		if first != nil {
			close(first.Value.(chan struct{}))
			return
		}
	}
	p.free++
}
