package fanout_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/fanfarehq/fanfare/fanout"
	"github.com/fanfarehq/fanfare/internal/event"
	"github.com/fanfarehq/fanfare/internal/servertest"
)

// Repeats are borne whether or not the group before had any, and what is new is written beside them.
func TestEventsAreRecordedOnce(t *testing.T) {
	t.Parallel()
	db := servertest.Postgres(t)
	at := time.Date(2026, 11, 20, 10, 0, 0, 123_456_789, time.UTC)
	for _, order := range [][]int{{0, 1, 2}, {2, 2, 3}, {3, 4}, {4, 4, 0, 5}} {
		ledger := fanout.NewLedger(db)
		for _, n := range order {
			e := &event.Event{
				ID: fmt.Sprint("e", n), Tenant: "acme", Type: "größe.geändert", Time: at, AcceptedAt: at, Seq: uint64(n), Data: []byte(`{}`),
				UID: event.UID("acme", fmt.Sprint("e", n), at),
			}
			if err := ledger.Record(t.Context(), e, 3, 1); err != nil {
				t.Errorf("event %d: %v", n, err)
			}
		}
	}
	var n int
	if err := db.QueryRow(`SELECT count(*) FROM events WHERE tenant = 'acme' AND type = 'größe.geändert' AND matched = 3
		AND time = '2026-11-20 10:00:00.123456+00' AND accepted_at = time AND length(hash) = 32 AND id = 'e' || seq`).Scan(&n); err != nil || n != 6 {
		t.Errorf("%d events, error %v; want 6", n, err)
	}
}
