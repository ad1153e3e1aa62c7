package subscriptions

import (
	"bytes"
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/lib/pq"

	"github.com/fanfarehq/fanfare/internal/changes"
	"github.com/fanfarehq/fanfare/internal/event"
	"github.com/fanfarehq/fanfare/internal/postgres"
)

// wipedType are the columns set on an event type's deletion; $1 is now.
const wipedType = `deleted = true, description = '', schema = NULL, sample = NULL, scopes = '{}', archived = false,
	deprecated = false, replaced_by = '', validation = 'enforce', schema_version = 0, dialect = '', updated_at = $1, revision = r.value`

// CreateEventType saves a new event type, of one tenant or, where Tenant is empty, of all. The errors are
// *Invalid, *api.LimitError and ErrExists.
func (s *Store) CreateEventType(ctx context.Context, t *EventType) error {
	if event.Reserved(t.Name) {
		return &Invalid{[]Fault{{"name", "must not begin with " + event.ReservedPrefix + ": only Fanfare publishes such types"}}}
	}
	if err := t.validate(ctx); err != nil {
		return err
	}
	if err := s.checkReplacement(ctx, t, ""); err != nil {
		return err
	}
	t.CreatedAt = s.now()
	t.UpdatedAt = t.CreatedAt
	if t.SchemaVersion = 0; len(t.Schema) > 0 {
		t.SchemaVersion = 1
	}
	change, err := typeChangeOf(nil, t, changes.Create).Args(ctx)
	if err != nil {
		return err
	}
	// What was deleted may come back; its tombstone is the row.
	err = s.within(ctx, func(ctx context.Context, tx *sql.Tx) error {
		if err := s.roomForType(ctx, tx, t.Tenant); err != nil {
			return err
		}
		// A deletion by an earlier version of Fanfare leaves them.
		if _, err := tx.ExecContext(ctx, forgetVersions+` AND EXISTS (
SELECT FROM event_types e WHERE e.tenant = $1 AND e.name = $2 AND e.deleted)`, t.Tenant, t.Name); err != nil {
			return err
		}
		return tx.QueryRowContext(ctx, nextRevision+`, u AS (
INSERT INTO event_types AS e (tenant, name, description, schema, sample, scopes, archived, updated_at, created_at, revision,
	deprecated, replaced_by, validation, schema_version, dialect)
SELECT $1, $2, $3, $4, $5, $6, $7, $8, $8, r.value, $9, $10, $11, $12, $13 FROM r
ON CONFLICT (tenant, name) DO UPDATE SET description = $3, schema = $4, sample = $5, scopes = $6, archived = $7,
	created_at = $8, updated_at = $8, deleted = false, revision = excluded.revision,
	deprecated = $9, replaced_by = $10, validation = $11, schema_version = $12, dialect = $13 WHERE e.deleted
RETURNING revision), c AS (`+changes.Insert(15, "")+` RETURNING actor_kind, actor_id, actor_name), v AS (`+insertVersion+`) SELECT revision FROM u`,
			append(append(t.args(), t.SchemaVersion == 1), change...)...).Scan(&t.Revision)
	})
	if errors.Is(err, sql.ErrNoRows) {
		return ErrExists
	}
	if err != nil {
		return fmt.Errorf("create event type %s: %w", t.Name, err)
	}
	return nil
}

// EnsureEventType creates or replaces an event type: for those that a dialect
// brings with it. It changes nothing if it is there already.
func (s *Store) EnsureEventType(ctx context.Context, t *EventType) error {
	there, err := s.GetEventType(ctx, t.Tenant, t.Name)
	if errors.Is(err, ErrNotFound) {
		if err = s.CreateEventType(ctx, t); errors.Is(err, ErrExists) { // Another process was faster.
			err = nil
		}
		return err
	}
	if err != nil || there.Description == t.Description && slices.Equal(there.Scopes, t.Scopes) {
		return err
	}
	there.Description, there.Scopes = t.Description, t.Scopes
	if err = s.UpdateEventType(ctx, there); errors.Is(err, ErrChanged) {
		err = nil
	}
	return err
}

// AdoptEventType notes which dialect brought an event type of all tenants that is there already, as long as its description is
// the one that the dialect gives it: else it is an operator's.
func (s *Store) AdoptEventType(ctx context.Context, t *EventType) error {
	// No Directory asks for it, so the revision stays.
	if _, err := s.db.ExecContext(ctx, `UPDATE event_types SET dialect = $1
WHERE tenant = '' AND name = $2 AND description = $3 AND dialect = '' AND NOT deleted`, t.Dialect, t.Name, t.Description); err != nil {
		return fmt.Errorf("adopt event type %s: %w", t.Name, err)
	}
	return nil
}

// args are $1 to $13 of both statements.
func (t *EventType) args() []any {
	return []any{
		t.Tenant, t.Name, t.Description, nullJSON(t.Schema), nullJSON(t.Sample), array(t.Scopes), t.Archived, t.UpdatedAt,
		t.Deprecated, t.ReplacedBy, t.Validation, t.SchemaVersion, t.Dialect,
	}
}

func nullJSON(text json.RawMessage) sql.Null[string] {
	return sql.Null[string]{V: string(text), Valid: len(text) > 0}
}

// GetEventType returns an event type of exactly this tenant, or with an empty tenant the one that is every tenant's.
func (s *Store) GetEventType(ctx context.Context, tenant, name string) (*EventType, error) {
	types, err := readEventTypes(ctx, s.db, `tenant = $1 AND name = $2 AND NOT deleted`, tenant, name)
	if err != nil {
		return nil, err
	}
	if len(types) == 0 {
		return nil, ErrNotFound
	}
	return types[0], nil
}

// EventTypeFor returns the event type that holds for a tenant: its own, else the one that is every tenant's.
func (s *Store) EventTypeFor(ctx context.Context, tenant, name string) (*EventType, error) {
	found, err := s.eventTypesFor(ctx, tenant, []string{name})
	if err != nil {
		return nil, err
	}
	t, ok := found[name]
	if !ok {
		return nil, ErrNotFound
	}
	return t, nil
}

// eventTypesFor returns those of the names that exist for a tenant.
func (s *Store) eventTypesFor(ctx context.Context, tenant string, names []string) (map[string]*EventType, error) {
	types, err := readEventTypes(ctx, s.db, `tenant IN ($1, '') AND name = ANY($2) AND NOT deleted ORDER BY tenant`, tenant, pq.Array(names))
	if err != nil {
		return nil, err
	}
	found := map[string]*EventType{}
	for _, t := range types { // The tenant's own come after those that are every tenant's.
		found[t.Name] = t
	}
	return found, nil
}

// EventTypeQuery asks for some of the event types.
type EventTypeQuery struct {
	Tenant string // its own and those that are every tenant's; empty: only the latter, unless All
	All    bool   // those of every tenant, whatever Tenant is
	// Held are scopes: types that a dialect brought are listed to tenants that have subscriptions of it, and to holders of the
	// type's scopes.
	Held []string
	// AfterAt, AfterName and AfterTenant are the event type after which to go on; a zero time at the start.
	AfterAt     time.Time
	AfterName   string
	AfterTenant string
	Asc         bool // the oldest first; else the newest
	Limit       int  // 0: all
}

// ListEventTypes returns event types in the order of their making; of two of one name, the tenant's own.
func (s *Store) ListEventTypes(ctx context.Context, q EventTypeQuery) ([]*EventType, error) {
	where := `tenant IN ($1, '') AND NOT deleted
	AND NOT (tenant = '' AND EXISTS (SELECT 1 FROM event_types o WHERE o.tenant = $1 AND $1 <> '' AND o.name = event_types.name AND NOT o.deleted))`
	args := []any{q.Tenant}
	if q.All {
		where, args = `NOT deleted`, nil
	}
	and := func(condition string, values ...any) {
		places := make([]any, len(values))
		for i, value := range values {
			args = append(args, value)
			places[i] = fmt.Sprintf("$%d", len(args))
		}
		where += fmt.Sprintf(" AND "+condition, places...)
	}
	if q.Tenant != "" && !q.All {
		and(`(dialect = '' OR cardinality(scopes) > 0 AND %s::text[] @> scopes
	OR dialect IN (SELECT s.dialect FROM subscriptions s WHERE s.tenant = $1 AND NOT s.deleted))`, array(q.Held))
	}
	order, beyond := postgres.Direction(q.Asc)
	if !q.AfterAt.IsZero() {
		and(`(created_at, name, tenant) `+beyond+` (%s, %s, %s)`, q.AfterAt, q.AfterName, q.AfterTenant)
	}
	where += ` ORDER BY created_at ` + order + `, name ` + order + `, tenant ` + order
	if q.Limit > 0 {
		where += fmt.Sprintf(" LIMIT %d", q.Limit)
	}
	return readEventTypes(ctx, s.db, where, args...)
}

// UpdateEventType saves an event type that was read before; its Revision must still be the current one, else
// the error is ErrChanged. Where nothing differs, nothing is written: the revision and the history stay.
func (s *Store) UpdateEventType(ctx context.Context, t *EventType) error {
	if err := t.validate(ctx); err != nil {
		return err
	}
	before, err := s.GetEventType(ctx, t.Tenant, t.Name)
	if err != nil {
		return err
	}
	if before.Revision != t.Revision {
		return ErrChanged
	}
	if err := s.checkReplacement(ctx, t, before.ReplacedBy); err != nil {
		return err
	}
	t.UpdatedAt, t.SchemaVersion, t.Dialect = s.now(), before.SchemaVersion, before.Dialect
	another := !sameJSON(before.Schema, t.Schema)
	if another {
		t.SchemaVersion++
	}
	difference := typeChangeOf(before, t, changes.Update)
	if len(difference.Changed) == 0 {
		t.UpdatedAt = before.UpdatedAt
		return nil
	}
	change, err := difference.Args(ctx)
	if err != nil {
		return err
	}
	err = s.within(ctx, func(ctx context.Context, tx *sql.Tx) error {
		err := tx.QueryRowContext(ctx, nextRevision+`, u AS (
UPDATE event_types SET description = $3, schema = $4, sample = $5, scopes = $6, archived = $7, updated_at = $8, revision = r.value,
	deprecated = $9, replaced_by = $10, validation = $11, schema_version = $12, dialect = $13
FROM r WHERE tenant = $1 AND name = $2 AND event_types.revision = $15 AND NOT deleted RETURNING event_types.revision),
c AS (`+changes.Insert(16, "")+` RETURNING actor_kind, actor_id, actor_name), v AS (`+insertVersion+`) SELECT revision FROM u`,
			append(append(t.args(), another, before.Revision), change...)...).Scan(&t.Revision)
		if err == nil && another {
			_, err = tx.ExecContext(ctx, trimVersions, t.Tenant, t.Name, mostVersions, mostVersionBytes)
		}
		return err
	})
	if errors.Is(err, sql.ErrNoRows) {
		return ErrChanged
	}
	if err != nil {
		return fmt.Errorf("update event type %s: %w", t.Name, err)
	}
	return nil
}

// DeleteEventType removes an event type of exactly this tenant, or with an empty tenant the one that is every tenant's. The error
// is a *ReplacementError if other types name it as their replacement.
func (s *Store) DeleteEventType(ctx context.Context, tenant, name string) error {
	before, err := s.GetEventType(ctx, tenant, name)
	if err != nil {
		return err
	}
	if err := s.checkReplaced(ctx, tenant, name); err != nil {
		return err
	}
	if err := s.touch(ctx, typeChangeOf(before, nil, changes.Delete), `UPDATE event_types SET `+wipedType+` FROM r
WHERE tenant = $2 AND name = $3 AND NOT deleted`, tenant, name); err != nil {
		return err
	}
	// Versions that a crash leaves here go when the name is used again, or with the tombstone.
	if _, err := s.db.ExecContext(ctx, forgetVersions+` AND EXISTS (
SELECT FROM event_types e WHERE e.tenant = $1 AND e.name = $2 AND e.deleted)`, tenant, name); err != nil {
		return fmt.Errorf("delete versions of event type %s: %w", name, err)
	}
	return nil
}

// validate judges an event type; its error is an *Invalid.
func (t *EventType) validate(ctx context.Context) error {
	bad := &Invalid{}
	bad.add("name", ValidEventType(t.Name))
	bad.add("description", checkProse(t.Description, maxDescription))
	if setDefault(&t.Validation, Enforce); !slices.Contains([]Validation{Off, Warn, Enforce}, t.Validation) {
		bad.addf("validation", "must be off, warn or enforce")
	}
	bad.add("sample", storable(&t.Sample, maxSampleBytes))
	bad.add("schema", storable(&t.Schema, maxSchemaBytes))
	if len(bad.Faults) == 0 && len(t.Schema) > 0 {
		compiled, err := compileSchema(t.Schema)
		bad.add("schema", err)
		if err == nil && len(t.Sample) > 0 {
			t.validateSample(ctx, compiled, bad)
		}
	}
	if len(t.Scopes) > maxTypeScopes {
		bad.addf("scopes", "must not have more than %d entries", maxTypeScopes)
	}
	for i, scope := range t.Scopes {
		if scope == "" || scope == AllScopes || checkBytes(scope, maxScopeLength) != nil {
			bad.addf(fmt.Sprintf("scopes[%d]", i), "must be 1 to %d characters, and not *", maxScopeLength)
		}
	}
	return bad.orNil()
}

func (t *EventType) validateSample(ctx context.Context, compiled *schema, bad *Invalid) {
	violations, err := compiled.validate(ctx, t.Sample, true)
	bad.add("sample", err)
	for _, v := range violations {
		bad.addf("sample"+v.Location[len("data"):], "does not fit the schema: %s", v.Message)
	}
}

// storable judges JSON and brings it to a form that Postgres takes: it refuses the character NUL, half
// surrogates and numbers of a million digits.
func storable(text *json.RawMessage, most int) error {
	if len(*text) == 0 || string(*text) == "null" {
		*text = nil
		return nil
	}
	if len(*text) > most {
		return fmt.Errorf("must not be larger than %d bytes", most)
	}
	doc, err := decodeExact(*text)
	if err != nil {
		return err
	}
	var out bytes.Buffer
	encoder := json.NewEncoder(&out)
	encoder.SetEscapeHTML(false)
	if err := encoder.Encode(doc); err != nil {
		return err
	}
	if bytes.Contains(out.Bytes(), []byte(`\u0000`)) {
		return errors.New("must not hold the character NUL")
	}
	*text = bytes.TrimSpace(out.Bytes())
	return nil
}

// tenantsWithOwn are the tenants that have an event type of this name for themselves.
func (s *Store) tenantsWithOwn(ctx context.Context, name string) (map[string]bool, error) {
	rows, err := s.db.QueryContext(ctx, `SELECT tenant FROM event_types WHERE name = $1 AND tenant <> '' AND NOT deleted`, name)
	tenants, err := postgres.Collect(rows, err, postgres.ScanOne[string])
	if err != nil {
		return nil, fmt.Errorf("read tenants with event type %s: %w", name, err)
	}
	own := make(map[string]bool, len(tenants))
	for _, tenant := range tenants {
		own[tenant] = true
	}
	return own, nil
}
