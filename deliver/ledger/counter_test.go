package ledger_test

import (
	"database/sql"
	"fmt"
	"log/slog"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/fanfarehq/fanfare/deliver/ledger"
	"github.com/fanfarehq/fanfare/internal/servertest"
)

// A tenant that publishes under ever new types and to many subscriptions fills a bounded part of the sums, of 100 types and some 10,000
// rows; nothing is lost.
func TestCountsOfATenantAreBounded(t *testing.T) {
	t.Parallel()
	db := servertest.Postgres(t)
	c := ledger.NewCounter(db, slog.New(slog.DiscardHandler))
	hour, usual := time.Now().UTC().Truncate(time.Hour), uuid.New()
	for round := range 3 {
		for _, fill := range []string{
			`SELECT 'types', $3::uuid, CASE n % 2 WHEN 0 THEN 'usual' ELSE 't' || $2::integer || '-' || n END FROM generate_series(1, 240) n`,
			`SELECT 'subs', CASE n % 2 WHEN 0 THEN $3::uuid ELSE gen_random_uuid() END, 'usual' FROM generate_series(1, 12000) n`,
		} {
			if _, err := db.Exec(`INSERT INTO count_packets (at, tenant, subscription_id, event_type, reason, class, ended, bucket, n)
SELECT array_agg($1::timestamptz + $2::integer * interval '1 minute'), array_agg(tenant), array_agg(subscription), array_agg(type), array_agg('ok'::text),
    array_agg(2::smallint), array_agg(1::smallint), array_agg(40::smallint), array_agg(1::bigint) FROM (`+fill+`) p (tenant, subscription, type)`,
				hour, round, usual); err != nil {
				t.Fatal(err)
			}
		}
		if err := c.Fold(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	for tenant, want := range map[string]map[int]string{ // by step: deliveries, types in a bin at most beside the rest, rows, deliveries of the type usual
		"types": {1: "720 100 303 360", 60: "720 100 101 360"},
		"subs":  {1: "36000 1 18003 36000", 60: "36000 1 12002 24000"},
	} {
		for step, w := range want {
			var deliveries, types, rows, usual int
			if err := db.QueryRow(`
SELECT sum(n), max(types), sum(rows), sum(usual) FROM (
    SELECT sum(n) AS n, count(DISTINCT event_type) FILTER (WHERE event_type <> '') AS types, count(*) AS rows, sum(n) FILTER (WHERE event_type = 'usual') AS usual
    FROM delivery_counts WHERE tenant = $1 AND step = $2 GROUP BY at) bins`, tenant, step).Scan(&deliveries, &types, &rows, &usual); err != nil {
				t.Fatal(err)
			}
			if got := fmt.Sprint(deliveries, types, rows, usual); got != w {
				t.Errorf("%s, step %d: got %v, want %v", tenant, step, got, w)
			}
		}
	}
}

// packet writes a packet of ten deliveries of each tenant.
func packet(t *testing.T, db *sql.DB, tenants string) {
	t.Helper()
	if _, err := db.Exec(`INSERT INTO count_packets (at, tenant, subscription_id, event_type, reason, class, ended, bucket, n)
SELECT array_agg(date_trunc('hour', now())), array_agg(tenant), array_agg(gen_random_uuid()), array_agg('t'::text), array_agg('ok'::text), array_agg(2::smallint),
    array_agg(1::smallint), array_agg(40::smallint), array_agg(1::bigint) FROM generate_series(1, 10) i, unnest(string_to_array($1, ' ')) tenant`, tenants); err != nil {
		t.Fatal(err)
	}
}

// A fold takes packets by their rows, and fewer where the time of a statement does not suffice.
func TestAFoldIsTakenInParts(t *testing.T) {
	t.Parallel()
	db := servertest.Postgres(t)
	for range 2 {
		packet(t, db, "acme")
	}
	if _, err := db.Exec(`
CREATE FUNCTION too_slow() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
    IF (SELECT count(*) FROM fresh) > 20 THEN RAISE EXCEPTION USING ERRCODE = 'query_canceled', MESSAGE = 'canceling statement due to statement timeout'; END IF;
    RETURN NULL;
END $$;
CREATE TRIGGER too_slow AFTER INSERT ON delivery_counts REFERENCING NEW TABLE AS fresh FOR EACH STATEMENT EXECUTE FUNCTION too_slow()`); err != nil {
		t.Fatal(err)
	}
	c := ledger.NewCounter(db, slog.New(slog.DiscardHandler))
	if err := c.Fold(t.Context()); err != nil {
		t.Fatal(err)
	}
	var n int
	if err := db.QueryRow(`SELECT sum(n) FROM delivery_counts WHERE step = 1`).Scan(&n); err != nil || n != 20 {
		t.Errorf("%d are counted, want 20, error %v", n, err)
	}
}

// Erasing a tenant takes its counts out of packets and leaves the others' for the fold.
func TestErasingATenantFoldsNothing(t *testing.T) {
	t.Parallel()
	db := servertest.Postgres(t)
	packet(t, db, "acme other")
	packet(t, db, "acme")
	packet(t, db, "other")
	c := ledger.NewCounter(db, slog.New(slog.DiscardHandler))
	if err := c.EraseTenant(t.Context(), "acme"); err != nil {
		t.Fatal(err)
	}
	var packets, sums, rest int
	if err := db.QueryRow(`SELECT (SELECT count(*) FROM count_packets WHERE NOT 'acme' = ANY (tenant)), (SELECT count(*) FROM delivery_counts)`).Scan(&packets, &sums); err != nil ||
		packets != 2 || sums != 0 {
		t.Errorf("%d packets and %d sums are left, want 2 and 0, error %v", packets, sums, err)
	}
	if err := c.Fold(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := db.QueryRow(`SELECT sum(n), count(*) FILTER (WHERE tenant <> 'other') FROM delivery_counts WHERE step = 60`).Scan(&sums, &rest); err != nil || sums != 20 || rest != 0 {
		t.Errorf("%d are counted, and %d rows of others, want 20 and 0, error %v", sums, rest, err)
	}
	for range 2 {
		if err := c.EraseTenant(t.Context(), "other"); err != nil {
			t.Fatal(err)
		}
	}
	if err := db.QueryRow(`SELECT (SELECT count(*) FROM delivery_counts) + (SELECT count(*) FROM count_bins) + (SELECT count(*) FROM count_packets)`).Scan(&rest); err != nil || rest != 0 {
		t.Errorf("%d rows are left, error %v", rest, err)
	}
}
