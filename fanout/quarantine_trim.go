package fanout

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
)

const (
	// maxOfTenant is how many messages of one tenant are kept in quarantine: the newest.
	maxOfTenant = 10_000
	// trimEvery is how many more messages of a tenant this process adds before it removes the oldest.
	// Each removal reads the index entries of all that are kept, which would slow each insert.
	trimEvery = 2_500
	// maxCounted bounds the tenants whose messages are counted: a NATS client may name any tenant.
	maxCounted = 10_000
)

// trimmer removes a tenant's oldest messages from quarantine, apart from the inserts that fan-out waits for.
type trimmer struct {
	mu    sync.Mutex
	added map[string]int      // since the tenant was last due
	due   map[string]struct{} // tenants to be trimmed
	wake  chan struct{}       // holds a token when due may hold tenants
}

func newTrimmer() *trimmer {
	return &trimmer{added: map[string]int{}, due: map[string]struct{}{}, wake: make(chan struct{}, 1)}
}

// count notes inserted messages. A tenant is due at its first message, as other processes may have added
// some, and at each trimEvery that follow.
func (t *trimmer) count(tenants []string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, tenant := range tenants {
		n, counted := t.added[tenant]
		if n++; counted && n < trimEvery {
			t.added[tenant] = n
			continue
		}
		if !counted && len(t.added) >= maxCounted {
			clear(t.added)
		}
		t.added[tenant], t.due[tenant] = 0, struct{}{}
	}
	if len(t.due) > 0 {
		select {
		case t.wake <- struct{}{}:
		default:
		}
	}
}

// take returns the tenants that are due.
func (t *trimmer) take() map[string]struct{} {
	t.mu.Lock()
	defer t.mu.Unlock()
	due := t.due
	t.due = map[string]struct{}{}
	return due
}

// again makes a tenant due at its next message.
func (t *trimmer) again(tenant string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	delete(t.added, tenant)
}

// trimQuarantine bounds the messages of each tenant in quarantine until ctx ends.
func (l *Ledger) trimQuarantine(ctx context.Context, log *slog.Logger) {
	for {
		select {
		case <-l.trims.wake:
		case <-ctx.Done():
			return
		}
		for tenant := range l.trims.take() {
			if err := l.trimTenant(ctx, tenant); err != nil && ctx.Err() == nil {
				log.WarnContext(ctx, "cannot trim quarantine, retrying at the tenant's next message", "tenant", tenant, "error", err)
				l.trims.again(tenant)
			}
		}
	}
}

// trimTenant removes a tenant's oldest messages, and notes up to where, so that an audit does not miss them.
func (l *Ledger) trimTenant(ctx context.Context, tenant string) error {
	_, err := l.db.ExecContext(ctx, `
		WITH last AS (SELECT id FROM quarantine WHERE tenant = $1 ORDER BY id DESC OFFSET $2 LIMIT 1),
		noted AS (
			INSERT INTO quarantine_trims AS t (tenant, upto) SELECT $1, id FROM last
			ON CONFLICT (tenant) DO UPDATE SET upto = greatest(t.upto, excluded.upto))
		DELETE FROM quarantine WHERE tenant = $1 AND id <= (SELECT id FROM last)`, tenant, maxOfTenant)
	if err != nil {
		return fmt.Errorf("trim quarantine: %w", err)
	}
	return nil
}
