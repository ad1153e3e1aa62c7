package access

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/lib/pq"

	"github.com/fanfarehq/fanfare/internal/api"
	"github.com/fanfarehq/fanfare/internal/changes"
	"github.com/fanfarehq/fanfare/internal/postgres"
	"github.com/fanfarehq/fanfare/internal/quota"
)

// store is all the SQL of keys and tenants.
type store struct {
	db     *sql.DB
	quotas *quota.Quotas
}

const keyColumns = "id, tenant, name, hash, scopes, admin, created_at, expires_at, last_used_at, revoked_at IS NOT NULL"

// scanner is a row.
type scanner interface{ Scan(...any) error }

func scanKey(row scanner) (*Key, error) {
	var k Key
	var expires, used sql.NullTime
	err := row.Scan(&k.ID, &k.Tenant, &k.Name, &k.hash, (*pq.StringArray)(&k.Scopes), &k.Admin, &k.CreatedAt, &expires, &used, &k.revoked)
	k.CreatedAt, k.ExpiresAt, k.LastUsedAt = k.CreatedAt.UTC(), utc(expires), utc(used)
	return &k, err
}

// utc is the time, or the zero time for null.
func utc(t sql.NullTime) time.Time {
	if !t.Valid {
		return time.Time{}
	}
	return t.Time.UTC()
}

// keys reads keys by id, also revoked ones.
func (s store) keys(ctx context.Context, ids []string) (map[string]*Key, error) {
	rows, err := s.db.QueryContext(ctx, "SELECT "+keyColumns+" FROM keys WHERE id = ANY($1)", pq.Array(ids))
	if err != nil {
		return nil, fmt.Errorf("select keys: %w", err)
	}
	list, err := collect(rows, scanKey)
	if err != nil {
		return nil, fmt.Errorf("select keys: %w", err)
	}
	found := make(map[string]*Key, len(list))
	for _, k := range list {
		found[k.ID] = k
	}
	return found, nil
}

func collect[T any](rows *sql.Rows, scan func(scanner) (T, error)) ([]T, error) {
	defer rows.Close()
	var list []T
	for rows.Next() {
		item, err := scan(rows)
		if err != nil {
			return nil, err
		}
		list = append(list, item)
	}
	return list, rows.Err()
}

// insertKey is errErased if the key's tenant was deleted, and an *api.LimitError if it has as many keys as it may.
func (s store) insertKey(ctx context.Context, k *Key) error {
	return postgres.Retry(ctx, s.db, func(ctx context.Context, tx *sql.Tx) error {
		if k.Tenant != "" {
			if err := s.roomForKey(ctx, tx, k.Tenant); err != nil {
				return err
			}
		}
		return insertKey(ctx, tx, k)
	})
}

// roomForKey makes sure that the tenant may have one more key when tx commits. Of those that ended it keeps as many as the
// tenant may have, so that keys that are made and revoked in a loop do not pile up.
func (s store) roomForKey(ctx context.Context, tx *sql.Tx, tenant string) error {
	bounds, err := s.quotas.Lock(ctx, tx, tenant)
	if err != nil {
		return err
	}
	n, err := countKeys(ctx, tx, tenant)
	if err != nil {
		return err
	}
	if err := bounds.Check(quota.Keys, n, 1); err != nil {
		return err
	}
	_, err = tx.ExecContext(ctx, `DELETE FROM keys WHERE id IN (SELECT id FROM keys
		WHERE tenant = $1 AND NOT admin AND (revoked_at IS NOT NULL OR expires_at <= now()) ORDER BY created_at DESC, id DESC OFFSET $2)`,
		tenant, bounds.Most(quota.Keys))
	if err != nil {
		return fmt.Errorf("delete ended keys: %w", err)
	}
	return nil
}

func countKeys(ctx context.Context, db interface {
	QueryRowContext(ctx context.Context, query string, args ...any) *sql.Row
}, tenant string) (n int64, err error) {
	err = db.QueryRowContext(ctx, `SELECT count(*) FROM keys
		WHERE tenant = $1 AND NOT admin AND revoked_at IS NULL AND (expires_at IS NULL OR expires_at > now())`, tenant).Scan(&n)
	if err != nil {
		return 0, fmt.Errorf("count keys: %w", err)
	}
	return n, nil
}

func insertKey(ctx context.Context, tx *sql.Tx, k *Key) error {
	expires := sql.NullTime{Time: k.ExpiresAt, Valid: !k.ExpiresAt.IsZero()}
	result, err := tx.ExecContext(ctx, `INSERT INTO keys (id, tenant, name, hash, scopes, admin, created_at, expires_at)
		SELECT $1, $2, $3, $4, $5, $6, $7, $8 WHERE NOT EXISTS (SELECT 1 FROM tenants WHERE tenant = $2 AND deleted_at IS NOT NULL)`,
		k.ID, k.Tenant, k.Name, k.hash, pq.Array(k.Scopes), k.Admin, k.CreatedAt, expires)
	if err != nil {
		return fmt.Errorf("insert key: %w", err)
	}
	if n, err := result.RowsAffected(); err != nil || n == 0 {
		return errors.Join(err, errErased)
	}
	return changes.Record(ctx, tx, keyChange(k, changes.Create))
}

// keyPage is which keys to list.
type keyPage struct {
	tenant  string // empty: all keys
	afterAt time.Time
	afterID string // empty: from the start
	asc     bool
	limit   int
}

func (s store) listKeys(ctx context.Context, p keyPage) ([]*Key, error) {
	order, beyond := postgres.Direction(p.asc)
	rows, err := s.db.QueryContext(ctx, `SELECT `+keyColumns+` FROM keys
		WHERE revoked_at IS NULL AND ($1 = '' OR tenant = $1) AND ($2 = '' OR (created_at, id) `+beyond+` ($3, $2))
		ORDER BY created_at `+order+`, id `+order+` LIMIT $4`, p.tenant, p.afterID, p.afterAt, p.limit)
	if err != nil {
		return nil, fmt.Errorf("list keys: %w", err)
	}
	list, err := collect(rows, scanKey)
	if err != nil {
		return nil, fmt.Errorf("list keys: %w", err)
	}
	return list, nil
}

// revokeKey says whether there was such a key; an empty tenant is any, or none.
func (s store) revokeKey(ctx context.Context, tenant, id string) (found bool, err error) {
	err = postgres.Retry(ctx, s.db, func(ctx context.Context, tx *sql.Tx) error {
		found = false
		k, err := scanKey(tx.QueryRowContext(ctx, `UPDATE keys SET revoked_at = now()
			WHERE id = $1 AND revoked_at IS NULL AND ($2 = '' OR tenant = $2 AND NOT admin) RETURNING `+keyColumns, id, tenant))
		if errors.Is(err, sql.ErrNoRows) {
			return nil
		}
		if err != nil {
			return err
		}
		found = true
		return changes.Record(ctx, tx, keyChange(k, changes.Delete))
	})
	if err != nil {
		return false, fmt.Errorf("revoke key: %w", err)
	}
	return found, nil
}

// writeUses writes last uses, which only grow, and new hashes, where the old one is still there.
func (s store) writeUses(ctx context.Context, lastUses map[string]time.Time, rehashes map[string]rehash) error {
	if len(lastUses) > 0 {
		var ids, times []string
		for id, at := range lastUses {
			ids, times = append(ids, id), append(times, at.UTC().Format(time.RFC3339Nano))
		}
		_, err := s.db.ExecContext(ctx, `UPDATE keys SET last_used_at = u.at
			FROM unnest($1::text[], $2::timestamptz[]) AS u(id, at)
			WHERE keys.id = u.id AND (keys.last_used_at IS NULL OR keys.last_used_at < u.at)`, pq.Array(ids), pq.Array(times))
		if err != nil {
			return fmt.Errorf("write the keys' last uses: %w", err)
		}
	}
	for id, r := range rehashes {
		if _, err := s.db.ExecContext(ctx, `UPDATE keys SET hash = $3 WHERE id = $1 AND hash = $2`, id, r.from, r.to); err != nil {
			return fmt.Errorf("write a key's new hash: %w", err)
		}
	}
	return nil
}

// pepperIDs are those of the peppers by which keys that may still be used were hashed.
func (s store) pepperIDs(ctx context.Context) ([]string, error) {
	rows, err := s.db.QueryContext(ctx, `SELECT DISTINCT convert_from(substr(hash, 3, get_byte(hash, 1)), 'UTF8') FROM keys
		WHERE revoked_at IS NULL AND (expires_at IS NULL OR expires_at > now()) ORDER BY 1`)
	if err != nil {
		return nil, err
	}
	return collect(rows, scanText)
}

// PepperedKey is a key whose hash hangs on a pepper.
type PepperedKey struct {
	Pepper, ID, Tenant, Name string
	LastUsed                 *time.Time
}

// KeysByPepper lists the keys that may still be used and whose hashes are not by the deployment's pepper.
func KeysByPepper(ctx context.Context, db *sql.DB) ([]PepperedKey, error) {
	rows, err := db.QueryContext(ctx, `SELECT convert_from(substr(hash, 3, get_byte(hash, 1)), 'UTF8') AS pepper, id, coalesce(tenant, ''), name, last_used_at
FROM keys WHERE revoked_at IS NULL AND (expires_at IS NULL OR expires_at > now())
	AND convert_from(substr(hash, 3, get_byte(hash, 1)), 'UTF8') <> $1 ORDER BY pepper, id`, DeploymentPepper)
	if err != nil {
		return nil, fmt.Errorf("list keys by their peppers: %w", err)
	}
	return collect(rows, func(row scanner) (k PepperedKey, err error) {
		err = row.Scan(&k.Pepper, &k.ID, &k.Tenant, &k.Name, &k.LastUsed)
		return k, err
	})
}

func scanText(row scanner) (string, error) {
	var text string
	err := row.Scan(&text)
	return text, err
}

// Tenant is a customer account that keys, subscriptions and events belong to.
type Tenant struct {
	Tenant    string
	Name      string
	Metadata  map[string]string
	CreatedAt time.Time
	UpdatedAt time.Time
	Limits    *quota.Limits // nil where it was given none
}

const tenantColumns = "tenant, name, metadata, created_at, updated_at, limits"

func scanTenant(row scanner) (*Tenant, error) {
	var t Tenant
	var metadata, limits []byte
	if err := row.Scan(&t.Tenant, &t.Name, &metadata, &t.CreatedAt, &t.UpdatedAt, &limits); err != nil {
		return nil, err
	}
	if limits != nil {
		if err := json.Unmarshal(limits, &t.Limits); err != nil {
			return nil, fmt.Errorf("decode limits: %w", err)
		}
	}
	t.CreatedAt, t.UpdatedAt = t.CreatedAt.UTC(), t.UpdatedAt.UTC()
	return &t, json.Unmarshal(metadata, &t.Metadata)
}

// errErased says that the tenant was deleted. Its name is not given again.
var errErased = errors.New("the tenant was deleted")

// firstUse inserts tenant $1 at the time $2, from a source of rows, and records that it was made.
func firstUse(source string) string {
	return `WITH made AS (INSERT INTO tenants (tenant, created_at, updated_at) ` + source + ` ON CONFLICT DO NOTHING RETURNING tenant),
u AS (SELECT coalesce((SELECT max(revision) FROM changes WHERE resource = 'tenant' AND resource_id = $1 AND tenant = $1), 0) + 1 AS revision FROM made),
c AS (` + changes.Insert(3, "") + `) `
}

// made are the arguments of firstUse.
func made(ctx context.Context, tenant string) ([]any, error) {
	at := time.Now().UTC().Truncate(time.Microsecond)
	change, err := tenantChange(nil, &Tenant{Tenant: tenant, Metadata: map[string]string{}, CreatedAt: at, UpdatedAt: at})
	if err != nil {
		return nil, err
	}
	args, err := change.Args(ctx)
	return append([]any{tenant, at}, args...), err
}

// makeTenant makes the tenant exist; errErased if it was deleted. The caller of the request made it.
func (s store) makeTenant(ctx context.Context, tenant string) error {
	args, err := made(ctx, tenant)
	if err != nil {
		return err
	}
	var erased bool
	err = s.db.QueryRowContext(ctx, firstUse(`VALUES ($1::text, $2::timestamptz, $2::timestamptz)`)+
		`SELECT EXISTS (SELECT 1 FROM tenants WHERE tenant = $1 AND deleted_at IS NOT NULL)`, args...).Scan(&erased)
	if err != nil {
		return fmt.Errorf("make tenant %s: %w", tenant, err)
	}
	if erased {
		return errErased
	}
	return nil
}

// tenant is nil if there is none. One that was never described exists as well: by its first key, subscription, event
// type or event.
func (s store) tenant(ctx context.Context, tenant string) (*Tenant, error) {
	args, err := made(changes.By(api.WithCaller(ctx, api.Caller{}), "first_use"), tenant) // It is not the reader who makes it.
	if err != nil {
		return nil, err
	}
	_, err = s.db.ExecContext(ctx, firstUse(`SELECT $1::text, $2::timestamptz, $2::timestamptz WHERE
		EXISTS (SELECT 1 FROM keys WHERE tenant = $1) OR EXISTS (SELECT 1 FROM subscriptions WHERE tenant = $1) OR
		EXISTS (SELECT 1 FROM event_types WHERE tenant = $1) OR EXISTS (SELECT 1 FROM events WHERE tenant = $1)`)+`SELECT FROM made`, args...)
	if err != nil {
		return nil, fmt.Errorf("find tenant %s: %w", tenant, err)
	}
	t, err := scanTenant(s.db.QueryRowContext(ctx,
		`SELECT `+tenantColumns+` FROM tenants WHERE tenant = $1 AND deleted_at IS NULL`, tenant))
	if errors.Is(err, sql.ErrNoRows) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("select tenant %s: %w", tenant, err)
	}
	return t, nil
}

// putTenant describes the tenant; errErased if it was deleted. Limits that are not given stay as they are.
func (s store) putTenant(ctx context.Context, t *Tenant) (*Tenant, error) {
	metadata, err := json.Marshal(t.Metadata)
	if err != nil {
		return nil, fmt.Errorf("encode metadata: %w", err)
	}
	var limits sql.Null[string]
	if t.Limits != nil {
		text, err := json.Marshal(t.Limits)
		if err != nil {
			return nil, fmt.Errorf("encode limits: %w", err)
		}
		limits = sql.Null[string]{V: string(text), Valid: true}
	}
	var put *Tenant
	err = postgres.Retry(ctx, s.db, func(ctx context.Context, tx *sql.Tx) (err error) {
		before, err := scanTenant(tx.QueryRowContext(ctx, `SELECT `+tenantColumns+` FROM tenants WHERE tenant = $1 FOR UPDATE`, t.Tenant))
		if errors.Is(err, sql.ErrNoRows) {
			before = nil
		} else if err != nil {
			return err
		}
		if put, err = describeTenant(ctx, tx, t, described{string(metadata), limits}); err != nil {
			return err
		}
		change, err := tenantChange(before, put)
		if err != nil {
			return err
		}
		return changes.Record(ctx, tx, change)
	})
	if errors.Is(err, errErased) {
		return nil, errErased
	}
	if err != nil {
		return nil, fmt.Errorf("put tenant %s: %w", t.Tenant, err)
	}
	return put, nil
}

// described are the encoded fields of a tenant.
type described struct {
	metadata string
	limits   sql.Null[string]
}

func describeTenant(ctx context.Context, tx *sql.Tx, t *Tenant, as described) (*Tenant, error) {
	put, err := scanTenant(tx.QueryRowContext(ctx, `INSERT INTO tenants (tenant, name, metadata, limits, limits_at)
		VALUES ($1, $2, $3, $4::jsonb, CASE WHEN $4::jsonb IS NOT NULL THEN now() END)
		ON CONFLICT (tenant) DO UPDATE SET name = $2, metadata = $3, updated_at = now(),
			limits = coalesce(excluded.limits, tenants.limits), limits_at = coalesce(excluded.limits_at, tenants.limits_at)
		WHERE tenants.deleted_at IS NULL RETURNING `+tenantColumns, t.Tenant, t.Name, as.metadata, as.limits))
	if errors.Is(err, sql.ErrNoRows) {
		return nil, errErased
	}
	return put, err
}

// deleteTenant marks the tenant and revokes its keys, whose ids it returns. The rest is the job of erase.
func (s store) deleteTenant(ctx context.Context, tenant string) (ids []string, err error) {
	err = postgres.Retry(ctx, s.db, func(ctx context.Context, tx *sql.Tx) error {
		ids = nil
		t, err := scanTenant(tx.QueryRowContext(ctx,
			`UPDATE tenants SET deleted_at = now() WHERE tenant = $1 AND deleted_at IS NULL RETURNING `+tenantColumns, tenant))
		if errors.Is(err, sql.ErrNoRows) {
			return nil // Another request was faster.
		}
		if err != nil {
			return fmt.Errorf("delete tenant: %w", err)
		}
		// Erasing the tenant keeps this change, so it says nothing of the tenant but its name.
		if err := changes.Record(ctx, tx, &changes.Change{
			Tenant: t.Tenant, Resource: changes.Tenant, ResourceID: t.Tenant, Action: changes.Delete, At: time.Now(),
		}); err != nil {
			return err
		}
		rows, err := tx.QueryContext(ctx,
			`UPDATE keys SET revoked_at = now() WHERE tenant = $1 AND revoked_at IS NULL RETURNING id`, tenant)
		if err != nil {
			return fmt.Errorf("revoke the tenant's keys: %w", err)
		}
		ids, err = collect(rows, scanText)
		return err
	})
	return ids, err
}

// deletedTenants are those deleted after a time, by the clock of Postgres, and when the last of them was.
func (s store) deletedTenants(ctx context.Context, after time.Time) (names []string, last time.Time, err error) {
	rows, err := s.db.QueryContext(ctx,
		`SELECT tenant, deleted_at FROM tenants WHERE deleted_at > $1 ORDER BY deleted_at LIMIT 10000`, after)
	if err != nil {
		return nil, after, fmt.Errorf("list deleted tenants: %w", err)
	}
	last = after
	names, err = collect(rows, func(row scanner) (name string, err error) {
		err = row.Scan(&name, &last)
		return name, err
	})
	if err != nil {
		return nil, after, fmt.Errorf("list deleted tenants: %w", err)
	}
	return names, last, nil
}

// deleted are those of the tenants that were deleted.
func (s store) deleted(ctx context.Context, tenants []string) (map[string]bool, error) {
	rows, err := s.db.QueryContext(ctx, `SELECT tenant FROM tenants WHERE tenant = ANY($1) AND deleted_at IS NOT NULL`, pq.Array(tenants))
	if err != nil {
		return nil, fmt.Errorf("select deleted tenants: %w", err)
	}
	names, err := collect(rows, scanText)
	if err != nil {
		return nil, fmt.Errorf("select deleted tenants: %w", err)
	}
	deleted := make(map[string]bool, len(names))
	for _, name := range names {
		deleted[name] = true
	}
	return deleted, nil
}
