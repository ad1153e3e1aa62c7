package history_test

import (
	"net/http"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/fanfarehq/fanfare/deliver/outcome"
	"github.com/fanfarehq/fanfare/internal/servertest"
)

// The last success is found behind more failures than the newest deliveries are looked through for it, which are 10,000.
func TestTheLastSuccessIsFoundBeforeTheFailures(t *testing.T) {
	t.Parallel()
	db := servertest.Postgres(t)
	sub := uuid.New()
	began := time.Now().Add(-time.Hour)
	if _, err := db.Exec(`INSERT INTO subscriptions (id, tenant, dialect, name, description, url, event_types, resource_id, changed, filter, headers, payload_format,
    retry_schedule, timeout_ms, max_in_flight, secrets, status, disabled_reason, version, metadata, scopes, created_at, updated_at, revision)
VALUES ($1, 'acme', 'native', 'n', '', 'https://example.com', '{a}', '', '{}', '', '{}', 'standard', '{}', 1000, 1, '', 'active', '', 'V1', '{}', '{}', now(), now(), 1)`,
		sub); err != nil {
		t.Fatal(err)
	}
	if _, err := db.Exec(`INSERT INTO deliveries (id, tenant, event_uid, event_id, event_type, seq, subscription_id, generation, state, reason,
    attempts, created_at, ended_at, started_at, duration_us, status, error)
SELECT CASE WHEN n = 0 THEN $2::uuid ELSE ('fff' || substr(gen_random_uuid()::text, 4))::uuid END, 'acme', gen_random_uuid(), 'e', 't', n, $1, 0,
    CASE WHEN n = 0 THEN 'delivered' ELSE 'dead' END, 'ok', 1, now(), now(), now(), 1, 500, ''
FROM generate_series(0, 10000) n`, sub, outcome.FirstID(began.Add(-time.Hour))); err != nil {
		t.Fatal(err)
	}
	ask := site(t, db)
	lastSuccess := func() *time.Time {
		t.Helper()
		var stats struct {
			LastSuccess *time.Time `json:"last_success_at"`
		}
		ask("acme", "/v1/subscriptions/"+sub.String()+"/stats", http.StatusOK, &stats)
		return stats.LastSuccess
	}
	if at := lastSuccess(); at != nil {
		t.Errorf("got %v of a subscription that is not known to fail", at)
	}
	if _, err := db.Exec(`INSERT INTO failing (subscription_id, since, failures) VALUES ($1, $2, 10)`, sub, began); err != nil {
		t.Fatal(err)
	}
	if lastSuccess() == nil {
		t.Error("the last success is not found")
	}
}
