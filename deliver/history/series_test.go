package history_test

import (
	"context"
	"database/sql"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/fanfarehq/fanfare/deliver/history"
	"github.com/fanfarehq/fanfare/deliver/ledger"
	"github.com/fanfarehq/fanfare/deliver/outcome"
	"github.com/fanfarehq/fanfare/internal/api"
	"github.com/fanfarehq/fanfare/internal/fair"
	"github.com/fanfarehq/fanfare/internal/servertest"
)

// holder is a key of acme's, or the admin.
type holder struct{}

func (holder) Authenticate(_ context.Context, credential string) (api.Caller, error) {
	if credential == "admin" {
		return api.Caller{Admin: true}, nil
	}
	return api.Caller{Tenant: credential, Scopes: []string{"deliveries:read"}}, nil
}

// site serves the routes over a database, and asks them.
func site(t *testing.T, db *sql.DB) func(key, path string, status int, into any) {
	t.Helper()
	return siteWith(t, db, nil)
}

func siteWith(t *testing.T, db *sql.DB, heavy *fair.Room) func(key, path string, status int, into any) {
	t.Helper()
	mux := http.NewServeMux()
	to := api.New(mux, api.Config{Title: "t", Version: "1", CursorKey: []byte("k")}, holder{})
	history.Routes(to, history.RoutesDeps{DB: db, Heavy: heavy})
	history.RegisterOverview(to, history.OverviewDeps{
		DB: db, Heavy: heavy, DisableAfter: time.Hour, DiskFree: func() (uint64, bool) { return 7, true },
		Durability: func(context.Context) string { return "synced" },
		Broker: func(context.Context) (history.BrokerState, error) {
			return history.BrokerState{Backlog: history.Backlog{1, 2, 3}, Storage: history.Storage{EventsBytes: 4, EventsMaxBytes: 5}}, nil
		},
	})
	server := httptest.NewServer(mux)
	t.Cleanup(server.Close)
	return func(key, path string, status int, into any) {
		t.Helper()
		req := must(http.NewRequestWithContext(t.Context(), http.MethodGet, server.URL+path, nil))(t)
		req.Header.Set("X-API-Key", key)
		resp := must(server.Client().Do(req))(t)
		defer resp.Body.Close()
		if resp.StatusCode != status {
			t.Fatalf("GET %s: got %d, want %d", path, resp.StatusCode, status)
		}
		if status == http.StatusOK {
			if err := json.NewDecoder(resp.Body).Decode(into); err != nil {
				t.Fatal(err)
			}
		}
	}
}

// counted is what of an answer the tests look at.
type counted struct {
	Step   string
	Series []struct {
		Key    map[string]any
		Points []history.Point
	}
}

func TestDeliveriesAreCountedOverTime(t *testing.T) {
	t.Parallel()
	db := servertest.Postgres(t)
	books := ledger.New(db)
	now := time.Now().UTC().Truncate(time.Hour)
	one, two := uuid.New(), uuid.New()
	record := func(sub uuid.UUID, kind outcome.Outcome, at time.Time, status int) *outcome.Record {
		r := &outcome.Record{
			Delivery: uuid.Must(uuid.NewV7()), EventUID: uuid.Must(uuid.NewV7()), EventID: "e", EventType: "a", Tenant: "acme", Subscription: sub,
			Step: 1, Outcome: kind, Reason: outcome.ReasonServer, Attempts: 1, CreatedAt: at, At: at,
			Attempt: &outcome.Made{Number: 1, StartedAt: at, Micros: 10_000, Status: status, Reason: outcome.ReasonServer},
		}
		if kind == outcome.Delivered {
			r.Reason, r.Attempt.Reason = outcome.ReasonOK, outcome.ReasonOK
		}
		return r
	}
	first := []*outcome.Record{
		record(one, outcome.Delivered, now, 200), record(one, outcome.Delivered, now, 200), record(two, outcome.Later, now, 503),
		record(two, outcome.Dead, now.Add(time.Minute), 503),
	}
	cancelled := record(two, outcome.Cancelled, now.Add(time.Minute), 0)
	cancelled.Attempt, cancelled.Reason, cancelled.Tenant = nil, outcome.ReasonDeleted, "other"
	// Written twice, as after a crash: what ended with its first attempt counts once.
	for _, records := range [][]*outcome.Record{append(first[:4:4], cancelled), {first[0], first[1], first[3]}} {
		if err := books.Write(t.Context(), records); err != nil {
			t.Fatal(err)
		}
	}
	books.Close()
	counter := ledger.NewCounter(db, slog.New(slog.DiscardHandler))
	for range 2 {
		if err := counter.Fold(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	ask := site(t, db)
	brief := func(key, query string) (text string) {
		t.Helper()
		var got counted
		ask(key, "/v1/metrics/deliveries?since="+now.Format(time.RFC3339)+"&until="+now.Add(5*time.Minute).Format(time.RFC3339)+query, http.StatusOK, &got)
		for _, s := range got.Series {
			text += fmt.Sprint(s.Key)
			for _, p := range s.Points {
				text += fmt.Sprintf(" %dm:%d/%d/%d of %d, %d failed", int(p.At.Sub(now).Minutes()), p.Delivered, p.Dead, p.Cancelled, p.Attempts, p.Failed)
				if p.P50 != nil && (*p.P50 < 9 || *p.P50 > 11 || *p.P99 != *p.P50) {
					t.Errorf("%s: the percentiles of 10 ms are %v and %v", query, *p.P50, *p.P99)
				}
			}
			text += ";"
		}
		return text
	}
	for _, tc := range []struct{ key, query, want string }{
		{"acme", "", "map[] 0m:2/0/0 of 3, 1 failed 1m:0/1/0 of 1, 1 failed;"},
		{"admin", "", "map[] 0m:2/0/0 of 3, 1 failed 1m:0/1/1 of 1, 1 failed;"},
		{"admin", "&tenant=other", "map[] 1m:0/0/1 of 0, 0 failed;"},
		{"admin", "&step=5m&by=status_class", "map[status_class:2xx] 0m:2/0/0 of 2, 0 failed;map[status_class:5xx] 0m:0/1/0 of 2, 2 failed;map[status_class:none] 0m:0/0/1 of 0, 0 failed;"},
		{"admin", "&step=5m&by=reason&subscription=" + one.String(), "map[reason:ok] 0m:2/0/0 of 2, 0 failed;"},
		{"admin", "&step=1h&by=type", "map[type:a] 0m:2/1/1 of 4, 2 failed;"},
		{"acme", "&step=5m", "map[] 0m:2/1/0 of 4, 2 failed;"},
		{"acme", "&step=1h", "map[] 0m:2/1/0 of 4, 2 failed;"},
		{"acme", "&step=5m&by=status_class", "map[status_class:2xx] 0m:2/0/0 of 2, 0 failed;map[status_class:5xx] 0m:0/1/0 of 2, 2 failed;"},
		{"acme", "&step=5m&by=reason", "map[reason:ok] 0m:2/0/0 of 2, 0 failed;map[reason:http_5xx] 0m:0/1/0 of 2, 2 failed;"},
		{"acme", "&step=5m&by=type", "map[type:a] 0m:2/1/0 of 4, 2 failed;"},
		{"acme", "&step=5m&subscription=" + one.String() + "&by=subscription", "map[subscription:" + one.String() + "] 0m:2/0/0 of 2, 0 failed;"},
		{"globex", "", "map[];"},
		{"globex", "&by=type", ""},
	} {
		if got := brief(tc.key, tc.query); got != tc.want {
			t.Errorf("%s %s: got %s, want %s", tc.key, tc.query, got, tc.want)
		}
	}
	ask("acme", "/v1/metrics/deliveries?since=2020-01-01T00:00:00Z", http.StatusUnprocessableEntity, nil)

	// More series than an answer has: the rest is one.
	if _, err := db.Exec(`INSERT INTO delivery_counts (tenant, step, at, subscription_id, event_type, reason, class, ended, bucket, n)
SELECT 'many', 1, $1, $2, 't' || n, 'ok', 2, 1, 40, n FROM generate_series(1, 250) n`, now, one); err != nil {
		t.Fatal(err)
	}
	var many counted
	ask("many", "/v1/metrics/deliveries?by=type&since="+now.Format(time.RFC3339)+"&until="+now.Add(time.Minute).Format(time.RFC3339), http.StatusOK, &many)
	if n := len(many.Series); n != 200+1 || many.Series[0].Key["type"] != "t250" || many.Series[n-1].Key["other"] != true ||
		many.Series[n-1].Points[0].Delivered != 50*51/2 {
		t.Errorf("got %d series, the first of %v, the last of %v", n, many.Series[0].Key, many.Series[n-1])
	}
	// Old sums go.
	if err := counter.Sweep(t.Context(), now.Add(49*time.Hour)); err != nil {
		t.Fatal(err)
	}
	if got := brief("acme", "&step=1m") + brief("acme", "&step=1h"); got != "map[];map[] 0m:2/1/0 of 4, 2 failed;" {
		t.Errorf("after two days: %s", got)
	}
	if err := counter.EraseTenant(t.Context(), "acme"); err != nil {
		t.Fatal(err)
	}
	if got := brief("acme", "&step=1h"); got != "map[];" {
		t.Errorf("after the tenant was erased: %s", got)
	}
}

// A series of all tenants by type is refused when it would be made of more than 500,000 counts; without by it is made of totals.
func TestSeriesOfAllTenantsAreBounded(t *testing.T) {
	t.Parallel()
	db := servertest.Postgres(t)
	at := time.Now().UTC().Truncate(time.Hour)
	for _, statement := range []string{ // Rows that are not stored.
		`ALTER TABLE delivery_counts RENAME TO stored`,
		`CREATE FUNCTION counted() RETURNS timestamptz LANGUAGE sql IMMUTABLE AS $$ SELECT '` + at.Format(time.RFC3339) + `'::timestamptz $$`,
		`CREATE VIEW delivery_counts AS SELECT 'acme' AS tenant, 1::smallint AS step, counted() AS at, '00000000-0000-0000-0000-000000000001'::uuid AS subscription_id,
		    't' AS event_type, 'ok' AS reason, 2::smallint AS class, 1::smallint AS ended, 40::smallint AS bucket, n::bigint FROM generate_series(1, 500001) n`,
	} {
		if _, err := db.Exec(statement); err != nil {
			t.Fatal(err)
		}
	}
	ask := site(t, db)
	path := "/v1/metrics/deliveries?since=" + at.Format(time.RFC3339) + "&until=" + at.Add(time.Hour).Format(time.RFC3339)
	ask("admin", path+"&by=type", http.StatusUnprocessableEntity, nil)
	ask("admin", path+"&by=subscription", http.StatusUnprocessableEntity, nil)
	ask("admin", path, http.StatusOK, &struct{}{})
	ask("admin", path+"&by=type&tenant=other", http.StatusOK, &struct{}{})
}

// Costly reads of all tenants share places: one that finds none is 503.
func TestCostlyReadsTakePlaces(t *testing.T) {
	t.Parallel()
	room := fair.NewRoom(1, time.Millisecond)
	ask := siteWith(t, servertest.Postgres(t), room)
	all := []string{"/v1/overview", "/v1/failures", "/v1/metrics/deliveries"}
	leave, err := room.Enter(t.Context(), "acme")
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range all {
		ask("admin", path, http.StatusServiceUnavailable, nil)
	}
	leave()
	for _, path := range all {
		ask("admin", path, http.StatusOK, &struct{}{})
	}
}

func TestOverview(t *testing.T) {
	t.Parallel()
	db := servertest.Postgres(t)
	for _, statement := range []string{
		`INSERT INTO subscriptions (id, tenant, dialect, name, description, url, event_types, resource_id, changed, filter, headers, payload_format,
		    retry_schedule, timeout_ms, max_in_flight, secrets, status, disabled_reason, version, metadata, scopes, created_at, updated_at, revision)
		 SELECT ('00000000-0000-0000-0000-00000000000' || n)::uuid, 'acme', 'native', 'n' || n, '', 'https://example.com', '{a}', '', '{}', '', '{}', 'standard', '{}', 1000, 1,
		    '', CASE n WHEN 2 THEN 'disabled' ELSE 'active' END, CASE n WHEN 2 THEN 'gone' ELSE '' END, 'V1', '{}', '{}', now(), now(), n FROM generate_series(1, 2) n`,
		`INSERT INTO failing (subscription_id, since, failures, endpoint) VALUES ('00000000-0000-0000-0000-000000000001', '2026-11-29T10:00:00Z', 5, 1)`,
		`INSERT INTO changes (id, at, tenant, resource, resource_id, revision, action, actor_kind, actor_id, actor_name, changed)
		 VALUES ('00000000-0000-7000-8000-000000000001', now(), 'acme', 'subscription', '00000000-0000-0000-0000-000000000002', 1, 'disable', 'system', '', 'gone', '{status}')`,
		`INSERT INTO deferrals (id, tenant, event_uid, event_id, event_type, seq, subscription_id, generation, reason, attempts, step, test, held, created_at, due_at, claim_at)
		 SELECT gen_random_uuid(), CASE n WHEN 4 THEN 'other' ELSE 'acme' END, gen_random_uuid(), 'e', 't', n, '00000000-0000-0000-0000-000000000001', 0,
		    CASE n WHEN 1 THEN 'breaker_open' ELSE 'http_5xx' END, 1, 1, false, n = 2, now(), '2026-11-29T10:00:00Z', now() FROM generate_series(1, 4) n`,
		`INSERT INTO processes (id, role, host, version) VALUES (gen_random_uuid(), 'all', 'h', 'v')`,
		`INSERT INTO events (uid, tenant, id, type, time, accepted_at, seq, matched, hash)
		 VALUES ((lpad(to_hex((extract(epoch FROM now()) * 1000)::bigint), 12, '0') || '70008000000000000001')::uuid, 'acme', 'e', 't', now(), now(), 1, 0, '')`,
		`INSERT INTO delivery_totals VALUES (1, date_trunc('minute', now()), 'ok', 2, 1, 53, 3)`,
	} {
		if _, err := db.Exec(statement); err != nil {
			t.Fatal(err)
		}
	}
	ask := site(t, db)
	var v history.Overview
	ask("admin", "/v1/overview", http.StatusOK, &v)
	if v.Pending != 4 || v.Held != 1 || v.Overdue != 3 || v.BreakersOpen != 1 || v.OldestDueAt == nil || v.Durability != "synced" ||
		v.Backlog == nil || *v.Backlog != (history.Backlog{1, 2, 3}) || v.Storage == nil || *v.Storage.DiskFree != 7 || v.Processes == nil || len(*v.Processes) != 1 {
		t.Errorf("got %+v", v)
	}
	if v.Rates.Accepted <= 0 || v.Rates.Delivered <= 0 || v.Rates.Failed != 0 || v.Latency.P50 == nil {
		t.Errorf("the rates are %+v, the latency %+v", v.Rates, v.Latency)
	}
	if len(v.Failing) != 1 || v.Failing[0].Failures != 5 || !v.Failing[0].DisablesAt.Equal(v.Failing[0].Since.Add(time.Hour)) {
		t.Errorf("failing are %+v", v.Failing)
	}
	if len(v.Disabled) != 1 || v.Disabled[0].Reason != "gone" || v.Disabled[0].Name != "n2" {
		t.Errorf("disabled are %+v", v.Disabled)
	}
	v = history.Overview{}
	ask("admin", "/v1/overview?tenant=other", http.StatusOK, &v)
	if v.Pending != 1 || len(v.Failing) != 0 || len(v.Disabled) != 0 || v.Backlog != nil || v.Storage != nil || v.Processes != nil {
		t.Errorf("of another tenant: %+v", v)
	}
	ask("acme", "/v1/overview", http.StatusForbidden, nil)
	ask("acme", "/v1/processes", http.StatusForbidden, nil)
	var list struct{ Data []history.Process }
	ask("admin", "/v1/processes", http.StatusOK, &list)
	if len(list.Data) != 1 || list.Data[0].Host != "h" {
		t.Errorf("got %+v", list)
	}
}
