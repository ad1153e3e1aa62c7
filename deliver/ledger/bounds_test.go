package ledger

import (
	"testing"

	"github.com/google/uuid"

	"github.com/fanfarehq/fanfare/internal/servertest"
)

// The statements that a loop runs look at a bounded number of rows, whatever the ledger holds.
func TestStatementsAreBounded(t *testing.T) {
	t.Parallel()
	db, sub := servertest.Postgres(t), uuid.New()
	const rows, limit = 5000, 100
	if _, err := db.Exec(`INSERT INTO deferrals (id, tenant, event_uid, event_id, event_type, seq, subscription_id, generation, reason, attempts, step, test,
    held, created_at, due_at, claim_at)
SELECT gen_random_uuid(), 'acme', gen_random_uuid(), 'e', 't', n, $1, 0, 'http_5xx', 1, 1, false, n % 1000 = 0, now(), now(), now()
FROM generate_series(1, $2) n`, sub, rows); err != nil {
		t.Fatal(err)
	}
	if _, err := db.Exec(`INSERT INTO stopped_keys (subscription_id, order_key, event_uid)
SELECT gen_random_uuid(), gen_random_uuid(), gen_random_uuid() FROM generate_series(1, $1)`, rows); err != nil {
		t.Fatal(err)
	}
	if _, err := db.Exec(`ANALYZE deferrals, stopped_keys`); err != nil {
		t.Fatal(err)
	}
	for name, tt := range map[string]struct {
		query string
		args  []any
		most  float64
	}{
		"strays of a large backlog": {nextStrays, []any{uuid.Nil, StrayPage}, limit},
		"setting free what is held": {setFree, []any{sub, limit}, limit},
		"keys that stand still":     {goOnKeys, []any{uuid.Nil, uuid.Nil, limit}, 2 * limit},
	} {
		if got := servertest.Examined(t, db, tt.query, tt.args...); got > tt.most {
			t.Errorf("%s: a step looks at %v rows of %d, want at most %v", name, got, rows, tt.most)
		}
	}
}
