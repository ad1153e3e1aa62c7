package ingest

import (
	"context"
	"errors"
	"slices"
	"sync"
)

// errCrowded says that more requests wait than may, or for too long.
var errCrowded = errors.New("too many requests wait")

const (
	// firstPart is how much of a body is read before its whole length has room: announcing it is not enough.
	firstPart = 64 << 10
	// shares is how many shares there are of the room and of the places to wait: a tenant has one.
	shares = 4
	// maxOvertaken is how many small requests may go before a large one that waits.
	maxOvertaken = 256
)

// door bounds the memory of the requests under way, and how many wait for it: of all, and of each tenant a share.
type door struct {
	mu         sync.Mutex
	total      int64
	free       int64
	maxWaiting int
	used       map[string]int64 // by tenant
	queued     map[string]int   // by tenant
	small      []*guest         // go before large
	large      []*guest
}

// guest is a request that waits for room.
type guest struct {
	tenant    string
	bytes     int64
	overtaken int
	let       chan struct{} // closed when it has its room
}

func newDoor(cfg Config) *door {
	return &door{
		total: cfg.Memory, free: cfg.Memory, maxWaiting: cfg.MaxWaiting, used: map[string]int64{}, queued: map[string]int{},
	}
}

// weight is about what a request of so many bytes takes in memory until it is answered: its body, and for each
// event of the usual size a message, its headers and its place in two groups.
func weight(bytes int64) int64 { return 16<<10 + 4*bytes }

// enter waits for room of so many bytes. The empty tenant is a caller over all tenants, with three shares.
func (d *door) enter(ctx context.Context, tenant string, bytes int64, small bool) error {
	d.mu.Lock()
	list := &d.large
	if small {
		list = &d.small
	}
	g := &guest{tenant: tenant, bytes: bytes, let: make(chan struct{})}
	*list = append(*list, g)
	d.queued[tenant]++
	d.admit()
	if g.admitted() {
		d.mu.Unlock()
		return nil
	}
	if len(d.small)+len(d.large) > d.maxWaiting || d.queued[tenant] > max(1, d.share(tenant, int64(d.maxWaiting))) {
		d.remove(list, g)
		d.mu.Unlock()
		return errCrowded
	}
	d.mu.Unlock()
	select {
	case <-g.let:
		return nil
	case <-ctx.Done():
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if g.admitted() {
		return nil
	}
	d.remove(list, g)
	d.admit()
	return errCrowded
}

// leave gives room back.
func (d *door) leave(tenant string, bytes int64) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.free += bytes
	if d.used[tenant] -= bytes; d.used[tenant] == 0 {
		delete(d.used, tenant)
	}
	d.admit()
}

// share is a tenant's part of a whole.
func (d *door) share(tenant string, whole int64) int {
	if tenant == "" {
		return int(whole / shares * (shares - 1))
	}
	return int(whole / shares)
}

// admit lets requests in as room allows, small ones first. One that its own tenant's share keeps out holds nobody up.
func (d *door) admit() {
	patient := len(d.large) > 0 && d.large[0].overtaken < maxOvertaken
	if len(d.large) == 0 || patient {
		n := d.let(&d.small)
		for _, g := range d.large {
			g.overtaken += n
		}
	}
	d.let(&d.large)
	if len(d.large) > 0 && !patient && d.used[d.large[0].tenant]+d.large[0].bytes <= int64(d.share(d.large[0].tenant, d.total)) {
		return // The large one is next, once there is room.
	}
	d.let(&d.small)
}

// let lets guests of a list in, in their order, and returns how many.
func (d *door) let(list *[]*guest) (n int) {
	full := false
	*list = slices.DeleteFunc(*list, func(g *guest) bool {
		if full || d.used[g.tenant]+g.bytes > int64(d.share(g.tenant, d.total)) {
			return false
		}
		if g.bytes > d.free {
			full = true
			return false
		}
		d.free -= g.bytes
		d.used[g.tenant] += g.bytes
		d.unqueue(g)
		close(g.let)
		n++
		return true
	})
	return n
}

func (d *door) remove(list *[]*guest, g *guest) {
	*list = slices.DeleteFunc(*list, func(x *guest) bool { return x == g })
	d.unqueue(g)
}

func (d *door) unqueue(g *guest) {
	if d.queued[g.tenant]--; d.queued[g.tenant] == 0 {
		delete(d.queued, g.tenant)
	}
}

func (g *guest) admitted() bool {
	select {
	case <-g.let:
		return true
	default:
		return false
	}
}
