// The statements cannot be reached from outside, and their plans show how many rows they look at.

package history

import (
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/fanfarehq/fanfare/internal/servertest"
)

// The statements that a route runs look at a bounded number of rows, whatever the ledger holds.
func TestStatementsAreBounded(t *testing.T) {
	t.Parallel()
	db := servertest.Postgres(t)
	const rows, limit = 5000, 100
	sub := uuid.New()
	if _, err := db.Exec(`INSERT INTO deliveries (id, tenant, event_uid, event_id, event_type, seq, subscription_id, generation, state, reason,
    attempts, created_at, ended_at, started_at, duration_us, status, error)
SELECT gen_random_uuid(), 'acme', gen_random_uuid(), 'e', 't', n, $1, 0, 'dead', 'http_5xx', 1, now(), now(), now(), 1, 500, ''
FROM generate_series(1, $2) n`, sub, rows); err != nil {
		t.Fatal(err)
	}
	if _, err := db.Exec(`INSERT INTO deferrals (id, tenant, event_uid, event_id, event_type, seq, subscription_id, generation, reason, attempts, step, test,
    held, created_at, due_at, claim_at)
SELECT gen_random_uuid(), 'acme', gen_random_uuid(), 'e', 't', n, $1, 0, 'http_5xx', 1, 1, false, n % 1000 = 0, now(), now(), now()
FROM generate_series(1, $2) n`, sub, rows); err != nil {
		t.Fatal(err)
	}
	for _, fill := range []string{
		`INSERT INTO delivery_counts SELECT CASE WHEN n % 50 = 0 THEN 'acme' ELSE 'other' END, 1, date_trunc('minute', now()) - n * interval '1 second', gen_random_uuid(), 't', 'ok', 2, 1, 40, 1 FROM generate_series(1, $1::integer) n`,
		`INSERT INTO failing (subscription_id, since, failures) SELECT gen_random_uuid(), now(), 1 FROM generate_series(1, $1::integer)`,
		`INSERT INTO changes (id, at, tenant, resource, resource_id, revision, action, actor_kind, actor_id, actor_name, changed)
		 SELECT ('00000000-0000-7000-8000-' || lpad(n::text, 12, '0'))::uuid, now(), 'acme', 'subscription', gen_random_uuid(), n, 'disable', 'system', '', '', '{}' FROM generate_series(1, $1::integer) n`,
		`INSERT INTO quarantine (id, stream_seq, tenant, subject, received_at, reason, detail, data) SELECT gen_random_uuid(), n, 'acme', 's', now(), 'r', '', '' FROM generate_series(1, $1::integer) n`,
		`INSERT INTO events (uid, tenant, id, type, time, accepted_at, seq, matched, hash)
		 SELECT gen_random_uuid(), 'acme', n, 't', now(), now(), n, 0, '' FROM generate_series(1, $1::integer) n`,
	} {
		if _, err := db.Exec(fill, rows); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := db.Exec(`ANALYZE`); err != nil {
		t.Fatal(err)
	}
	sums, sumsArgs := sumsQuery{tenant: "acme", step: "1m", since: time.Now().Add(-time.Hour), until: time.Now()}.statement("delivery_counts")
	for name, tt := range map[string]struct {
		query string
		args  []any
	}{
		"stats":            {statsQuery, []any{sub, uuid.Nil, limit}},
		"the last success": {lastSuccess, []any{sub, uuid.Max, limit}},

		"sums of a tenant":               {sums, sumsArgs},
		"events of two minutes":          {countAccepted, []any{"", uuid.Nil, limit}},
		"events of a tenant":             {countAccepted, []any{"acme", uuid.Nil, limit}},
		"pending deliveries":             {countPending, []any{"", "breaker_open", limit}},
		"pending deliveries of a tenant": {countPending, []any{"acme", "breaker_open", limit}},
		"failing subscriptions":          {failingOfAll, []any{limit, 10}},
		"failing ones of a tenant":       {failingOf, []any{"acme", 10}},
		"disabled subscriptions":         {lastDisabled, []any{"", limit, 10}},
		"disabled ones of a tenant":      {lastDisabled, []any{"acme", limit, 10}},
		"quarantine":                     {countQuarantined, []any{"", limit}},
		"quarantine of a tenant":         {countQuarantined, []any{"acme", limit}},
	} {
		if got := servertest.Examined(t, db, tt.query, tt.args...); got > limit {
			t.Errorf("%s: a step looks at %v rows of %d, want at most %v", name, got, rows, limit)
		}
	}
}
