package chaos_test

import (
	"bytes"
	"context"
	"database/sql"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/lib/pq"

	"github.com/fanfarehq/fanfare/internal/servertest"
)

const (
	adminKey = "the-admin-key-of-the-chaos-suite-0123456789"
	ringKey  = "MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE="
	// inFlight is the requests that a worker has in flight. inHand is the deliveries that it has in hand: of tasks (512 at least,
	// see maxTargets of package deliver), and leased ones.
	inFlight, inHand = 64, 512 + 64
)

// world is an installation that can be broken: processes of each role, each with a way of its own to NATS and Postgres.
type world struct {
	t         testing.TB
	rec       *recorder
	nats      *broker
	pg        *servertest.RestartablePostgres
	processes []*process
	receivers *receivers
	secrets   []string // that may be written nowhere
	more      []string // environment of all processes
	database  string   // its URL
	client    *http.Client
}

// counts is how many processes of each role there are.
type counts struct{ api, ingest, fanout, deliver int }

func newWorld(t testing.TB, n counts) *world {
	t.Helper()
	path, err := binary()
	if err != nil {
		t.Fatalf("build: %v", err)
	}
	return newWorldOf(t, path, n)
}

// newWorldOf is newWorld of another build.
func newWorldOf(t testing.TB, path string, n counts) *world {
	t.Helper()
	return newWorldOn(t, path, n, newBroker(t), servertest.NewRestartablePostgres(t))
}

// newWorldOn is newWorldOf on servers of the test's own; env is for all processes.
func newWorldOn(t testing.TB, path string, n counts, nats *broker, pg *servertest.RestartablePostgres, env ...string) *world {
	t.Helper()
	rec := newRecorder()
	w := &world{
		t: t, rec: rec, nats: nats, pg: pg, more: env, receivers: newReceivers(t, rec),
		secrets: []string{adminKey, ringKey, natsPassword}, client: &http.Client{Timeout: 10 * time.Second},
	}
	t.Cleanup(w.client.CloseIdleConnections)
	if pg != nil {
		w.database = pg.URL()
	}
	topology := &process{t: t, name: "topology", role: "topology", path: path, env: append(w.env(t, w.nats.url(), w.database), env...)}
	topology.apply()
	for _, r := range []struct {
		role string
		n    int
	}{{"api", n.api}, {"ingest", n.ingest}, {"fanout", n.fanout}, {"deliver", n.deliver}} {
		for i := range r.n {
			w.add(path, r.role, i)
		}
	}
	for _, p := range w.processes {
		p.await()
	}
	return w
}

// apply runs `fanfare topology apply`.
func (p *process) apply() {
	p.t.Helper()
	cmd := command(p.path, append(cleanEnv(), p.env...), "topology", "apply")
	if out, err := cmd.CombinedOutput(); err != nil {
		p.t.Fatalf("topology apply: %v\n%s", err, out)
	}
}

// env is what all processes share. Streams are small, so that many worlds fit on a disk. No breaker opens: it would make the
// deliveries of a failing receiver wait for minutes, as it is meant to.
func (w *world) env(t testing.TB, nats, postgres string) []string {
	return []string{
		"FANFARE_NATS_URL=" + nats, "FANFARE_POSTGRES_URL=" + postgres, "FANFARE_SECRET_KEYS=k1:" + ringKey, "FANFARE_ADMIN_KEY=" + adminKey,
		"FANFARE_ALLOW_PRIVATE_CIDRS=127.0.0.0/16", "FANFARE_DATA_DIR=" + t.TempDir(), "FANFARE_EVENTS_MAX_BYTES=536870912", "FANFARE_TASKS_MAX_BYTES=67108864",
		"FANFARE_BACKLOG_MAX_BYTES=67108864", "FANFARE_ATTEMPTS_MAX_BYTES=67108864", fmt.Sprintf("FANFARE_DELIVER_IN_FLIGHT=%d", inFlight),
		"FANFARE_DELIVER_BREAKER_AFTER=-1", "GOGC=100", "FANFARE_LOG_LEVEL=debug",
	}
}

// add starts a process with proxies of its own; env is added for its first start alone.
func (w *world) add(path, role string, i int, env ...string) *process {
	w.t.Helper()
	at, err := url.Parse(w.nats.url())
	if err != nil {
		w.t.Fatal(err)
	}
	p := &process{t: w.t, name: fmt.Sprint(role, i), role: role, path: path, api: servertest.FreeAddress(w.t), ops: servertest.FreeAddress(w.t)}
	p.nats = newProxy(w.t, "tcp", at.Host)
	at.Host = p.nats.addr()
	p.env = append(w.env(w.t, at.String(), w.through(p)),
		"FANFARE_ADDR="+p.api, "FANFARE_OPS_ADDR="+p.ops)
	p.env = append(p.env, w.more...)
	w.processes = append(w.processes, p)
	p.start(env...)
	w.t.Cleanup(func() {
		p.kill()
		if w.t.Failed() {
			w.t.Logf("%s printed, at the end:\n%s", p.name, w.lines(p))
		}
	})
	return p
}

// lines are the last lines of a process above debug.
func (w *world) lines(p *process) string {
	var kept []string
	for line := range strings.Lines(p.out.String()) {
		if !strings.Contains(line, "level=DEBUG") {
			kept = append(kept, line)
		}
	}
	return strings.Join(kept[max(0, len(kept)-25):], "")
}

// through is the URL of the database through a proxy of the process's own, if the database is the world's.
func (w *world) through(p *process) string {
	w.t.Helper()
	if w.pg == nil {
		return w.database
	}
	database, err := url.Parse(w.database)
	if err != nil {
		w.t.Fatal(err)
	}
	p.pg = newProxy(w.t, "unix", filepath.Join(database.Query().Get("host"), ".s.PGSQL.5432"))
	return "postgres://fanfare@" + p.pg.addr() + database.Path + "?sslmode=disable"
}

// of returns the processes of a role.
func (w *world) of(role string) (all []*process) {
	for _, p := range w.processes {
		if p.role == role {
			all = append(all, p)
		}
	}
	return all
}

// doors are the addresses that take events.
func (w *world) doors() (all []string) {
	for _, p := range append(w.of("api"), w.of("ingest")...) {
		all = append(all, p.api)
	}
	return all
}

// call calls the API with the admin key, and fails the test unless it succeeds.
func (w *world) call(method, path string, in, out any) {
	w.t.Helper()
	body, err := json.Marshal(in)
	if err != nil {
		w.t.Fatal(err)
	}
	req, err := http.NewRequestWithContext(context.Background(), method, "http://"+w.of("api")[0].api+path, bytes.NewReader(body))
	if err != nil {
		w.t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+adminKey)
	req.Header.Set("Content-Type", "application/json")
	resp, err := w.client.Do(req)
	if err != nil {
		w.t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode/100 != 2 {
		w.t.Fatalf("%s %s: %d %s, %v", method, path, resp.StatusCode, text, err)
	}
	if out == nil {
		return
	}
	if err := json.Unmarshal(text, out); err != nil {
		w.t.Fatalf("%s %s: %v", method, path, err)
	}
}

// populate makes tenants with a receiver of each kind, and returns a producer of each tenant.
func (w *world) populate(tenants int, rate float64, seed uint64) (all []*producer) {
	w.t.Helper()
	for i := range tenants {
		tenant := fmt.Sprintf("tenant%d", i)
		for j, kind := range kinds {
			w.subscribe(tenant, fmt.Sprintf("/%s/%d-%d", kind, i, j), kind, []string{"order.*", "order.made", "user.left", "user.*", "order.*"}[j])
		}
		var key struct{ Key string }
		w.call("POST", "/v1/keys", map[string]any{"name": "chaos", "tenant": tenant, "scopes": []string{"events:write"}}, &key)
		w.secrets = append(w.secrets, key.Key)
		all = append(all, &producer{
			rec: w.rec, tenant: tenant, key: key.Key, doors: w.doors(), rate: rate, types: []string{"order.made", "order.paid", "user.left"},
			random: rand.New(rand.NewPCG(seed, uint64(i))), http: w.client,
		})
	}
	return all
}

// retryAfter is the delay between the attempts of each subscription.
const retryAfter = time.Second

func (w *world) subscribe(tenant, path, kind, eventType string) {
	w.t.Helper()
	var made struct{ ID, Secret string }
	w.call("POST", "/v1/subscriptions?tenant="+tenant, map[string]any{
		"name": path, "url": w.receivers.urls[kind] + path, "event_types": []string{eventType}, "timeout": "5s",
		"retry": map[string]any{"schedule": []string{retryAfter.String()}, "max_retries": 50},
	}, &made)
	w.call("GET", "/v1/subscriptions/"+made.ID+"/secret", nil, &made)
	w.secrets = append(w.secrets, strings.TrimPrefix(made.Secret, "whsec_"))
	w.receivers.knows(path, made.Secret)
	w.rec.do(func(h *history) {
		h.subscriptions = append(h.subscriptions, subscription{
			id: made.ID, tenant: tenant, path: path, eventType: eventType, secret: made.Secret, kind: kind, retry: retryAfter,
		})
	})
}

// open opens the database, directly.
func (w *world) open() *sql.DB {
	w.t.Helper()
	connector, err := pq.NewConnector(w.database + "&options=" + url.QueryEscape("-c default_transaction_read_only=off"))
	if err != nil {
		w.t.Fatal(err)
	}
	db := sql.OpenDB(connector)
	db.SetMaxIdleConns(0) // Its server may be killed between two uses.
	return db
}

// try runs a query on a connection of its own.
func (w *world) try(query string) error {
	db := w.open()
	defer db.Close()
	_, err := db.Exec(query)
	return err
}

// measure samples all processes.
func (w *world) measure(phase string) {
	for _, p := range w.processes {
		if s, ok := p.sample(phase); ok {
			w.rec.do(func(h *history) { h.samples = append(h.samples, s) })
		}
	}
}

// resources says what the processes of each role use at most, and what the tables that are written and deleted from hold.
func (w *world) resources() string {
	var text strings.Builder
	for _, role := range []string{"api", "ingest", "fanout", "deliver"} {
		var most sample
		for _, p := range w.of(role) {
			if s, ok := p.sample("now"); ok {
				most = sample{megabytes: max(most.megabytes, s.megabytes), routines: max(most.routines, s.routines), files: max(most.files, s.files)}
			}
		}
		fmt.Fprintf(&text, "%s %d MB, %d goroutines, %d files; ", role, most.megabytes, most.routines, most.files)
	}
	fmt.Fprintf(&text, "NATS %d MB; ", megabytes(w.nats.cmd))
	db := w.open()
	defer db.Close()
	for _, table := range []string{"deferrals", "processes", "event_keys"} {
		var kilobytes, live, dead int
		err := db.QueryRow(`SELECT pg_total_relation_size(oid)/1024, pg_stat_get_live_tuples(oid), pg_stat_get_dead_tuples(oid) FROM pg_class
WHERE relname = $1 AND relkind = 'r'`, table).Scan(&kilobytes, &live, &dead)
		if err != nil {
			continue // Partitioned, or Postgres is away.
		}
		fmt.Fprintf(&text, "%s %d KB, %d rows, %d dead; ", table, kilobytes, live, dead)
	}
	return strings.TrimSuffix(text.String(), "; ")
}

// settled waits until nothing is on its way any more.
func (w *world) settled(most time.Duration) bool {
	db := w.open()
	defer db.Close()
	return eventually(most, func() bool {
		if n, _ := w.rec.missing(false, time.Now()); n > 0 {
			return false
		}
		var pending, ended int
		err := db.QueryRow("SELECT (SELECT count(*) FROM deferrals), (SELECT count(*) FROM deliveries)").Scan(&pending, &ended)
		return err == nil && pending == 0 && ended >= w.expected()
	})
}

// expected is how many deliveries the accepted events have.
func (w *world) expected() (n int) {
	w.rec.do(func(h *history) {
		for _, r := range newIndex(&history{subscriptions: h.subscriptions, requests: h.requests}).accepted {
			for _, s := range h.subscriptions {
				if s.receives(r.tenant, r.eventType) {
					n++
				}
			}
		}
	})
	return n
}

// collect adds what the system itself says to the history.
func (w *world) collect() *history {
	w.t.Helper()
	for _, p := range w.processes {
		word := p.readiness().Durability
		w.rec.do(func(h *history) { h.synced = append(h.synced, word) })
	}
	h := &w.rec.h // Nothing records any more.
	h.endedAt = time.Now()
	w.readDatabase(h)
	h.reported = map[string]map[string]int{}
	for _, s := range h.subscriptions {
		if h.reported[s.tenant] == nil {
			h.reported[s.tenant] = w.listed(s.tenant)
		}
	}
	h.leaks = w.leaks()
	return h
}

func (w *world) readDatabase(h *history) {
	w.t.Helper()
	db := w.open()
	defer db.Close()
	each := func(query string, scan func(*sql.Rows) error) {
		rows, err := db.Query(query)
		if err != nil {
			w.t.Fatal(err)
		}
		defer rows.Close()
		for rows.Next() {
			if err := scan(rows); err != nil {
				w.t.Fatal(err)
			}
		}
		if err := rows.Err(); err != nil {
			w.t.Fatal(err)
		}
	}
	each("SELECT tenant, id, matched FROM events", func(rows *sql.Rows) error {
		var e eventRow
		defer func() { h.events = append(h.events, e) }()
		return rows.Scan(&e.tenant, &e.id, &e.matched)
	})
	each(`SELECT id, event_id, subscription_id, generation, state, attempts, 0, status, 0 FROM deliveries
UNION ALL SELECT id, event_id, subscription_id, generation, 'pending', attempts, excused, 0, extract(epoch FROM now() - claim_at)::int FROM deferrals`, func(rows *sql.Rows) error {
		var d deliveryRow
		var overdue int
		err := rows.Scan(&d.id, &d.event, &d.subscription, &d.generation, &d.state, &d.attempts, &d.excused, &d.status, &overdue)
		d.overdue = time.Duration(overdue) * time.Second
		h.deliveries = append(h.deliveries, d)
		return err
	})
	each("SELECT delivery_id, number FROM attempts", func(rows *sql.Rows) error {
		var a attemptRow
		defer func() { h.attempts = append(h.attempts, a) }()
		return rows.Scan(&a.delivery, &a.number)
	})
}

// listed counts the deliveries of a tenant that the API lists, by state.
func (w *world) listed(tenant string) map[string]int {
	w.t.Helper()
	states := map[string]int{}
	for cursor := ""; ; {
		var page struct {
			Data       []struct{ State string }
			NextCursor *string `json:"next_cursor"`
		}
		w.call("GET", "/v1/deliveries?limit=500&tenant="+tenant+"&cursor="+url.QueryEscape(cursor), nil, &page)
		for _, d := range page.Data {
			states[d.State]++
		}
		if page.NextCursor == nil || *page.NextCursor == "" {
			return states
		}
		cursor = *page.NextCursor
	}
}

// leaks looks for the secrets in all logs and in the files of both servers.
func (w *world) leaks() (found []string) {
	look := func(place string, content []byte) {
		for i, secret := range w.secrets {
			if bytes.Contains(content, []byte(secret)) {
				found = append(found, fmt.Sprintf("secret %d is in %s", i, place))
			}
		}
	}
	for _, p := range w.processes {
		look("the log of "+p.name, []byte(p.out.String()))
	}
	dirs := []string{w.nats.dir}
	if w.pg != nil {
		dirs = append(dirs, w.pg.Dir())
	}
	for _, dir := range dirs {
		err := filepath.WalkDir(dir, func(path string, entry os.DirEntry, err error) error {
			if err != nil || !entry.Type().IsRegular() {
				return nil // It was removed meanwhile, or is a socket.
			}
			content, err := os.ReadFile(path)
			if err == nil {
				look(path, content)
			}
			return nil
		})
		if err != nil {
			w.t.Errorf("look for secrets: %v", err)
		}
	}
	return found
}
