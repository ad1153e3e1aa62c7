package fanout

import (
	"context"
	"errors"
	"runtime"
	"strconv"
	"sync"
	"time"

	"github.com/fanfarehq/fanfare/internal/api"
	"github.com/fanfarehq/fanfare/internal/fair"
)

const (
	// previewsEach is how many previews of a tenant may be asked for at once, those that wait included.
	previewsEach = 2
	// previewWait is how long a preview waits for its place.
	previewWait = 5 * time.Second
)

// errPreviews says that too many previews of other tenants are under way.
var errPreviews = errors.New("too many previews are under way")

// previews bounds how many previews run at once: each reads up to 100,000 events and runs a filter on them. Half of the cores, at least one,
// are theirs, and tenants take turns.
type previews struct {
	places *fair.Places

	mu   sync.Mutex
	each map[string]int // by tenant
}

func newPreviews() *previews {
	return &previews{places: fair.NewPlaces(max(1, runtime.GOMAXPROCS(0)/2)), each: map[string]int{}}
}

// enter waits for a place. The error is a 429 where the tenant has too many previews under way, and a 503 where no place was free in time.
func (p *previews) enter(ctx context.Context, tenant string) (leave func(), err error) {
	if !p.count(tenant) {
		return nil, api.TooManyRequests("only "+strconv.Itoa(previewsEach)+" previews of a tenant may run at once",
			int(previewTime/time.Second))
	}
	waiting, cancel := context.WithTimeout(ctx, previewWait)
	defer cancel()
	free, err := p.places.Enter(waiting, tenant)
	if err != nil {
		p.uncount(tenant)
		return nil, api.Unavailable(errPreviews)
	}
	return func() {
		free()
		p.uncount(tenant)
	}, nil
}

func (p *previews) count(tenant string) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.each[tenant] == previewsEach {
		return false
	}
	p.each[tenant]++
	return true
}

func (p *previews) uncount(tenant string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.each[tenant]--; p.each[tenant] == 0 {
		delete(p.each, tenant)
	}
}
