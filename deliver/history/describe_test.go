package history_test

import (
	"testing"

	"github.com/google/uuid"

	"github.com/fanfarehq/fanfare/deliver/history"
	"github.com/fanfarehq/fanfare/deliver/outcome"
	"github.com/fanfarehq/fanfare/internal/servertest"
)

// A delivery of generation 0 shows that the event matched, be it pending or ended; one that a replay made first does not.
func TestADeliveryShowsThatTheEventMatchedThen(t *testing.T) {
	t.Parallel()
	db := servertest.Postgres(t)
	counts := history.NewCounts(history.RoutesDeps{DB: db})
	event := uuid.Must(uuid.NewV7())
	ended, pending, replayed, none := uuid.New(), uuid.New(), uuid.New(), uuid.New()
	for sub, generations := range map[uuid.UUID][]int{ended: {0, 1}, replayed: {1}} {
		for _, generation := range generations {
			id := outcome.FirstDelivery(event, sub)
			if generation > 0 {
				id = uuid.Must(uuid.NewV7())
			}
			if _, err := db.Exec(`INSERT INTO deliveries (id, tenant, event_uid, event_id, event_type, seq, subscription_id, generation, state, reason,
    attempts, created_at, ended_at, started_at, duration_us, status, error)
VALUES ($1, 'acme', $2, 'e', 't', 1, $3, $4, 'delivered', 'ok', 1, now(), now(), now(), 1, 200, '')`, id, event, sub, generation); err != nil {
				t.Fatal(err)
			}
		}
	}
	if _, err := db.Exec(`INSERT INTO deferrals (id, tenant, event_uid, event_id, event_type, seq, subscription_id, generation, reason, attempts, step, test,
    held, created_at, due_at, claim_at)
VALUES ($1, 'acme', $2, 'e', 't', 1, $3, 0, 'http_5xx', 1, 1, false, false, now(), now(), now())`,
		outcome.FirstDelivery(event, pending), event, pending); err != nil {
		t.Fatal(err)
	}
	for sub, want := range map[uuid.UUID]bool{ended: true, pending: true, replayed: false, none: false} {
		if got := must(counts.MatchedThen(t.Context(), event, sub))(t); got != want {
			t.Errorf("ended %t, pending %t, replayed %t: matched %t, want %t", sub == ended, sub == pending, sub == replayed, got, want)
		}
	}
}
