package deliver

import (
	"testing"

	"github.com/google/uuid"

	"github.com/fanfarehq/fanfare/deliver/ledger"
	"github.com/fanfarehq/fanfare/internal/servertest"
)

// The statements that a loop runs look at a bounded number of rows, whatever the ledger holds.
func TestStatementsAreBounded(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	sub := r.subscribe("http://127.0.0.1:1/", nil)
	const rows, limit = 5000, 100
	if _, err := r.db.Exec(`INSERT INTO deferrals (id, tenant, event_uid, event_id, event_type, seq, subscription_id, generation, reason, attempts, step, test,
    held, created_at, due_at, claim_at)
SELECT gen_random_uuid(), 'acme', gen_random_uuid(), 'e', 't', n, $1, 0, 'http_5xx', 1, 1, false, n % 1000 = 0, now(), now(), now()
FROM generate_series(1, $2) n`, sub.ID, rows); err != nil {
		t.Fatal(err)
	}
	if _, err := r.db.Exec(`INSERT INTO failing (subscription_id, since, failures) SELECT gen_random_uuid(), now(), 1 FROM generate_series(1, $1)`, rows); err != nil {
		t.Fatal(err)
	}
	if _, err := r.db.Exec(`INSERT INTO stopped_keys (subscription_id, order_key, event_uid)
SELECT gen_random_uuid(), gen_random_uuid(), gen_random_uuid() FROM generate_series(1, $1)`, rows); err != nil {
		t.Fatal(err)
	}
	if _, err := r.db.Exec(`ANALYZE deferrals, failing, stopped_keys`); err != nil {
		t.Fatal(err)
	}
	for name, tt := range map[string]struct {
		query string
		args  []any
		most  float64
	}{
		"strays of a large backlog": {ledger.NextStrays, []any{uuid.Nil, ledger.StrayPage}, limit},
		"setting free what is held": {ledger.SetFree, []any{sub.ID, limit}, limit},
		"keys that stand still":     {ledger.GoOnKeys, []any{uuid.Nil, uuid.Nil, limit}, 2 * limit},
		"a page of failing ones":    {nextFailing, []any{uuid.Nil, limit}, 2 * limit},
	} {
		if got := servertest.Examined(t, r.db, tt.query, tt.args...); got > tt.most {
			t.Errorf("%s: a step looks at %v rows of %d, want at most %v", name, got, rows, tt.most)
		}
	}
}

// A worker reads the subscriptions that fail a page at a time, and forgets those that are gone.
func TestFailingSubscriptionsAreReadInPages(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	sub := r.subscribe("http://127.0.0.1:1/", nil)
	if _, err := r.db.Exec(`INSERT INTO failing (subscription_id, since, failures)
SELECT gen_random_uuid(), now(), 1 FROM generate_series(1, $1) UNION ALL SELECT $2::uuid, now(), 1`, 2*failingPage, sub.ID); err != nil {
		t.Fatal(err)
	}
	w := must(NewWorker(quick(), r.parts(quick()).deps))(t)
	k := w.failing
	for range 3 {
		if err := k.learn(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if !k.known[sub.ID] || len(k.known) != 2*failingPage+1 {
		t.Errorf("%d are known after a round, want all %d", len(k.known), 2*failingPage+1)
	}
	if n := r.count(`SELECT count(*) FROM failing`); n != 1 {
		t.Errorf("%d rows are left, want that of the subscription that exists", n)
	}
	if err := k.learn(t.Context()); err != nil {
		t.Fatal(err)
	}
	if len(k.known) != 1 {
		t.Errorf("%d are known, want the one that is left", len(k.known))
	}
}

// Rate limits of subscriptions that are gone are removed a page at a time, and after the last page from the start again.
func TestRateLimitsAreForgottenInPages(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	sub := r.subscribe("http://127.0.0.1:1/", nil)
	const page = 10_000 // of deliver/throttle
	if _, err := r.db.Exec(`INSERT INTO rate_limits (subscription_id, gap, sent, queue)
SELECT overlay(gen_random_uuid()::text PLACING '7' FROM 15)::uuid, 1, 0, 0 FROM generate_series(1, $1) UNION ALL SELECT $2::uuid, 1, 0, 0`, 2*page+50, sub.ID); err != nil {
		t.Fatal(err)
	}
	w := must(NewWorker(quick(), r.parts(quick()).deps))(t)
	// The subscription that exists is in one of the pages, and counts there.
	for turn, most := range []int{page + 52, 52, 1} {
		if err := w.gate.Forget(t.Context()); err != nil {
			t.Fatal(err)
		}
		if n := r.count(`SELECT count(*) FROM rate_limits`); n > most || n < 1 {
			t.Errorf("%d rate limits are left after page %d, want %d at most", n, turn+1, most)
		}
	}
	if _, err := r.db.Exec(`INSERT INTO rate_limits (subscription_id, gap, sent, queue) VALUES ('00000000-0000-7000-8000-000000000001', 1, 0, 0)`); err != nil {
		t.Fatal(err)
	}
	if err := w.gate.Forget(t.Context()); err != nil {
		t.Fatal(err)
	}
	if n := r.count(`SELECT count(*) FROM rate_limits WHERE subscription_id = $1`, sub.ID); n != 1 || r.count(`SELECT count(*) FROM rate_limits`) != 1 {
		t.Errorf("what is left is not the limit of the subscription that exists")
	}
}
