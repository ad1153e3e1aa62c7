package ingest

import (
	"context"
	"sync"
	"time"

	"github.com/fanfarehq/fanfare/internal/fair"
)

// bulkBody is how many bytes make a body bulk. Smaller ones do not wait for the rate.
const bulkBody = 64 << 10

// bulk bounds the bytes per second of large bodies, over all tenants, who take turns. The embedded broker keeps all that was
// written in the last ten seconds in the memory of this process. Nil bounds nothing.
type bulk struct {
	rate int64
	turn *fair.Places

	mu   sync.Mutex
	paid time.Time // when the bodies that went on are within the rate
}

func newBulk(rate int64) *bulk {
	if rate <= 0 {
		return nil
	}
	return &bulk{rate: rate, turn: fair.NewPlaces(1)}
}

// wait returns when a body may go on. The error is that of the context: there was no room within the rate in time.
func (b *bulk) wait(ctx context.Context, tenant string, bytes int) error {
	if b == nil || bytes < bulkBody {
		return nil
	}
	leave, err := b.turn.Enter(ctx, tenant)
	if err != nil {
		return err
	}
	defer leave()
	timer := time.NewTimer(time.Until(b.next()))
	defer timer.Stop()
	select {
	case <-timer.C:
		b.pay(bytes)
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

func (b *bulk) next() time.Time {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.paid
}

// pay takes a body from the rate.
func (b *bulk) pay(bytes int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if now := time.Now(); b.paid.Before(now) {
		b.paid = now
	}
	b.paid = b.paid.Add(time.Duration(bytes) * time.Second / time.Duration(b.rate))
}
