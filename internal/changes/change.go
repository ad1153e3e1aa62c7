package changes

import (
	"bytes"
	"cmp"
	"context"
	"database/sql"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/lib/pq"

	"github.com/fanfarehq/fanfare/internal/api"
)

// The resources that have a history.
const (
	Subscription = "subscription"
	EventType    = "event_type"
	Key          = "key"
	Tenant       = "tenant"
)

// The actions.
const (
	Create       = "create"
	Update       = "update"
	Delete       = "delete"
	Pause        = "pause"
	Resume       = "resume"
	Disable      = "disable"
	Enable       = "enable"
	RotateSecret = "rotate_secret"
)

// Change is one change of one resource.
type Change struct {
	Tenant     string // empty for what belongs to no tenant
	Resource   string
	ResourceID string
	Action     string
	At         time.Time
	Changed    []string // the names of the fields that changed
	// Before and After are the definitions, without secrets, as values that encode to JSON objects; nil before a creation
	// and after a deletion. Before is stored only if the history does not have it.
	Before, After any
}

// Actor is who made a change.
type Actor struct {
	Kind string `json:"kind" enum:"key,admin,jwt,system" example:"key"`
	ID   string `json:"id" doc:"The key's id, or the subject of a token; admin for the first admin key, system for the system." example:"4fUxJ0zQ7aBc"`
	Name string `json:"name" doc:"The key's name; for the system, the reason." example:"Order service"`
}

type reasonKey struct{}

// By makes a context in which the system acts, for a reason such as gone.
func By(ctx context.Context, reason string) context.Context {
	return context.WithValue(ctx, reasonKey{}, reason)
}

// The ids of the actors that have none of their own: the admin key of the environment, and the system.
const (
	firstAdmin = "admin"
	system     = "system"
)

// actorOf is the caller of the request, or the system.
func actorOf(ctx context.Context) Actor {
	c := api.CallerFrom(ctx)
	switch {
	case c.Token:
		return Actor{Kind: "jwt", ID: c.KeyID, Name: c.Name}
	case c.Admin:
		return Actor{Kind: "admin", ID: cmp.Or(c.KeyID, firstAdmin), Name: c.Name}
	case c.KeyID != "":
		return Actor{Kind: "key", ID: c.KeyID, Name: c.Name}
	}
	reason, _ := ctx.Value(reasonKey{}).(string)
	return Actor{Kind: "system", ID: system, Name: reason}
}

// Diff names the members in which two JSON objects differ, but for those that every change touches.
func Diff(before, after any) ([]string, error) {
	a, err := members(before)
	if err != nil {
		return nil, err
	}
	b, err := members(after)
	if err != nil {
		return nil, err
	}
	all := maps.Clone(a)
	maps.Copy(all, b)
	var names []string
	for name := range all {
		if name != "updated_at" && name != "revision" && !bytes.Equal(a[name], b[name]) {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names, nil
}

func members(of any) (map[string]json.RawMessage, error) {
	text, err := json.Marshal(of)
	if err != nil {
		return nil, fmt.Errorf("encode a definition: %w", err)
	}
	// Decoded and encoded again, as Postgres gives JSON back in another order.
	var whole map[string]any
	in := json.NewDecoder(bytes.NewReader(text))
	in.UseNumber()
	if err := in.Decode(&whole); err != nil {
		return nil, fmt.Errorf("decode a definition: %w", err)
	}
	out := make(map[string]json.RawMessage, len(whole))
	for name, value := range whole {
		if out[name], err = json.Marshal(value); err != nil {
			return nil, fmt.Errorf("encode a definition: %w", err)
		}
	}
	return out, nil
}

// columns is how many arguments Insert takes.
const columns = 12

// Insert is a statement that records a change for each row of u, whose column revision is the change's. Its arguments are
// those of Change.Args and begin at $n. It is meant to be part of the statement that makes the change: where that changes
// nothing, nothing is recorded. The expression more is added to the definition; empty for nothing.
func Insert(n int, more string) string {
	p := make([]any, columns)
	for i := range p {
		p[i] = "$" + strconv.Itoa(n+i)
	}
	definition := fmt.Sprintf("%s::jsonb", p[10])
	if more != "" {
		definition += " || " + more
	}
	return fmt.Sprintf(`INSERT INTO changes (id, at, tenant, resource, resource_id, action, actor_kind, actor_id, actor_name, changed, definition, former, revision)
SELECT %[1]s::uuid, %[2]s::timestamptz, %[3]s::text, %[4]s::text, %[5]s::text, %[6]s::text, %[7]s::text, %[8]s::text, %[9]s::text, %[10]s::text[], `+definition+`,
    CASE WHEN NOT EXISTS (SELECT FROM changes o WHERE o.resource = %[4]s::text AND o.resource_id = %[5]s::text AND o.tenant = %[3]s::text) THEN %[12]s::jsonb END,
    u.revision FROM u`, p...)
}

// Args are the arguments of Insert.
func (c *Change) Args(ctx context.Context) ([]any, error) {
	id, err := uuid.NewV7()
	if err != nil {
		return nil, fmt.Errorf("make an id: %w", err)
	}
	after, err := nullable(c.After)
	if err != nil {
		return nil, err
	}
	before, err := nullable(c.Before)
	if err != nil {
		return nil, err
	}
	by := actorOf(ctx)
	if c.Changed == nil {
		c.Changed = []string{}
	}
	return []any{
		id, c.At, c.Tenant, c.Resource, c.ResourceID, c.Action, by.Kind, clean(by.ID), clean(by.Name), pq.Array(c.Changed), after, before,
	}, nil
}

// clean makes text of a token fit for Postgres.
func clean(text string) string {
	return strings.ReplaceAll(strings.ToValidUTF8(text, "\uFFFD"), "\x00", "\uFFFD")
}

func nullable(definition any) (sql.Null[string], error) {
	if definition == nil {
		return sql.Null[string]{}, nil
	}
	text, err := json.Marshal(definition)
	if err != nil {
		return sql.Null[string]{}, fmt.Errorf("encode a definition: %w", err)
	}
	return sql.Null[string]{V: string(text), Valid: true}, nil
}

// counted is the row u of a resource without revisions of its own: its changes are counted.
const counted = `WITH u AS (SELECT coalesce(max(revision), 0) + 1 AS revision FROM changes
    WHERE resource = $4::text AND resource_id = $5::text AND tenant = $3::text) `

// Record records a change of a resource without revisions of its own, as part of the transaction that makes it.
func Record(ctx context.Context, tx *sql.Tx, c *Change) error {
	args, err := c.Args(ctx)
	if err != nil {
		return err
	}
	if _, err := tx.ExecContext(ctx, counted+Insert(1, ""), args...); err != nil {
		return fmt.Errorf("record the change of %s %s: %w", c.Resource, c.ResourceID, err)
	}
	return nil
}
