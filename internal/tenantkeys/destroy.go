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
	err := k.db.QueryRowContext(ctx, `
WITH emptied AS (UPDATE tenant_keys SET key = '' WHERE tenant = $1 RETURNING tableoid::regclass::text AS partition)
SELECT coalesce(array_agg(DISTINCT partition), '{}') FROM emptied`, tenant).Scan((*pq.StringArray)(&partitions))
	if err != nil {
		return fmt.Errorf("destroy the keys of tenant %s: %w", tenant, err)
	}
	k.drop(map[string]bool{tenant: true})
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
