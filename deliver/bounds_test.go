package deliver

import (
	"testing"

	"github.com/google/uuid"

	"github.com/fanfarehq/fanfare/internal/servertest"
)

// A page of failing subscriptions looks at a bounded number of rows, however many fail.
func TestAPageOfFailingOnesIsBounded(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	const rows, limit = 5000, 100
	if _, err := r.DB.Exec(`INSERT INTO failing (subscription_id, since, failures) SELECT gen_random_uuid(), now(), 1 FROM generate_series(1, $1)`, rows); err != nil {
		t.Fatal(err)
	}
	if _, err := r.DB.Exec(`ANALYZE failing`); err != nil {
		t.Fatal(err)
	}
	if got := servertest.Examined(t, r.DB, nextFailing, uuid.Nil, limit); got > 2*limit {
		t.Errorf("a step looks at %v rows of %d, want at most %v", got, rows, 2*limit)
	}
}

// A worker reads the subscriptions that fail a page at a time, and forgets those that are gone.
func TestFailingSubscriptionsAreReadInPages(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	sub := r.subscribe("http://127.0.0.1:1/", nil)
	if _, err := r.DB.Exec(`INSERT INTO failing (subscription_id, since, failures)
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
	if n := r.Count(`SELECT count(*) FROM failing`); n != 1 {
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
	if _, err := r.DB.Exec(`INSERT INTO rate_limits (subscription_id, gap, sent, queue)
SELECT overlay(gen_random_uuid()::text PLACING '7' FROM 15)::uuid, 1, 0, 0 FROM generate_series(1, $1) UNION ALL SELECT $2::uuid, 1, 0, 0`, 2*page+50, sub.ID); err != nil {
		t.Fatal(err)
	}
	w := must(NewWorker(quick(), r.parts(quick()).deps))(t)
	// The subscription that exists is in one of the pages, and counts there.
	for turn, most := range []int{page + 52, 52, 1} {
		if err := w.gate.Forget(t.Context()); err != nil {
			t.Fatal(err)
		}
		if n := r.Count(`SELECT count(*) FROM rate_limits`); n > most || n < 1 {
			t.Errorf("%d rate limits are left after page %d, want %d at most", n, turn+1, most)
		}
	}
	if _, err := r.DB.Exec(`INSERT INTO rate_limits (subscription_id, gap, sent, queue) VALUES ('00000000-0000-7000-8000-000000000001', 1, 0, 0)`); err != nil {
		t.Fatal(err)
	}
	if err := w.gate.Forget(t.Context()); err != nil {
		t.Fatal(err)
	}
	if n := r.Count(`SELECT count(*) FROM rate_limits WHERE subscription_id = $1`, sub.ID); n != 1 || r.Count(`SELECT count(*) FROM rate_limits`) != 1 {
		t.Errorf("what is left is not the limit of the subscription that exists")
	}
}
