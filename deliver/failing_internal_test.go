package deliver

import (
	"testing"

	"github.com/google/uuid"

	"github.com/fanfarehq/fanfare/internal/servertest"
)

// This file needs the inside: how many rows a statement looks at is shown by its plan, for which the statement is needed.

// A page of failing subscriptions looks at a bounded number of rows, however many fail.
func TestAPageOfFailingOnesIsBounded(t *testing.T) {
	t.Parallel()
	db := servertest.Postgres(t)
	const rows, limit = 5000, 100
	if _, err := db.Exec(`INSERT INTO failing (subscription_id, since, failures) SELECT gen_random_uuid(), now(), 1 FROM generate_series(1, $1)`, rows); err != nil {
		t.Fatal(err)
	}
	if _, err := db.Exec(`ANALYZE failing`); err != nil {
		t.Fatal(err)
	}
	if got := servertest.Examined(t, db, nextFailing, uuid.Nil, limit); got > 2*limit {
		t.Errorf("a step looks at %v rows of %d, want at most %v", got, rows, 2*limit)
	}
}
