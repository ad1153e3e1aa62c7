package postgres_test

import (
	"log/slog"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/fanfarehq/fanfare/internal/postgres"
	"github.com/fanfarehq/fanfare/internal/servertest"
)

// idOf is an id of a time.
func idOf(at time.Time) uuid.UUID {
	id := uuid.New()
	for i := range 6 {
		id[i] = byte(at.UnixMilli() >> (8 * (5 - i)))
	}
	id[6] = id[6]&0x0f | 0x70
	return id
}

func TestRetentionDropsWhatIsOldAndEnded(t *testing.T) {
	t.Parallel()
	db := servertest.Postgres(t)
	const day = 24 * time.Hour
	now := time.Now().UTC()
	exec := func(query string, args ...any) {
		t.Helper()
		if _, err := db.ExecContext(t.Context(), query, args...); err != nil {
			t.Fatal(err)
		}
	}
	count := func(query string) (n int) {
		t.Helper()
		if err := db.QueryRowContext(t.Context(), query).Scan(&n); err != nil {
			t.Fatal(err)
		}
		return n
	}
	// Days 100, 60, 20 and 0 ago; that of 60 days ago has a delivery that has not ended, that of 150 ago no partition.
	for _, ago := range []int{100, 60, 20, 0} {
		at := now.Add(-time.Duration(ago) * day)
		if err := postgres.EnsurePartitions(t.Context(), db, at, at); err != nil {
			t.Fatal(err)
		}
	}
	for _, ago := range []int{150, 100, 60, 20, 0} {
		at := now.Add(-time.Duration(ago) * day)
		event, delivery := idOf(at), idOf(at)
		exec(`INSERT INTO events VALUES ($1, 'acme', 'e', 't', $2, $2, 1, 1, '')`, event, at)
		exec(`INSERT INTO attempts VALUES ($1, 1, $2, 1, 500, '', NULL, 'http_5xx')`, delivery, at)
		exec(`INSERT INTO event_data VALUES ($1, 'x')`, event)
		exec(`INSERT INTO tenant_keys VALUES ('acme', $1, 'x')`, at.Unix()/int64(day.Seconds()))
		exec(`INSERT INTO quarantine VALUES ($1, 'acme', $3, 's', $2, 'r', '', '')`, delivery, at, ago)
		if ago == 60 {
			exec(`INSERT INTO deferrals (id, tenant, event_uid, event_id, event_type, seq, subscription_id, generation, reason, attempts, step,
    test, held, created_at, due_at, claim_at) VALUES ($1, 'acme', $2, 'e', 't', 1, $1, 0, 'paused', 1, 1, false, true, $3, $3, $3)`, delivery, event, at)
			continue
		}
		exec(`INSERT INTO deliveries (id, tenant, event_uid, event_id, event_type, seq, subscription_id, generation, state, reason,
    attempts, created_at, ended_at, duration_us, status, error) VALUES ($1, 'acme', $2, 'e', 't', 1, $1, 0, 'dead', 'ok', 1, $3, $3, 1, 0, '')`, delivery, event, at)
	}
	r := postgres.NewRetention(postgres.RetentionConfig{Events: 50 * day, Deliveries: 50 * day, Attempts: 30 * day, Quarantine: 10 * day}, db, slog.New(slog.DiscardHandler))
	for range 2 { // It may be repeated.
		if err := r.Apply(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	// What has not ended keeps its day, and the rows beside the partitions with it.
	for query, want := range map[string]int{
		`SELECT count(*) FROM events`: 4, `SELECT count(*) FROM deliveries`: 3, `SELECT count(*) FROM attempts`: 4, `SELECT count(*) FROM deferrals`: 1,
		`SELECT count(*) FROM event_data`: 3, `SELECT count(*) FROM quarantine`: 1,
		`SELECT count(*) FROM tenant_keys`: 3,
	} {
		if got := count(query); got != want {
			t.Errorf("%s: %d, want %d", query, got, want)
		}
	}
	exec(`DELETE FROM deferrals`)
	if err := r.Apply(t.Context()); err != nil {
		t.Fatal(err)
	}
	for query, want := range map[string]int{
		`SELECT count(*) FROM events`: 2, `SELECT count(*) FROM deliveries`: 2, `SELECT count(*) FROM attempts`: 2, `SELECT count(*) FROM event_data`: 2,
		`SELECT count(*) FROM tenant_keys`: 2,
	} {
		if got := count(query); got != want {
			t.Errorf("once all has ended, %s: %d, want %d", query, got, want)
		}
	}
}

func TestRetentionIsValidated(t *testing.T) {
	t.Parallel()
	const month = 30 * 24 * time.Hour
	good := postgres.RetentionConfig{Events: month, Deliveries: month, Attempts: month, Quarantine: month}
	if err := good.Validate(); err != nil {
		t.Error(err)
	}
	for _, change := range []func(*postgres.RetentionConfig){
		func(c *postgres.RetentionConfig) { c.Attempts = time.Hour },
		func(c *postgres.RetentionConfig) { c.Deliveries = month - 1 },
	} {
		bad := good
		change(&bad)
		if bad.Validate() == nil {
			t.Errorf("%+v is taken", bad)
		}
	}
}
