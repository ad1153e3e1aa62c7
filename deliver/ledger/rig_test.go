package ledger_test

import (
	"database/sql"
	"fmt"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/fanfarehq/fanfare/deliver/outcome"
	"github.com/fanfarehq/fanfare/internal/event"
	"github.com/fanfarehq/fanfare/internal/servertest"
)

func TestMain(m *testing.M) { servertest.Main(m) }

// count asks the database for a number.
func count(t *testing.T, db *sql.DB, query string, args ...any) (n int) {
	t.Helper()
	if err := db.QueryRow(query, args...).Scan(&n); err != nil {
		t.Fatal(err)
	}
	return n
}

// delivered makes records of deliveries that succeeded at once, with events of their own.
func delivered(n int) []*outcome.Record {
	at := time.Now().Truncate(time.Microsecond)
	list := make([]*outcome.Record, n)
	for i := range list {
		id := fmt.Sprintf("e%d-%s", i, uuid.New())
		uid, sub := event.UID("acme", id, at), uuid.New()
		list[i] = &outcome.Record{
			Delivery: outcome.ID(uid, sub, 0, at), Tenant: "acme", EventUID: uid, EventID: id, EventType: "größe.geändert", Seq: uint64(i), Subscription: sub,
			CreatedAt: at, Outcome: outcome.Delivered, Reason: outcome.ReasonOK, At: at.Add(time.Second), Step: 1, Attempts: 1,
			Attempt: &outcome.Made{Number: 1, StartedAt: at, Micros: 900, Status: 204, Reason: outcome.ReasonOK},
		}
	}
	return list
}
