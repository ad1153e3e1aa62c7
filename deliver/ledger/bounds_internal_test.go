// The statements cannot be reached from outside, and their plans show how many rows they look at.

package ledger

import (
	"testing"
	"time"

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
	for _, fill := range []string{
		`INSERT INTO count_packets (at, tenant, subscription_id, event_type, reason, class, ended, bucket, n)
SELECT ARRAY[now()], ARRAY['t' || n], ARRAY[gen_random_uuid()], ARRAY['t'], ARRAY['ok'], ARRAY[2], ARRAY[1], ARRAY[40], ARRAY[1] FROM generate_series(1, $1) n`,
		`INSERT INTO delivery_counts SELECT 'old', 1, '2020-01-01', gen_random_uuid(), 't', 'ok', 2, 1, 40, 1 FROM generate_series(1, $1)`,
		`INSERT INTO count_bins SELECT 'old' || n, 1, now(), '{}', 1 FROM generate_series(1, $1) n`,
	} {
		if _, err := db.Exec(fill, rows); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := db.Exec(`ANALYZE deferrals, stopped_keys, count_packets, delivery_counts, count_bins`); err != nil {
		t.Fatal(err)
	}
	for name, tt := range map[string]struct {
		query string
		args  []any
		most  float64
	}{
		"strays of a large backlog": {nextStrays, []any{uuid.Nil, strayPage}, limit},
		"setting free what is held": {setFree, []any{sub, limit}, limit},
		"keys that stand still":     {goOnKeys, []any{uuid.Nil, uuid.Nil, limit}, 2 * limit},
		"folding counts":            {fold, []any{limit, limit, MostTypes, MostRows}, 2 * limit},
		"packets of a tenant":       {withoutTenant, []any{"t5", 0, limit}, limit},
		"old counts":                {dropOld("delivery_counts"), []any{1, time.Now(), limit}, limit},
	} {
		if got := servertest.Examined(t, db, tt.query, tt.args...); got > tt.most {
			t.Errorf("%s: a step looks at %v rows of %d, want at most %v", name, got, rows, tt.most)
		}
	}
}
