package access

import (
	"context"
	"time"

	lru "github.com/hashicorp/golang-lru/v2"
)

// tenants remembers which tenants exist and which were deleted, so that requests need not ask.
type tenants struct {
	store  store
	known  *lru.Cache[string, struct{}]
	erased *lru.Cache[string, struct{}]
	seen   time.Time // the latest deletion that was read
}

// overlap is how far before the latest deletion is read again: a transaction that began before it may have
// committed after.
const overlap = time.Minute

func newTenants(s store) *tenants {
	known, err := lru.New[string, struct{}](1 << 16)
	if err != nil {
		panic(err) // the size is right
	}
	erased, err := lru.New[string, struct{}](1 << 16)
	if err != nil {
		panic(err)
	}
	return &tenants{store: s, known: known, erased: erased, seen: time.Unix(0, 0)}
}

// isErased knows of deletions as of the last refresh.
func (t *tenants) isErased(tenant string) bool { return t.erased.Contains(tenant) }

// use makes the tenant exist; errErased if it was deleted.
func (t *tenants) use(ctx context.Context, tenant string) error {
	if t.erased.Contains(tenant) {
		return errErased
	}
	if t.known.Contains(tenant) {
		return nil
	}
	if err := t.store.makeTenant(ctx, tenant); err != nil {
		return err
	}
	t.known.Add(tenant, struct{}{})
	return nil
}

// refresh reads which tenants were deleted lately. It is called by one goroutine.
func (t *tenants) refresh(ctx context.Context) error {
	names, last, err := t.store.deletedTenants(ctx, t.seen.Add(-overlap))
	if err != nil {
		return err
	}
	t.seen = last
	for _, name := range names {
		t.forget(name)
	}
	return nil
}

// forget notes that a tenant was deleted.
func (t *tenants) forget(tenant string) {
	t.erased.Add(tenant, struct{}{})
	t.known.Remove(tenant)
}
