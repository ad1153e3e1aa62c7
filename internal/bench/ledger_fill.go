package bench

import (
	"context"
	"database/sql"
	"fmt"
	"time"

	"github.com/fanfarehq/fanfare/internal/event"
	"github.com/fanfarehq/fanfare/internal/postgres"
)

// fillChunk is how many rows one statement inserts: well within the time that a statement has.
const fillChunk = 100_000

// fill inserts one event for each ten deliveries. One delivery in fifty is dead, and all of a broken subscription of the large
// tenant's; one in a thousand has an attempt before; of each hundred one more waits.
func (b *ledgerBench) fill(ctx context.Context) error {
	if err := postgres.EnsurePartitions(ctx, b.db, b.today.AddDate(0, 0, 1-b.cmd.Days), b.today); err != nil {
		return err
	}
	statements := []string{
		// The row i is event i/10 for subscription i%10 of its tenant; ids are UUIDv7 of times that grow with i.
		`CREATE FUNCTION pg_temp.v7(at timestamptz, salt text) RETURNS uuid LANGUAGE sql AS $$
    SELECT (lpad(to_hex((extract(epoch FROM at) * 1000)::bigint), 12, '0') || '7' || substr(md5(salt), 1, 3) || '8' || substr(md5(salt), 4, 15))::uuid $$`,
		`CREATE FUNCTION pg_temp.owner(event bigint, tenants bigint) RETURNS bigint LANGUAGE sql AS $$
    SELECT CASE WHEN event % 10 = 0 THEN 0 ELSE 1 + (event * 7919) % (tenants - 1) END $$`,
		`CREATE FUNCTION pg_temp.moment(event bigint, events bigint, first timestamptz, days integer) RETURNS timestamptz LANGUAGE sql AS $$
    SELECT first + event::float8 / events * days * interval '1 day' $$`,
	}
	conn, err := b.filler.Conn(ctx) // the functions are this connection's
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close() }() // its errors came with the statements'
	for _, s := range statements {
		if _, err := conn.ExecContext(ctx, s); err != nil {
			return err
		}
	}
	first, events := b.today.AddDate(0, 0, 1-b.cmd.Days), b.cmd.Rows/10
	for from := 0; from < b.cmd.Rows; from += fillChunk {
		to := min(from+fillChunk, b.cmd.Rows) - 1
		for _, s := range []string{fillEvents, fillDeliveries, fillDeferrals} {
			if _, err := conn.ExecContext(ctx, s, from, to, b.cmd.Tenants, first, b.cmd.Days, events); err != nil {
				return err
			}
		}
		if from/fillChunk%10 == 9 {
			fmt.Fprintf(b.console.Err, "%d of %d deliveries\n", to+1, b.cmd.Rows)
		}
	}
	for _, s := range fillOthers {
		if _, err := conn.ExecContext(ctx, s, b.cmd.Tenants, first, b.cmd.Rows); err != nil {
			return err
		}
	}
	if _, err := conn.ExecContext(ctx, fillRefs, event.ObjectRef("t0", "few"), event.ObjectRef("t0", "many")); err != nil {
		return err
	}
	for day := range b.cmd.Days {
		if err := b.count(ctx, conn, first.AddDate(0, 0, day), day >= b.cmd.Days-2); err != nil {
			return err
		}
	}
	if _, err := conn.ExecContext(ctx, fillTotals); err != nil {
		return err
	}
	_, err = conn.ExecContext(ctx, `VACUUM ANALYZE`)
	return err
}

// count fills the sums of a day: by hour, and by minute for those of the last two days.
func (b *ledgerBench) count(ctx context.Context, conn *sql.Conn, day time.Time, minutes bool) error {
	steps := map[int]string{60: "hour"}
	if minutes {
		steps[1] = "minute"
	}
	for step, unit := range steps {
		if _, err := conn.ExecContext(ctx, fillCounts, step, unit, event.FirstUID(day), event.FirstUID(day.AddDate(0, 0, 1))); err != nil {
			return err
		}
	}
	return nil
}

const (
	fillEvents = `INSERT INTO events (uid, tenant, id, type, time, accepted_at, seq, matched, hash, revision)
SELECT pg_temp.v7(at, 'e' || e), 't' || owner, 'evt_' || e, 'type_' || e % 50, at, at, e, 10, '', 1
FROM (SELECT e, pg_temp.owner(e, $3::bigint) AS owner, pg_temp.moment(e, $6::bigint, $4::timestamptz, $5::integer) AS at
    FROM generate_series($1::bigint / 10, $2::bigint / 10) AS e) x ON CONFLICT DO NOTHING`
	fillDeliveries = `INSERT INTO deliveries (id, tenant, event_uid, event_id, event_type, seq, subscription_id, generation, state, reason,
    attempts, created_at, ended_at, started_at, duration_us, status, error, response)
SELECT pg_temp.v7(at, 'd' || i), 't' || owner, pg_temp.v7(at, 'e' || i / 10), 'evt_' || i / 10, 'type_' || (i / 10) % 50, i / 10,
    md5('s' || owner || '.' || i % 10)::uuid, 0, CASE WHEN dead THEN 'dead' ELSE 'delivered' END,
    CASE WHEN dead THEN 'http_5xx' ELSE 'ok' END, 1, at, at, at, 20000, 200, '', 'ok'
FROM (SELECT i, owner, i % 50 = 7 OR owner = 0 AND i % 10 = 7 AS dead, pg_temp.moment(i / 10, $6::bigint, $4::timestamptz, $5::integer) AS at
    FROM generate_series($1::bigint, $2::bigint) AS i, pg_temp.owner(i / 10, $3::bigint) AS owner) x`
	// Attempts took 6 to 80 ms.
	fillCounts = `INSERT INTO delivery_counts (step, tenant, at, subscription_id, event_type, reason, class, ended, bucket, n)
SELECT $1::smallint, tenant, date_trunc($2, ended_at, 'UTC'), subscription_id, event_type, reason, CASE state WHEN 'dead' THEN 5 ELSE 2 END,
    CASE state WHEN 'dead' THEN 2 ELSE 1 END, 50 + get_byte(decode(md5(id::text), 'hex'), 0) % 16, count(*)
FROM deliveries WHERE id >= $3 AND id < $4 GROUP BY 2, 3, 4, 5, 6, 7, 8, 9`
	fillTotals = `INSERT INTO delivery_totals SELECT step, at, reason, class, ended, bucket, sum(n)::bigint FROM delivery_counts GROUP BY 1, 2, 3, 4, 5, 6`
	// One object of the large tenant's has twenty events, another each tenth of all.
	fillRefs = `INSERT INTO event_refs (uid, ref)
SELECT uid, CASE WHEN seq % 100 = 0 AND seq < 2000 THEN $1::uuid ELSE $2::uuid END FROM events WHERE tenant = 't0' AND seq % 10 = 0`
	fillDeferrals = `INSERT INTO deferrals (id, tenant, event_uid, event_id, event_type, seq, subscription_id, generation, reason, attempts, step,
    test, held, created_at, due_at, claim_at)
SELECT pg_temp.v7(at, 'w' || i), 't' || owner, pg_temp.v7(at, 'e' || i / 10), 'evt_' || i / 10, 'type_' || (i / 10) % 50, i / 10,
    md5('s' || owner || '.' || i % 10)::uuid, 1, 'http_5xx', 1, 1, false, i % 200 = 0, at, now() + interval '1 hour', now() + interval '1 hour'
FROM (SELECT i, pg_temp.owner(i / 10, $3::bigint) AS owner, pg_temp.moment(i / 10, $6::bigint, $4::timestamptz, $5::integer) AS at
    FROM generate_series($1::bigint, $2::bigint) AS i WHERE i % 100 = 0) x`
)

// fillOthers are what belongs to the tenants beside their deliveries. Each has ten subscriptions on one of a hundred hosts; the large one
// has a long history and many replays: in proportion to the rows, which are $3.
var fillOthers = []string{
	`INSERT INTO tenants (tenant, name, created_at) SELECT 't' || owner, 'Tenant ' || owner, $2::timestamptz + owner * interval '1 second'
FROM generate_series(0, $1::integer - 1) AS owner WHERE $3::integer > 0`,
	`INSERT INTO subscriptions (id, tenant, dialect, name, description, url, event_types, resource_id, changed, filter, headers,
    payload_format, retry_schedule, timeout_ms, max_in_flight, secrets, status, disabled_reason, version, metadata, scopes,
    created_at, updated_at, revision)
SELECT md5('s' || owner || '.' || i)::uuid, 't' || owner, '', 'bench ' || i, '', 'https://h' || owner % 100 || '.example.com/', '{*}', '', '{}', '', '{}',
    'standard', '{}', 1000, 1, '', CASE i WHEN 8 THEN 'paused' WHEN 9 THEN 'disabled' ELSE 'active' END, CASE i WHEN 9 THEN 'failing' ELSE '' END, '', '{}', '{*}',
    $2::timestamptz, $2::timestamptz, 1
FROM generate_series(0, $1::integer - 1) AS owner, generate_series(0, 9) AS i WHERE $3::integer > 0`,
	`INSERT INTO failing (subscription_id, since, failures, told_at)
SELECT md5('s' || owner || '.7')::uuid, $2::timestamptz, 20, now() FROM generate_series(0, $1::integer - 1) AS owner WHERE $3::integer > 0`,
	`INSERT INTO changes (id, at, tenant, resource, resource_id, revision, action, actor_kind, actor_id, actor_name, changed, definition)
SELECT pg_temp.v7(at, 'c' || owner || '.' || i), at, 't' || owner, 'subscription', md5('s' || owner || '.' || i % 10)::uuid::text, i / 10 + 1,
    CASE WHEN i < 10 THEN 'create' WHEN i % 10 = 9 THEN 'disable' ELSE 'update' END, 'key', 'key' || owner, 'Bench', '{description}',
    jsonb_build_object('name', 'bench', 'url', 'https://example.com/', 'description', i::text, 'event_types', '["*"]'::jsonb)
FROM generate_series(0, $1::integer - 1) AS owner, generate_series(0, CASE owner WHEN 0 THEN greatest(49, $3::integer / 200) ELSE 49 END) AS i,
    LATERAL (SELECT $2::timestamptz + (i * 50 + owner % 50) * interval '1 second' AS at) x`,
	`INSERT INTO replays (id, tenant, subscription_id, which, since, until, rate, dry_run, state, kind, created_at, ended_at)
SELECT pg_temp.v7(at, 'r' || owner || '.' || i), 't' || owner, CASE WHEN i % 4 = 0 THEN md5('s' || owner || '.3')::uuid END, 'dead', at, at, 100, false,
    CASE WHEN i % 100 = 7 THEN 'cancelled' ELSE 'done' END, CASE i % 3 WHEN 0 THEN 'replay' WHEN 1 THEN 'retry' ELSE 'cancel' END, at, at
FROM generate_series(0, $1::integer - 1) AS owner, generate_series(0, CASE owner WHEN 0 THEN greatest(9, $3::integer / 500) ELSE 9 END) AS i,
    LATERAL (SELECT $2::timestamptz + (i * 100 + owner % 100) * interval '1 second' AS at) x`,
	`INSERT INTO quarantine (id, tenant, stream_seq, subject, received_at, reason, detail, data)
SELECT pg_temp.v7(at, 'q' || i), 't' || i % $1::integer, i, 'events.t' || i % $1::integer || '.bad', at, 'bad_data', 'data must be JSON', 'bad'
FROM generate_series(1, greatest(100, $3::integer / 500)) AS i, LATERAL (SELECT $2::timestamptz + i * interval '1 second' AS at) x`,
}
