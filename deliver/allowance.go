package deliver

import (
	"sync"
	"time"
)

// The allowance of a tenant: how many deliveries one fan-out process hands over for it through TASKS, which all
// tenants share. What exceeds it waits in the backlog.
const (
	allowedPerSecond = 256
	allowedAtOnce    = 512
)

// allowance knows which tenants have used theirs up.
type allowance struct {
	now func() time.Time

	mu sync.Mutex
	// used tells until when a tenant's deliveries would have taken at the allowed rate.
	used  map[string]time.Time
	prune int // how many entries are kept before those that lapsed are dropped
}

func newAllowance(now func() time.Time) *allowance {
	return &allowance{now: now, used: make(map[string]time.Time), prune: 1024}
}

// take reports whether the tenant's allowance covers n more deliveries, and counts them if so.
func (a *allowance) take(tenant string, n int) bool {
	const each, most = time.Second / allowedPerSecond, allowedAtOnce * time.Second / allowedPerSecond
	now := a.now()
	a.mu.Lock()
	defer a.mu.Unlock()
	until := a.used[tenant]
	if until.Before(now) {
		until = now
	}
	until = until.Add(time.Duration(n) * each)
	if until.Sub(now) > most {
		return false
	}
	a.used[tenant] = until
	if len(a.used) > a.prune {
		a.drop(now)
	}
	return true
}

// drop forgets the tenants that have all of their allowance again.
func (a *allowance) drop(now time.Time) {
	for tenant, until := range a.used {
		if !until.After(now) {
			delete(a.used, tenant)
		}
	}
	a.prune = max(1024, 2*len(a.used))
}
