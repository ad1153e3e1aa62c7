package changes

import (
	"context"
	"database/sql"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/lib/pq"

	"github.com/fanfarehq/fanfare/internal/postgres"
)

// Log reads the history, and drops old rows.
type Log struct {
	db *sql.DB
	// most is how many changes of a tenant are kept, whatever their age, and mostBytes how large their definitions are together.
	most, mostBytes int64
}

// NewLog makes a Log.
func NewLog(db *sql.DB) *Log { return &Log{db, 100_000, 128 << 20} }

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

// pageBytes is how large the definitions of a page are together, about, but for a single change that is larger.
const pageBytes = 4 << 20

// list returns changes in the order of their ids. Cut says that there were more within the limit, beyond pageBytes.
func (l *Log) list(ctx context.Context, q query) (found []row, cut bool, err error) {
	statement, args := q.statement()
	rows, err := l.db.QueryContext(ctx, statement, args...)
	within := 0
	found, err = postgres.Collect(rows, err, func(rows *sql.Rows) (row, error) {
		var r row
		err := rows.Scan(&r.id, &r.at, &r.tenant, &r.resource, &r.resourceID, &r.action, &r.revision, &r.actor.Kind, &r.actor.ID, &r.actor.Name,
			pq.Array(&r.changed), &r.after, &r.before, &within)
		return r, err
	})
	if err != nil {
		return nil, false, fmt.Errorf("read changes: %w", err)
	}
	return found, len(found) < within, nil
}

// idSlack is how far the time in the id of a change may be from the time of the change.
const idSlack = time.Hour

// firstID is the smallest id that a change at a time or later can have.
func firstID(at time.Time) (id uuid.UUID) {
	binary.BigEndian.PutUint64(id[:8], uint64(max(at.UnixMilli(), 0))<<16)
	return id
}

// statement reads a page. Sizes are summed up from the column bytes: what exceeds a page is not read.
func (q query) statement() (statement string, args []any) {
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
		w.And("id >= ?", firstID(q.since.Add(-idSlack)))
	}
	if !q.until.IsZero() {
		w.And("at < ?", q.until)
		w.And("id < ?", firstID(q.until.Add(idSlack)))
	}
	order, beyond := postgres.Direction(q.asc)
	if q.after != uuid.Nil {
		w.And("id "+beyond+" ?", q.after)
	}
	limit, most := w.Arg(q.limit), w.Arg(pageBytes)
	return `
SELECT id, at, tenant, resource, resource_id, action, revision, actor_kind, actor_id, actor_name, changed, definition,
    CASE WHEN followed THEN before ELSE former END, within
FROM (
    SELECT c.*, p.id IS NOT NULL AS followed, p.definition AS before, count(*) OVER () AS within,
        sum(c.bytes + coalesce(p.bytes, 0)) OVER (ORDER BY c.id ` + order + `) - c.bytes - coalesce(p.bytes, 0) AS ahead
    FROM (SELECT * FROM changes WHERE ` + w.String() + ` ORDER BY id ` + order + ` LIMIT ` + limit + `) c
    LEFT JOIN LATERAL (SELECT id, definition, bytes FROM changes p WHERE p.resource = c.resource AND p.resource_id = c.resource_id AND p.tenant = c.tenant
        AND p.revision < c.revision ORDER BY p.revision DESC LIMIT 1) p ON true
) c WHERE ahead < ` + most + ` ORDER BY id ` + order, w.Args()
}

// hasSubscription finds a subscription that exists or has a history, of a tenant or, if that is empty, of any.
const hasSubscription = `SELECT EXISTS (SELECT FROM changes WHERE resource = 'subscription' AND resource_id = $1 AND ($3 = '' OR tenant = $3))
    OR EXISTS (SELECT FROM subscriptions WHERE id = $2 AND NOT deleted AND ($3 = '' OR tenant = $3))`

// has reports whether there is, or was, a subscription.
func (l *Log) has(ctx context.Context, tenant string, subscription uuid.UUID) (ok bool, err error) {
	if err := l.db.QueryRowContext(ctx, hasSubscription, subscription.String(), subscription, tenant).Scan(&ok); err != nil {
		return false, fmt.Errorf("look for changes of subscription %s: %w", subscription, err)
	}
	return ok, nil
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
	delete(out, Signed)
	return out, nil
}
