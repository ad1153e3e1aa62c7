package tenantkeys

import (
	"context"
	"fmt"
	"time"

	"github.com/lib/pq"
)

// dropEvery is how often processes look for deleted tenants, whose keys they drop from memory.
const dropEvery = 2 * time.Second

// Run drops the keys of deleted tenants from memory until ctx ends.
func (k *Keys) Run(ctx context.Context) error {
	tick := time.NewTicker(dropEvery)
	defer tick.Stop()
	for away := false; ; {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		err := k.dropDeleted(ctx)
		if err != nil && !away && ctx.Err() == nil {
			k.log.WarnContext(ctx, "cannot look for deleted tenants, retrying", "error", err)
		}
		away = err != nil
	}
}

// dropDeleted drops the keys of tenants that were deleted lately or are being erased.
func (k *Keys) dropDeleted(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	rows, err := k.db.QueryContext(ctx, `SELECT tenant FROM tenants
WHERE deleted_at IS NOT NULL AND (erased_at IS NULL OR erased_at > now() - interval '15 minutes')`)
	if err != nil {
		return fmt.Errorf("list deleted tenants: %w", err)
	}
	defer rows.Close()
	deleted := map[string]bool{}
	for rows.Next() {
		var tenant string
		if err := rows.Scan(&tenant); err != nil {
			return fmt.Errorf("read deleted tenant: %w", err)
		}
		deleted[tenant] = true
	}
	if err := rows.Err(); err != nil {
		return fmt.Errorf("list deleted tenants: %w", err)
	}
	k.drop(deleted)
	return nil
}

// drop removes the keys of tenants from memory.
func (k *Keys) drop(tenants map[string]bool) {
	if len(tenants) == 0 {
		return
	}
	for _, n := range k.cache.Keys() {
		if tenants[n.tenant] {
			k.cache.Remove(n)
		}
	}
}

// EraseTenant destroys the keys of a deleted tenant. They are emptied first and leave with the rewriting of their
// file, which a deleted row alone would not bring about; so what a stopped erasure left behind is found by the next.
func (k *Keys) EraseTenant(ctx context.Context, tenant string) error {
	var partitions []string
	var emptied string // the transaction that did it
	err := k.db.QueryRowContext(ctx, `
WITH emptied AS (UPDATE tenant_keys SET key = '' WHERE tenant = $1 RETURNING tableoid::regclass::text AS partition)
SELECT coalesce(array_agg(DISTINCT partition), '{}'), pg_current_xact_id()::text FROM emptied`, tenant).Scan((*pq.StringArray)(&partitions), &emptied)
	if err != nil {
		return fmt.Errorf("destroy the keys of tenant %s: %w", tenant, err)
	}
	k.drop(map[string]bool{tenant: true})
	if len(partitions) > 0 {
		if err := k.unseen(ctx, emptied); err != nil {
			return fmt.Errorf("wait to rewrite the file of the keys of tenant %s: %w", tenant, err)
		}
	}
	for _, partition := range partitions {
		if _, err := k.db.ExecContext(ctx, `VACUUM FULL `+partition); err != nil {
			return fmt.Errorf("rewrite the file of the keys of tenant %s: %w", tenant, err)
		}
	}
	if _, err := k.db.ExecContext(ctx, `DELETE FROM tenant_keys WHERE tenant = $1 AND key = ''`, tenant); err != nil {
		return fmt.Errorf("remove the keys of tenant %s: %w", tenant, err)
	}
	return nil
}

// seenPause is the pause between two looks at the transactions that still see what was emptied.
const seenPause = 50 * time.Millisecond

// unseen waits until no transaction sees the rows as they were before a transaction, and none that writes is older: with one of
// these, of whatever database, what begins next would see them. A file that is rewritten earlier still holds them.
func (k *Keys) unseen(ctx context.Context, transaction string) error {
	for {
		var seen bool
		if err := k.db.QueryRowContext(ctx, `
SELECT pg_snapshot_xmin(pg_current_snapshot()) <= $1::text::xid8 OR EXISTS (SELECT FROM pg_stat_activity
WHERE datname = current_database() AND pid <> pg_backend_pid() AND age(backend_xmin) >= age($1::text::xid8::xid))`, transaction).Scan(&seen); err != nil {
			return err
		}
		if !seen {
			return nil
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(seenPause):
		}
	}
}
