package access

import (
	"context"
	"slices"
	"sync"
	"time"

	"github.com/fanfarehq/fanfare/internal/api"
)

const (
	// watchAfter is how old a request must be to be looked at: most are over long before.
	watchAfter = time.Second
	// watchEvery is between two looks, so that a request ends within 5 s of its caller.
	watchEvery = time.Second
	// watchTimeout bounds the query of one look.
	watchTimeout = 3 * time.Second
)

// watches are the requests under way, by the order in which they began.
type watches struct {
	now func() time.Time

	mu          sync.Mutex
	first, last *watch
}

// watch is one request.
type watch struct {
	caller     api.Caller
	since      time.Time
	end        context.CancelCauseFunc
	prev, next *watch
}

func newWatches(now func() time.Time) *watches { return &watches{now: now} }

// Watch returns a context that ends with the caller: see api.New. It needs Run.
func (a *Access) Watch(ctx context.Context, c api.Caller) (context.Context, func()) {
	if c.Admin && c.KeyID == "" {
		return ctx, func() {} // The admin key of the environment ends with the process.
	}
	ctx, end := context.WithCancelCause(ctx)
	w := &watch{caller: c, since: a.now(), end: end}
	a.watches.add(w)
	return ctx, func() {
		a.watches.remove(w)
		end(nil)
	}
}

// Watch is Access.Watch, for the APIs of vendors.
func (g *Grants) Watch(ctx context.Context, c api.Caller) (context.Context, func()) {
	return g.access.Watch(ctx, c)
}

func (l *watches) add(w *watch) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if w.prev = l.last; w.prev == nil {
		l.first = w
	} else {
		w.prev.next = w
	}
	l.last = w
}

func (l *watches) remove(w *watch) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if w.prev == nil {
		l.first = w.next
	} else {
		w.prev.next = w.next
	}
	if w.next == nil {
		l.last = w.prev
	} else {
		w.next.prev = w.prev
	}
}

// old are the requests that began before a time.
func (l *watches) old(before time.Time) []*watch {
	l.mu.Lock()
	defer l.mu.Unlock()
	var old []*watch
	for w := l.first; w != nil && w.since.Before(before); w = w.next {
		old = append(old, w)
	}
	return old
}

// watch looks after requests that take long until ctx ends. Erasing tenants, which may take its time, does not hold it up.
func (a *Access) watch(ctx context.Context) {
	tick := time.NewTicker(min(watchEvery, a.every))
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			a.endRequests(ctx)
		}
	}
}

// endRequests ends the requests whose caller may no longer act. While Postgres is away, nobody can revoke a key, and
// requests end by their time alone.
func (a *Access) endRequests(ctx context.Context) {
	old := a.watches.old(a.now().Add(-watchAfter))
	if len(old) == 0 {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, watchTimeout)
	defer cancel()
	var ids, tenants []string
	for _, w := range old {
		if !w.caller.Token {
			ids = append(ids, w.caller.KeyID)
		}
		tenants = append(tenants, w.caller.Tenant)
	}
	slices.Sort(ids)
	slices.Sort(tenants)
	keys, err := a.keys.renew(ctx, slices.Compact(ids))
	var deleted map[string]bool
	if err == nil {
		deleted, err = a.store.deleted(ctx, slices.Compact(tenants))
	}
	for _, w := range old {
		expired := !w.caller.ExpiresAt.IsZero() && !a.now().Before(w.caller.ExpiresAt)
		gone := err == nil && (deleted[w.caller.Tenant] || !w.caller.Token && (keys[w.caller.KeyID] == nil || keys[w.caller.KeyID].ended(a.now())))
		if expired || gone {
			w.end(api.ErrUnauthenticated)
		}
	}
}
