package subscriptions

import (
	"bytes"
	"context"
	"database/sql"
	"encoding/json"
	"fmt"
	"math"
	"time"

	"github.com/fanfarehq/fanfare/internal/changes"
	"github.com/fanfarehq/fanfare/internal/postgres"
)

// The newest versions of an event type's schema are kept: so many, of so many bytes, and always the last one.
const (
	mostVersions     = 100
	mostVersionBytes = 1 << 20
)

// Version is the schema of an event type from one change of it to the next.
type Version struct {
	Number int
	Schema json.RawMessage // nil: there was none from then on
	At     time.Time
	Actor  changes.Actor
}

// insertVersion records a schema of the statements that save an event type: $14 says whether it is another one.
const insertVersion = `INSERT INTO event_type_versions (tenant, name, version, schema, at, actor_kind, actor_id, actor_name)
SELECT $1, $2, $12, $4, $8, c.actor_kind, c.actor_id, c.actor_name FROM c WHERE $14 ON CONFLICT DO NOTHING`

// trimVersions removes old versions of an event type.
const trimVersions = `DELETE FROM event_type_versions WHERE tenant = $1 AND name = $2 AND version IN (
SELECT version FROM (SELECT version, row_number() OVER newest AS nth, sum(coalesce(octet_length(schema::text), 0)) OVER newest AS bytes
	FROM event_type_versions WHERE tenant = $1 AND name = $2 WINDOW newest AS (ORDER BY version DESC)) v
WHERE nth > $3 OR nth > 1 AND bytes > $4)`

// forgetVersions removes the versions of an event type.
const forgetVersions = `DELETE FROM event_type_versions WHERE tenant = $1 AND name = $2`

// VersionQuery asks for some of the versions of an event type of exactly this tenant.
type VersionQuery struct {
	Tenant, Name string
	After        int  // the version after which to go on; 0 at the start
	Asc          bool // the oldest first; else the newest
	Limit        int
}

// Versions returns versions in the order of their numbers.
func (s *Store) Versions(ctx context.Context, q VersionQuery) ([]Version, error) {
	beyond, order, after := "version < $3", "DESC", q.After
	switch {
	case q.Asc:
		beyond, order = "version > $3", "ASC"
	case after == 0:
		after = math.MaxInt32
	}
	rows, err := s.db.QueryContext(ctx, `SELECT version, schema, at, actor_kind, actor_id, actor_name FROM event_type_versions
WHERE tenant = $1 AND name = $2 AND `+beyond+` ORDER BY version `+order+` LIMIT $4`, q.Tenant, q.Name, after, q.Limit)
	versions, err := postgres.Collect(rows, err, func(rows *sql.Rows) (v Version, err error) {
		err = rows.Scan(&v.Number, (*[]byte)(&v.Schema), &v.At, &v.Actor.Kind, &v.Actor.ID, &v.Actor.Name)
		return v, err
	})
	if err != nil {
		return nil, fmt.Errorf("read versions of event type %s: %w", q.Name, err)
	}
	return versions, nil
}

// sameJSON reports whether two JSON texts have the same value; empty is none.
func sameJSON(a, b json.RawMessage) bool {
	if bytes.Equal(a, b) {
		return true
	}
	if len(a) == 0 || len(b) == 0 {
		return false
	}
	one, errOne := decodeExact(a)
	other, errOther := decodeExact(b)
	if errOne != nil || errOther != nil {
		return false
	}
	j := &judging{steps: math.MaxInt}
	return bytes.Equal(j.key(nil, one), j.key(nil, other))
}
