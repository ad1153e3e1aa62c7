package deliver

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"sync"
	"time"

	"github.com/google/uuid"
	"github.com/hashicorp/golang-lru/v2/simplelru"

	"github.com/fanfarehq/fanfare/deliver/ledger"
	"github.com/fanfarehq/fanfare/deliver/outcome"
	"github.com/fanfarehq/fanfare/internal/router"
)

// maxPanics is how often handling a delivery may panic before it is quarantined.
const maxPanics = router.MaxPanics

// errPanicked ends a flight whose handling panicked. The delivery is handed back and tried again.
var errPanicked = errors.New("handling the delivery panicked")

// panics counts, in this process, how often the handling of each delivery panicked.
type panics struct {
	mu     sync.Mutex
	counts *simplelru.LRU[uuid.UUID, int]
}

// maxPanicking bounds how many deliveries are counted: a fault that all deliveries meet must not fill the memory.
const maxPanicking = 1 << 14

func newPanics() (*panics, error) {
	counts, err := simplelru.NewLRU[uuid.UUID, int](maxPanicking, nil)
	if err != nil {
		return nil, fmt.Errorf("count panics: %w", err)
	}
	return &panics{counts: counts}, nil
}

// count counts one more and returns how many there were.
func (p *panics) count(delivery uuid.UUID) int {
	p.mu.Lock()
	defer p.mu.Unlock()
	n, _ := p.counts.Get(delivery)
	p.counts.Add(delivery, n+1)
	return n + 1
}

// panicked counts a panic of a flight. The third one quarantines the delivery and ends it as dead; until then the error is
// errPanicked.
func (w *Worker) panicked(ctx context.Context, f *flight, cause any) (*outcome.Record, error) {
	n := w.panics.count(f.Delivery)
	w.metrics.Ledger.Panics.Inc()
	w.log.Error("delivery panicked", "delivery", f.Delivery, "times", n, "panic", cause, "stack", string(debug.Stack()))
	if n < maxPanics {
		return nil, fmt.Errorf("%w: %v", errPanicked, cause)
	}
	return w.condemn(ctx, f, fmt.Sprintf("handling delivery %s panicked %d times: %v", f.Delivery, n, cause))
}

// condemn quarantines a delivery and returns the record that ends it. If Postgres is away the delivery is tried again.
func (w *Worker) condemn(ctx context.Context, f *flight, why string) (*outcome.Record, error) {
	ctx, cancel := context.WithTimeout(recording(ctx), handOffTimeout)
	defer cancel()
	bad := ledger.Poison{
		Subject: "deliveries." + f.Delivery.String(), Seq: f.Seq, At: f.Created, Tenant: f.Tenant,
		Reason: ledger.QuarantineInternal, Detail: why, Data: []byte{},
	}
	if f.event != nil {
		bad.Data = f.event.Data
	}
	if err := w.ledger.Quarantine(ctx, bad); err != nil {
		return nil, errors.Join(errPanicked, err)
	}
	w.metrics.Ledger.Quarantined.Inc()
	w.log.Error("delivery quarantined", "delivery", f.Delivery, "event", f.EventID, "subscription", f.Subscription, "cause", why)
	return f.record(outcome.Dead, outcome.ReasonProtocol, w.now()), nil
}

// guarded takes a flight to its record. A panic counts for the delivery.
func (w *Worker) guarded(ctx context.Context, f *flight, fly func() (*outcome.Record, error)) (r *outcome.Record, err error) {
	defer func() {
		if p := recover(); p != nil {
			r, err = w.panicked(ctx, f, p)
		}
	}()
	return fly()
}

// survive runs a piece of background work and reports whether it panicked.
func (w *Worker) survive(name string, work func()) (panicked bool) {
	defer func() {
		if p := recover(); p != nil {
			panicked = true
			w.outlived(name, p)
		}
	}()
	work()
	return false
}

// outlived reports a panic that no delivery is known for.
func (w *Worker) outlived(name string, cause any) {
	w.metrics.Ledger.Panics.Inc()
	w.log.Error("background work panicked", "work", name, "panic", cause, "stack", string(debug.Stack()))
}

// lasting returns a loop that begins again a second after it panicked, until ctx ends.
func (w *Worker) lasting(ctx context.Context, name string, loop func(context.Context)) func() {
	return func() {
		for w.survive(name, func() { loop(ctx) }) {
			select {
			case <-time.After(time.Second):
			case <-ctx.Done():
				return
			}
		}
	}
}
