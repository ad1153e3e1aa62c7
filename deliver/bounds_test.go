package deliver_test

import (
	"strconv"
	"testing"

	"github.com/fanfarehq/fanfare/deliver/outcome"
	"github.com/fanfarehq/fanfare/internal/servertest"
)

// A worker reads the subscriptions that fail a page at a time, removes those that are gone, and knows of those that another worker
// has seen fail.
func TestFailingSubscriptionsAreReadInPages(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	sub := r.subscribe(servertest.NewReceiver(t).URL, nil)
	const page = 1000
	for _, prepare := range []string{
		`CREATE TABLE removed (n bigint)`,
		`CREATE FUNCTION note_removed() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN INSERT INTO removed SELECT count(*) FROM gone; RETURN NULL; END $$`,
		`CREATE TRIGGER note_removed AFTER DELETE ON failing REFERENCING OLD TABLE AS gone FOR EACH STATEMENT EXECUTE FUNCTION note_removed()`,
		`INSERT INTO failing (subscription_id, since, failures) SELECT gen_random_uuid(), now(), 1 FROM generate_series(1, ` + strconv.Itoa(page+100) + `)`,
		`INSERT INTO failing (subscription_id, since, failures) SELECT id, now(), 1 FROM subscriptions`,
	} {
		if _, err := r.DB.Exec(prepare); err != nil {
			t.Fatal(err)
		}
	}
	r.worker(quick())
	r.recorder()
	r.Eventually("those that are gone to be removed", func() bool { return r.Count(`SELECT count(*) FROM failing`) == 1 })
	if n := r.Count(`SELECT max(n) FROM removed`); n > page {
		t.Errorf("%d rows are removed at once, want %d at most", n, page)
	}
	r.Eventually("a success to end the streak that another worker began", func() bool {
		r.ended(r.send(r.event(), sub), outcome.Delivered, outcome.ReasonOK)
		return r.Count(`SELECT count(*) FROM failing`) == 0
	})
}

// Rate limits of subscriptions that are gone are removed a page at a time, and after the last page from the start again.
func TestRateLimitsAreForgottenInPages(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	sub := r.subscribe("http://127.0.0.1:1/", nil)
	const page = 10_000
	if _, err := r.DB.Exec(`INSERT INTO rate_limits (subscription_id, gap, sent, queue)
SELECT overlay(gen_random_uuid()::text PLACING '7' FROM 15)::uuid, 1, 0, 0 FROM generate_series(1, $1) UNION ALL SELECT $2::uuid, 1, 0, 0`, 2*page+50, sub.ID); err != nil {
		t.Fatal(err)
	}
	gate := r.gate()
	// The subscription that exists is in one of the pages, and counts there.
	for turn, most := range []int{page + 52, 52, 1} {
		if err := gate.Forget(t.Context()); err != nil {
			t.Fatal(err)
		}
		if n := r.Count(`SELECT count(*) FROM rate_limits`); n > most || n < 1 {
			t.Errorf("%d rate limits are left after page %d, want %d at most", n, turn+1, most)
		}
	}
	if _, err := r.DB.Exec(`INSERT INTO rate_limits (subscription_id, gap, sent, queue) VALUES ('00000000-0000-7000-8000-000000000001', 1, 0, 0)`); err != nil {
		t.Fatal(err)
	}
	if err := gate.Forget(t.Context()); err != nil {
		t.Fatal(err)
	}
	if n := r.Count(`SELECT count(*) FROM rate_limits WHERE subscription_id = $1`, sub.ID); n != 1 || r.Count(`SELECT count(*) FROM rate_limits`) != 1 {
		t.Errorf("what is left is not the limit of the subscription that exists")
	}
}
