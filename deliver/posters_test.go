package deliver_test

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"github.com/google/uuid"

	"github.com/fanfarehq/fanfare/deliver"
	"github.com/fanfarehq/fanfare/deliver/webhook"
)

// What stands between a worker and its poster.

// posterFunc stands between a worker and its poster.
type posterFunc func(ctx context.Context, a webhook.Attempt) webhook.Result

func (f posterFunc) Send(ctx context.Context, a webhook.Attempt) webhook.Result { return f(ctx, a) }

// countingPoster counts attempts, and those that are under way.
type countingPoster struct {
	deliver.Attempter
	n, now atomic.Int64
}

// Send sends.
func (p *countingPoster) Send(ctx context.Context, a webhook.Attempt) webhook.Result {
	p.n.Add(1)
	p.now.Add(1)
	defer p.now.Add(-1)
	return p.Attempter.Send(ctx, a)
}

// watchedPoster counts the requests that one subscription has in flight.
type watchedPoster struct {
	deliver.Attempter
	of        atomic.Pointer[uuid.UUID]
	now, most atomic.Int64
}

// Send sends.
func (p *watchedPoster) Send(ctx context.Context, a webhook.Attempt) webhook.Result {
	if id := p.of.Load(); id == nil || *id != a.Subscription.ID {
		return p.Attempter.Send(ctx, a)
	}
	n := p.now.Add(1)
	defer p.now.Add(-1)
	for {
		most := p.most.Load()
		if n <= most || p.most.CompareAndSwap(most, n) {
			return p.Attempter.Send(ctx, a)
		}
	}
}

// timedPoster notes when attempts were begun.
type timedPoster struct {
	deliver.Attempter
	mu    *sync.Mutex
	begun *[]int64  // us since 1970
	only  uuid.UUID // of this subscription; of all if it is zero
}

// Send sends.
func (p timedPoster) Send(ctx context.Context, a webhook.Attempt) webhook.Result {
	if p.only == uuid.Nil || p.only == a.Subscription.ID {
		p.mu.Lock()
		*p.begun = append(*p.begun, time.Now().UnixMicro())
		p.mu.Unlock()
	}
	return p.Attempter.Send(ctx, a)
}
