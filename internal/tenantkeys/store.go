package tenantkeys

import (
	"context"
	"crypto/cipher"
	"fmt"
	"time"

	"github.com/lib/pq"

	"github.com/fanfarehq/fanfare/internal/seal"
)

// The bounds of one query for keys.
const (
	askAtOnce  = 500
	askTimeout = 5 * time.Second
)

// request asks for one key.
type request struct {
	name
	create bool // make it where it does not exist
	key    cipher.AEAD
	err    error // of this key alone
}

// get returns a key, from memory if it is there.
func (k *Keys) get(ctx context.Context, n name, create bool) (cipher.AEAD, error) {
	if key, ok := k.cache.Get(n); ok {
		return key, nil
	}
	q := &request{name: n, create: create}
	err := k.asking.Do(ctx, q)
	if err == nil {
		err = q.err
	}
	if err != nil {
		return nil, fmt.Errorf("get the key of tenant %q and day %d: %w", n.tenant, n.day, err)
	}
	return q.key, nil
}

// ask answers a group of requests.
func (k *Keys) ask(ctx context.Context, list []*request) error {
	found, err := k.read(ctx, list)
	if err != nil {
		return err
	}
	var missing []*request
	for _, q := range list {
		if q.create && found[q.name] == nil {
			missing = append(missing, q)
		}
	}
	if len(missing) > 0 {
		if err := k.make(ctx, missing); err != nil {
			return err
		}
		// Another process may have made some at the same time: the stored keys count.
		made, err := k.read(ctx, missing)
		if err != nil {
			return err
		}
		for n, sealed := range made {
			found[n] = sealed
		}
	}
	for _, q := range list {
		q.key, q.err = k.unwrap(q.name, found[q.name])
	}
	return nil
}

// columns are the names of requests as columns.
func columns(list []*request) (tenants pq.StringArray, days pq.Int64Array) {
	for _, q := range list {
		tenants, days = append(tenants, q.tenant), append(days, int64(q.day))
	}
	return tenants, days
}

// read returns the sealed keys that are stored.
func (k *Keys) read(ctx context.Context, list []*request) (map[name][]byte, error) {
	tenants, days := columns(list)
	rows, err := k.db.QueryContext(ctx, `SELECT tenant, day, key FROM tenant_keys
WHERE (tenant, day) IN (SELECT * FROM unnest($1::text[], $2::int[]))`, tenants, days)
	if err != nil {
		return nil, fmt.Errorf("read tenant keys: %w", err)
	}
	defer rows.Close()
	found := make(map[name][]byte, len(list))
	for rows.Next() {
		var n name
		var sealed []byte
		if err := rows.Scan(&n.tenant, &n.day, &sealed); err != nil {
			return nil, fmt.Errorf("read tenant key: %w", err)
		}
		found[n] = sealed
	}
	if err := rows.Err(); err != nil {
		return nil, fmt.Errorf("read tenant keys: %w", err)
	}
	return found, nil
}

// make stores new keys, none for tenants that were deleted and none over those that are there. The row of the tenant is
// locked, so that no key is made after its tenant's keys were destroyed.
func (k *Keys) make(ctx context.Context, list []*request) error {
	tenants, days := columns(list)
	sealed := make(pq.ByteaArray, len(list))
	for i, q := range list {
		var err error
		if sealed[i], err = k.ring.Seal(random(), q.bind()); err != nil {
			return fmt.Errorf("seal tenant key: %w", err)
		}
	}
	// Sorted, so that two processes that make the same keys do not deadlock.
	if _, err := k.db.ExecContext(ctx, `
WITH o AS MATERIALIZED (SELECT * FROM unnest($1::text[], $2::int[], $3::bytea[]) AS o (tenant, day, key)),
known AS MATERIALIZED (SELECT t.tenant, t.deleted_at FROM tenants t WHERE t.tenant IN (SELECT o.tenant FROM o) ORDER BY t.tenant FOR SHARE)
INSERT INTO tenant_keys (tenant, day, key)
SELECT o.tenant, o.day, o.key FROM o WHERE NOT EXISTS (SELECT FROM known k WHERE k.tenant = o.tenant AND k.deleted_at IS NOT NULL)
ORDER BY o.tenant, o.day ON CONFLICT DO NOTHING`, tenants, days, sealed); err != nil {
		return fmt.Errorf("store tenant keys: %w", err)
	}
	return nil
}

// unwrap opens a stored key and keeps it in memory.
func (k *Keys) unwrap(n name, sealed []byte) (cipher.AEAD, error) {
	if len(sealed) == 0 {
		return nil, ErrDestroyed
	}
	raw, err := k.ring.Open(sealed, n.bind())
	if err != nil {
		// Not wrapped: the key of this process may be the one that is wrong, so the bytes are not gone.
		return nil, fmt.Errorf("open the stored key: %v", err) //nolint:errorlint // see above
	}
	key, err := aead(raw)
	if err != nil {
		return nil, err
	}
	k.cache.Add(n, key)
	return key, nil
}

// bind names the row that a stored key is bound to.
func (n name) bind() []byte { return fmt.Appendf(nil, "tenant_keys/%s/%d", n.tenant, n.day) }

// Check fails with seal.ErrUnknownKey if stored keys are sealed with a key that is not in the ring.
func (k *Keys) Check(ctx context.Context) error {
	rows, err := k.db.QueryContext(ctx, `SELECT encode(substring(key FROM 3 FOR get_byte(key, 1)), 'escape') AS id, count(*) FROM tenant_keys
WHERE length(key) > 2 GROUP BY id`)
	if err != nil {
		return fmt.Errorf("check tenant keys: %w", err)
	}
	defer rows.Close()
	for rows.Next() {
		var id string
		var n int
		if err := rows.Scan(&id, &n); err != nil {
			return fmt.Errorf("check tenant keys: %w", err)
		}
		if !k.ring.Has(id) {
			return fmt.Errorf("%d keys of tenants, by key %q: %w", n, id, seal.ErrUnknownKey)
		}
	}
	if err := rows.Err(); err != nil {
		return fmt.Errorf("check tenant keys: %w", err)
	}
	return nil
}

// rekeyChunk is how many keys Rekey reads at once.
const rekeyChunk = 500

// Rekey seals the stored keys with the first key of the ring and returns how many it changed. It may be repeated, and run
// while everything else runs.
func (k *Keys) Rekey(ctx context.Context) (done int, err error) {
	for after := (name{day: -1}); ; {
		rows, err := k.chunk(ctx, after)
		if err != nil {
			return done, err
		}
		for _, r := range rows {
			after = r.name
			if id, err := k.ring.KeyID(r.sealed); err != nil || id == k.ring.Current() {
				continue // What is destroyed is not sealed.
			}
			if err := k.rewrap(ctx, r); err != nil {
				return done, err
			}
			done++
		}
		if len(rows) < rekeyChunk {
			return done, nil
		}
	}
}

// stored is a row of tenant_keys.
type stored struct {
	name
	sealed []byte
}

func (k *Keys) chunk(ctx context.Context, after name) (list []stored, err error) {
	rows, err := k.db.QueryContext(ctx, `SELECT tenant, day, key FROM tenant_keys WHERE (tenant, day) > ($1, $2) ORDER BY tenant, day LIMIT $3`,
		after.tenant, after.day, rekeyChunk)
	if err != nil {
		return nil, fmt.Errorf("read tenant keys: %w", err)
	}
	defer rows.Close()
	for rows.Next() {
		var r stored
		if err := rows.Scan(&r.tenant, &r.day, &r.sealed); err != nil {
			return nil, fmt.Errorf("read tenant key: %w", err)
		}
		list = append(list, r)
	}
	if err := rows.Err(); err != nil {
		return nil, fmt.Errorf("read tenant keys: %w", err)
	}
	return list, nil
}

func (k *Keys) rewrap(ctx context.Context, r stored) error {
	raw, err := k.ring.Open(r.sealed, r.bind())
	if err != nil {
		return fmt.Errorf("open the key of tenant %q and day %d: %w", r.tenant, r.day, err)
	}
	again, err := k.ring.Seal(raw, r.bind())
	if err != nil {
		return fmt.Errorf("seal tenant key: %w", err)
	}
	// A key that was destroyed meanwhile stays destroyed.
	if _, err := k.db.ExecContext(ctx, `UPDATE tenant_keys SET key = $3 WHERE tenant = $1 AND day = $2 AND key = $4`,
		r.tenant, r.day, again, r.sealed); err != nil {
		return fmt.Errorf("store the key of tenant %q and day %d: %w", r.tenant, r.day, err)
	}
	return nil
}
