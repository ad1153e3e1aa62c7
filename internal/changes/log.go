package changes

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/lib/pq"

	"github.com/fanfarehq/fanfare/internal/postgres"
)

// Log reads the history, and drops old rows.
type Log struct{ db *sql.DB }

// NewLog makes a Log.
func NewLog(db *sql.DB) *Log { return &Log{db} }

// Definition is a resource as it was.
type Definition struct {
	Revision int64 // 0 if the history does not reach back so far
	JSON     []byte
}

// ErrNone says that the resource did not exist then.
var ErrNone = errors.New("the resource did not exist")

// ErrUnknown says that the history does not have the resource at all.
var ErrUnknown = errors.New("the history does not have the resource")

// As names the moment of a definition: a revision or, if that is 0, a time.
type As struct {
	Revision int64
	At       time.Time
}

// At returns the definition of a resource as of a revision or a time.
func (l *Log) At(ctx context.Context, tenant, resource, id string, as As) (Definition, error) {
	const of = ` FROM changes WHERE resource = $1 AND resource_id = $2 AND tenant = $3`
	var d Definition
	err := l.db.QueryRowContext(ctx, `SELECT revision, definition`+of+`
    AND CASE WHEN $4::bigint > 0 THEN revision <= $4 ELSE at <= $5 END ORDER BY revision DESC LIMIT 1`,
		resource, id, tenant, as.Revision, as.At).Scan(&d.Revision, &d.JSON)
	if errors.Is(err, sql.ErrNoRows) { // The first change comes later.
		var action string
		err = l.db.QueryRowContext(ctx, `SELECT action, former`+of+` ORDER BY revision LIMIT 1`, resource, id, tenant).Scan(&action, &d.JSON)
		if errors.Is(err, sql.ErrNoRows) {
			return d, ErrUnknown
		}
	}
	if err != nil {
		return d, fmt.Errorf("read the history of %s %s: %w", resource, id, err)
	}
	if d.JSON == nil {
		return d, ErrNone
	}
	return d, nil
}

// query asks for changes; empty fields ask for all.
type query struct {
	tenant       string
	resources    []string
	resourceID   string
	actor        string
	since, until time.Time
	after        uuid.UUID
	asc          bool
	limit        int
}

// row is a change as it is stored, with the definition before it.
type row struct {
	id                                   uuid.UUID
	at                                   time.Time
	tenant, resource, resourceID, action string
	revision                             int64
	actor                                Actor
	changed                              []string
	before, after                        []byte
}

// list returns changes in the order of their ids. A page is bounded by the rows that a tenant may have; see Sweep.
func (l *Log) list(ctx context.Context, q query) ([]row, error) {
	var w postgres.Where
	w.And("resource = ANY (?)", pq.Array(q.resources))
	if q.tenant != "" {
		w.And("tenant = ?", q.tenant)
	}
	if q.resourceID != "" {
		w.And("resource_id = ?", q.resourceID)
	}
	if q.actor != "" {
		w.And("actor_id = ?", q.actor)
	}
	if !q.since.IsZero() {
		w.And("at >= ?", q.since)
	}
	if !q.until.IsZero() {
		w.And("at < ?", q.until)
	}
	order, beyond := "DESC", "id < ?"
	if q.asc {
		order, beyond = "ASC", "id > ?"
	}
	if q.after != uuid.Nil {
		w.And(beyond, q.after)
	}
	limit := w.Arg(q.limit)
	rows, err := l.db.QueryContext(ctx, `
SELECT c.id, c.at, c.tenant, c.resource, c.resource_id, c.action, c.revision, c.actor_kind, c.actor_id, c.actor_name, c.changed, c.definition, (
    SELECT CASE WHEN count(*) = 0 THEN c.former ELSE (array_agg(p.definition))[1] END FROM (
        SELECT definition FROM changes p WHERE p.resource = c.resource AND p.resource_id = c.resource_id AND p.tenant = c.tenant
            AND p.revision < c.revision ORDER BY p.revision DESC LIMIT 1) p)
FROM (SELECT * FROM changes WHERE `+w.String()+` ORDER BY id `+order+` LIMIT `+limit+`) c ORDER BY c.id `+order, w.Args()...)
	found, err := postgres.Collect(rows, err, func(rows *sql.Rows) (row, error) {
		var r row
		err := rows.Scan(&r.id, &r.at, &r.tenant, &r.resource, &r.resourceID, &r.action, &r.revision, &r.actor.Kind, &r.actor.ID, &r.actor.Name,
			pq.Array(&r.changed), &r.after, &r.before)
		return r, err
	})
	if err != nil {
		return nil, fmt.Errorf("read changes: %w", err)
	}
	return found, nil
}

// has reports whether the history has a resource, of a tenant or, if that is empty, of any.
func (l *Log) has(ctx context.Context, tenant, resource, id string) (ok bool, err error) {
	err = l.db.QueryRowContext(ctx, `SELECT EXISTS (SELECT FROM changes WHERE resource = $1 AND resource_id = $2 AND ($3 = '' OR tenant = $3))
    OR EXISTS (SELECT FROM subscriptions WHERE $1 = 'subscription' AND id::text = $2 AND NOT deleted AND ($3 = '' OR tenant = $3))`,
		resource, id, tenant).Scan(&ok)
	if err != nil {
		return false, fmt.Errorf("look for changes of %s %s: %w", resource, id, err)
	}
	return ok, nil
}

const (
	// sweepChunk is how many rows one statement removes.
	sweepChunk = 2000
	// mostOfTenant is how many changes of a tenant are kept, whatever their age: changes made in a loop do not pile up.
	mostOfTenant = 100_000
)

// Sweep removes changes that are older than keep and not the newest one of their resource before that, those of resources that were
// deleted before, and the oldest of tenants that have too many.
func (l *Log) Sweep(ctx context.Context, keep time.Duration) error {
	before := time.Now().Add(-keep)
	if err := postgres.InBatches(ctx, l.db, sweepChunk, `DELETE FROM changes WHERE id IN (SELECT id FROM changes c WHERE at < $1 AND (definition IS NULL OR EXISTS (
    SELECT FROM changes n WHERE n.resource = c.resource AND n.resource_id = c.resource_id AND n.tenant = c.tenant AND n.revision > c.revision AND n.at < $1
)) LIMIT $2)`, before, sweepChunk); err != nil {
		return fmt.Errorf("clean changes: %w", err)
	}
	rows, err := l.db.QueryContext(ctx, `SELECT tenant FROM changes GROUP BY tenant HAVING count(*) > $1`, mostOfTenant)
	tenants, err := postgres.Collect(rows, err, postgres.ScanOne[string])
	if err != nil {
		return fmt.Errorf("count changes: %w", err)
	}
	for _, tenant := range tenants {
		if err := l.trim(ctx, tenant, mostOfTenant); err != nil {
			return err
		}
	}
	return nil
}

// trim leaves the newest changes of a tenant.
func (l *Log) trim(ctx context.Context, tenant string, most int) error {
	var last uuid.UUID
	err := l.db.QueryRowContext(ctx, `SELECT id FROM changes WHERE tenant = $1 ORDER BY id DESC OFFSET $2 LIMIT 1`, tenant, most).Scan(&last)
	if errors.Is(err, sql.ErrNoRows) {
		return nil
	}
	if err == nil {
		err = postgres.InBatches(ctx, l.db, sweepChunk, `DELETE FROM changes WHERE id IN (SELECT id FROM changes WHERE tenant = $3 AND id <= $1 LIMIT $2)`, last, sweepChunk, tenant)
	}
	if err != nil {
		return fmt.Errorf("trim changes: %w", err)
	}
	return nil
}

// EraseTenant removes a tenant's changes; that it was deleted, and by whom, stays.
func (l *Log) EraseTenant(ctx context.Context, tenant string) error {
	if err := postgres.InBatches(ctx, l.db, sweepChunk, `DELETE FROM changes WHERE id IN (
    SELECT id FROM changes WHERE tenant = $1 AND NOT (resource = 'tenant' AND action = 'delete') LIMIT $2)`, tenant, sweepChunk); err != nil {
		return fmt.Errorf("erase changes of tenant %s: %w", tenant, err)
	}
	return nil
}

// shown is a definition without the members that are kept for judging events.
func shown(definition []byte) (map[string]json.RawMessage, error) {
	if definition == nil {
		return nil, nil
	}
	out := map[string]json.RawMessage{}
	if err := json.Unmarshal(definition, &out); err != nil {
		return nil, fmt.Errorf("decode a definition: %w", err)
	}
	delete(out, Scopes)
	return out, nil
}
