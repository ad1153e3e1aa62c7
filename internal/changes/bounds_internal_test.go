// Statements cannot be reached from outside, and the bounds of a history are too large to be filled in a test.

package changes

import (
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/fanfarehq/fanfare/internal/servertest"
)

// The statements that routes and loops run look at a bounded number of rows, whatever the history holds.
func TestStatementsAreBounded(t *testing.T) {
	t.Parallel()
	db := servertest.Postgres(t)
	const rows, limit = 5000, 100
	if _, err := db.Exec(`INSERT INTO changes (id, at, tenant, resource, resource_id, revision, action, actor_kind, actor_id, actor_name, changed, definition)
SELECT ('00000000-0000-7000-8000-' || lpad(n::text, 12, '0'))::uuid, now(), 'acme', 'subscription', 's' || n % 10, n, 'update', 'key', 'k' || n % 2, '', '{}', '{}'
FROM generate_series(1, $1) n`, rows); err != nil {
		t.Fatal(err)
	}
	if _, err := db.Exec(`VACUUM ANALYZE changes`); err != nil {
		t.Fatal(err)
	}
	type statement struct {
		query string
		args  []any
	}
	list := func(q query) statement {
		q.resources, q.limit = []string{Subscription, EventType, Key, Tenant}, limit
		text, args := q.statement()
		return statement{text, args}
	}
	for name, tt := range map[string]statement{
		"all changes":                    list(query{}),
		"of a tenant":                    list(query{tenant: "acme"}),
		"by an actor":                    list(query{actor: "k1"}),
		"of a tenant, before a time":     list(query{tenant: "acme", until: time.Unix(1, 0).Add(-2 * idSlack)}),
		"whether there is one":           {hasSubscription, []any{"s1", uuid.Nil, "acme"}},
		"a page of the sweep":            {sweepPage, []any{time.Now(), uuid.Nil, firstID(time.Now()), limit}},
		"tenants that changed something": {changers, []any{uuid.Nil, limit}},
		"what exceeds a tenant's share":  {excess, []any{"acme", limit - 2, 1 << 30}},
	} {
		if got := servertest.Examined(t, db, tt.query, tt.args...); got > limit {
			t.Errorf("%s: a step looks at %v rows of %d, want at most %v", name, got, rows, limit)
		}
	}
}

// Of a tenant that changes much, the newest changes stay, within its rows and its bytes.
func TestAHistoryIsBoundedByRowsAndBytes(t *testing.T) {
	t.Parallel()
	db := servertest.Postgres(t)
	if _, err := db.Exec(`INSERT INTO changes (id, at, tenant, resource, resource_id, revision, action, actor_kind, actor_id, actor_name, changed, definition)
SELECT gen_random_uuid(), now(), tenant, 'subscription', 's', n, 'update', 'key', 'k', '', '{}', jsonb_build_object('name', repeat('x', size))
FROM (VALUES ('rows', 1), ('bytes', 10000), ('few', 1)) t (tenant, size), generate_series(1, 20) n WHERE tenant <> 'few' OR n < 5`); err != nil {
		t.Fatal(err)
	}
	log := NewLog(db)
	log.most, log.mostBytes = 10, 50_000
	since := time.Now()
	next, err := log.Trim(t.Context(), time.Unix(0, 0))
	if err != nil || next.After(since) {
		t.Fatalf("goes on at %v, error %v", next, err)
	}
	for tenant, want := range map[string]int{"rows": 10, "bytes": 4, "few": 4} {
		var n int
		if err := db.QueryRow(`SELECT count(*) FROM changes WHERE tenant = $1`, tenant).Scan(&n); err != nil || n != want {
			t.Errorf("%s: %d changes are left, want %d, error %v", tenant, n, want, err)
		}
	}
}
