package bench

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"slices"
	"text/tabwriter"
	"time"

	"github.com/fanfarehq/fanfare/deliver"
	"github.com/fanfarehq/fanfare/deliver/history"
	"github.com/fanfarehq/fanfare/fanout"
	"github.com/fanfarehq/fanfare/internal/api"
	"github.com/fanfarehq/fanfare/internal/embedded"
	"github.com/fanfarehq/fanfare/internal/event"
	"github.com/fanfarehq/fanfare/internal/postgres"
	"github.com/fanfarehq/fanfare/internal/terminal"
)

// Ledger measures the lists over a full ledger, in a Postgres of its own that is thrown away.
type Ledger struct {
	Rows    int `default:"10000000" help:"How many deliveries the ledger holds."`
	Tenants int `default:"2000" help:"How many tenants they belong to; the first has a tenth of all."`
	Days    int `default:"30" help:"Over how many days they are spread, today the last."`
	Calls   int `default:"200" help:"How often each list is read."`
}

// Run fills a ledger, reads each list and prints how long that took and how much room it takes.
func (cmd Ledger) Run(ctx context.Context, c *terminal.Terminal) (err error) {
	if cmd.Rows < cmd.Tenants || cmd.Tenants < 2 || cmd.Days < 1 || cmd.Calls < 1 {
		return errors.New("--rows must not be less than --tenants, which are 2 or more; --days and --calls are 1 or more")
	}
	dir, err := tempDir()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	server, err := embedded.StartPostgres(ctx, embedded.PostgresConfig{Dir: dir, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, server.Stop()) }()
	db, err := postgres.Open(ctx, server.URL(), 4)
	if err != nil {
		return err
	}
	defer db.Close()
	if err := postgres.Migrate(ctx, db); err != nil {
		return err
	}
	b := &ledgerBench{cmd: cmd, db: db, console: c, today: time.Now().UTC().Truncate(24 * time.Hour)}
	if err := b.fill(ctx); err != nil {
		return fmt.Errorf("fill the ledger: %w", err)
	}
	if err := b.lists(ctx); err != nil {
		return err
	}
	return b.sizes(ctx)
}

// ledgerBench is one run.
type ledgerBench struct {
	cmd     Ledger
	db      *sql.DB
	console *terminal.Terminal
	today   time.Time
}

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
	conn, err := b.db.Conn(ctx) // the functions are this connection's
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
	if _, err := conn.ExecContext(ctx, fillSubscriptions); err != nil {
		return err
	}
	if _, err := conn.ExecContext(ctx, fillRefs, event.ObjectRef("t0", "few"), event.ObjectRef("t0", "many")); err != nil {
		return err
	}
	if _, err := conn.ExecContext(ctx, `SET statement_timeout = 0`); err != nil {
		return err
	}
	_, err = conn.ExecContext(ctx, `VACUUM ANALYZE events, event_refs, deliveries, deferrals`)
	return err
}

const (
	fillEvents = `INSERT INTO events (uid, tenant, id, type, time, accepted_at, seq, matched, hash)
SELECT pg_temp.v7(at, 'e' || e), 't' || owner, 'evt_' || e, 'type_' || e % 50, at, at, e, 10, ''
FROM (SELECT e, pg_temp.owner(e, $3::bigint) AS owner, pg_temp.moment(e, $6::bigint, $4::timestamptz, $5::integer) AS at
    FROM generate_series($1::bigint / 10, $2::bigint / 10) AS e) x ON CONFLICT DO NOTHING`
	fillDeliveries = `INSERT INTO deliveries (id, tenant, event_uid, event_id, event_type, seq, subscription_id, generation, state, reason,
    attempts, created_at, ended_at, started_at, duration_us, status, error, response)
SELECT pg_temp.v7(at, 'd' || i), 't' || owner, pg_temp.v7(at, 'e' || i / 10), 'evt_' || i / 10, 'type_' || (i / 10) % 50, i / 10,
    md5('s' || owner || '.' || i % 10)::uuid, 0, CASE WHEN dead THEN 'dead' ELSE 'delivered' END,
    CASE WHEN dead THEN 'http_5xx' ELSE 'ok' END, 1, at, at, at, 20000, 200, '', 'ok'
FROM (SELECT i, owner, i % 50 = 7 OR owner = 0 AND i % 10 = 7 AS dead, pg_temp.moment(i / 10, $6::bigint, $4::timestamptz, $5::integer) AS at
    FROM generate_series($1::bigint, $2::bigint) AS i, pg_temp.owner(i / 10, $3::bigint) AS owner) x`
	// Those whose lists are read under their own path.
	fillSubscriptions = `INSERT INTO subscriptions (id, tenant, dialect, name, description, url, event_types, resource_id, changed, filter, headers,
    payload_format, retry_schedule, timeout_ms, max_in_flight, secrets, status, disabled_reason, version, metadata, scopes,
    created_at, updated_at, revision)
SELECT md5('s' || owner || '.3')::uuid, 't' || owner, '', 'bench', '', 'https://example.com/', '{}', '', '{}', '', '{}',
    'standard', '{}', 1000, 1, '', 'active', '', '', '{}', '{}', now(), now(), 1
FROM generate_series(0, 1) AS owner`
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

// asAdmin lets everybody be the admin of this API, which nobody else can reach.
type asAdmin struct{}

func (asAdmin) Authenticate(context.Context, string) (api.Caller, error) {
	return api.Caller{Admin: true}, nil
}

// lists reads each list through the API, with every filter.
func (b *ledgerBench) lists(ctx context.Context) error {
	mux := http.NewServeMux()
	events, err := deliver.NewEvents(deliver.EventsConfig{}, b.db)
	if err != nil {
		return err
	}
	routes := api.New(mux, api.Config{Title: "bench", Version: "1"}, asAdmin{})
	history.Routes(routes, history.RoutesDeps{DB: b.db, Events: events})
	fanout.Routes{Ledger: fanout.NewLedger(b.db)}.Register(routes)
	var small, large, broken, event, letters string // a subscription of a small tenant, two of the large one, and what they have
	if err := b.db.QueryRowContext(ctx, `SELECT md5('s1.3')::uuid::text, md5('s0.3')::uuid::text, md5('s0.7')::uuid::text,
    (SELECT id FROM events WHERE tenant = 't0' ORDER BY uid OFFSET 10 LIMIT 1), 'type_' || (SELECT substr(event_type, 6) FROM deliveries WHERE tenant = 't1' LIMIT 1)`).
		Scan(&small, &large, &broken, &event, &letters); err != nil {
		return err
	}
	middle := b.today.AddDate(0, 0, -b.cmd.Days/2).Format(time.RFC3339)
	w := tabwriter.NewWriter(b.console.Out, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(w, "p50 ms\tp99 ms\t  list\t")
	for _, path := range []string{
		"/v1/deliveries?tenant=t0", "/v1/deliveries?tenant=t1", "/v1/deliveries",
		"/v1/deliveries?tenant=t0&state=delivered", "/v1/deliveries?tenant=t0&state=dead", "/v1/deliveries?tenant=t1&state=dead",
		"/v1/deliveries?tenant=t0&state=pending", "/v1/deliveries?tenant=t1&state=pending", "/v1/deliveries?tenant=t0&state=cancelled", "/v1/deliveries?state=dead", "/v1/deliveries?state=cancelled",
		"/v1/deliveries?tenant=t0&type=type_10", "/v1/deliveries?tenant=t0&type=nobody", "/v1/deliveries?tenant=t1&type=" + letters, "/v1/deliveries?tenant=t1&type=nobody",
		"/v1/deliveries?tenant=t0&event=" + event, "/v1/deliveries?tenant=t0&since=" + middle, "/v1/deliveries?tenant=t1&until=" + middle,
		"/v1/deliveries?tenant=t0&subscription=" + large, "/v1/deliveries?tenant=t1&subscription=" + small,
		"/v1/deliveries?tenant=t0&state=dead&subscription=" + large, "/v1/deliveries?tenant=t0&state=cancelled&subscription=" + large,
		"/v1/deliveries?tenant=t0&state=delivered&subscription=" + broken, "/v1/deliveries?tenant=t0&state=cancelled&subscription=" + broken,
		"/v1/deliveries?tenant=t0&type=nobody&subscription=" + large,
		"/v1/deliveries?type=nobody", "/v1/deliveries?tenant=t0&type=nobody&order=asc", "/v1/deliveries?tenant=t0&type=nobody&state=pending",
		"/v1/deliveries?tenant=t0&type=nobody&state=delivered", "/v1/deliveries?tenant=t0&type=nobody&since=" + middle,
		"/v1/deliveries?tenant=t0&state=dead&type=type_10", "/v1/deliveries?tenant=t0&type=type_10&since=" + middle,
		"/v1/deliveries?tenant=t0&state=dead&since=" + middle, "/v1/deliveries?tenant=t0&state=pending&until=" + middle,
		"/v1/deliveries?tenant=t0&event=" + event + "&state=dead", "/v1/deliveries?tenant=t0&event=" + event + "&subscription=" + large,
		"/v1/deliveries?tenant=t0&subscription=" + large + "&since=" + middle, "/v1/deliveries?tenant=t0&order=asc",
		"/v1/subscriptions/" + large + "/deliveries?tenant=t0", "/v1/subscriptions/" + small + "/deliveries?tenant=t1",
		"/v1/subscriptions/" + large + "/deliveries?tenant=t0&state=dead", "/v1/subscriptions/" + large + "/deliveries?tenant=t0&type=type_10",
		"/v1/subscriptions/" + large + "/deliveries?tenant=t0&type=nobody", "/v1/subscriptions/" + large + "/deliveries?tenant=t0&type=nobody&state=dead",
		"/v1/dead-letters?tenant=t0", "/v1/dead-letters?tenant=t1", "/v1/dead-letters?tenant=t0&subscription=" + large,
		"/v1/dead-letters?tenant=t0&type=type_10", "/v1/dead-letters?tenant=t0&type=nobody", "/v1/dead-letters?tenant=t0&event=" + event, "/v1/dead-letters?tenant=t0&since=" + middle,
		"/v1/deliveries?tenant=t0&reason=http_5xx", "/v1/deliveries?tenant=t0&reason=tls", "/v1/deliveries?reason=tls",
		"/v1/deliveries?tenant=t0&http_status=5xx", "/v1/deliveries?tenant=t0&http_status=404&state=dead",
		"/v1/deliveries?tenant=t0&object_id=few", "/v1/deliveries?tenant=t0&object_id=many", "/v1/deliveries?tenant=t0&resource_id=nobody",
		"/v1/deliveries?tenant=t0&object_id=many&reason=tls", "/v1/dead-letters?tenant=t0&reason=tls", "/v1/dead-letters?tenant=t0&resolved=true",
		"/v1/dead-letters", "/v1/failures", "/v1/failures?tenant=t0", "/v1/failures?tenant=t1", "/v1/failures?by=subscription&since=" + middle,
		"/v1/events?tenant=t0&object_id=few", "/v1/events?tenant=t0&object_id=many", "/v1/events?tenant=t0&object_id=many&type=nobody",
		"/v1/events?tenant=t0", "/v1/events?tenant=t1", "/v1/events", "/v1/events?tenant=t0&type=type_10", "/v1/events?tenant=t0&type=nobody",
		"/v1/events?tenant=t1&type=nobody", "/v1/events?tenant=t0&since=" + middle, "/v1/events?tenant=t1&until=" + middle,
	} {
		took := make([]time.Duration, b.cmd.Calls)
		for i := range took {
			req := httptest.NewRequestWithContext(ctx, http.MethodGet, path, nil)
			req.Header.Set("X-API-Key", "k")
			answer := &discard{header: http.Header{}}
			begun := time.Now()
			mux.ServeHTTP(answer, req)
			took[i] = time.Since(begun)
			if answer.status != 0 && answer.status != http.StatusOK {
				return fmt.Errorf("GET %s: %d", path, answer.status)
			}
		}
		slices.Sort(took)
		ms := func(share float64) float64 {
			return float64(took[min(int(share*float64(len(took))), len(took)-1)].Microseconds()) / 1000
		}
		fmt.Fprintf(w, "%.2f\t%.2f\t  %s\t\n", ms(0.5), ms(0.99), path)
	}
	return w.Flush()
}

// discard is an answer that nobody reads.
type discard struct {
	header http.Header
	status int
}

func (d *discard) Header() http.Header         { return d.header }
func (d *discard) WriteHeader(status int)      { d.status = status }
func (d *discard) Write(b []byte) (int, error) { return io.Discard.Write(b) }

// sizes prints the room that a million deliveries take, with their indexes.
func (b *ledgerBench) sizes(ctx context.Context) error {
	for _, table := range []string{"events", "deliveries"} {
		var bytes int64
		if err := b.db.QueryRowContext(ctx, `SELECT sum(pg_total_relation_size(inhrelid)) FROM pg_inherits WHERE inhparent = $1::regclass`, table).Scan(&bytes); err != nil {
			return err
		}
		fmt.Fprintf(b.console.Out, "%s: %.0f MB for each million deliveries\n", table, float64(bytes)/1e6/(float64(b.cmd.Rows)/1e6))
	}
	return nil
}
