package main

import (
	"bytes"
	"context"
	"crypto/rand"
	"database/sql"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/nats-io/nats.go"
	natsjs "github.com/nats-io/nats.go/jetstream"

	"github.com/fanfarehq/fanfare/fanout"
	"github.com/fanfarehq/fanfare/internal/client"
	"github.com/fanfarehq/fanfare/internal/postgres"
)

// erasure is a fanfare that two tenants have filled with words by which all that is theirs is found again.
type erasure struct {
	t   *testing.T
	api *client.Client
	db  *sql.DB
	js  natsjs.JetStream
}

const erasedEvents = 5

func newErasure(t *testing.T) *erasure {
	t.Helper()
	return erasureOf(t, dataDir(t))
}

func erasureOf(t *testing.T, dir string) *erasure {
	t.Helper()
	_, at := startAll(t, dir)
	db, err := postgres.Open(t.Context(), at.Postgres, 2)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	nc, err := nats.Connect(at.NATS)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)
	js, err := natsjs.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	return &erasure{t: t, api: adminClient(t, at, dir), db: db, js: js}
}

// fill gives a tenant deliveries in every state, whose every text holds the word, and returns when they are there.
func (e *erasure) fill(tenant, word, receiver string) {
	e.t.Helper()
	call(e.t, e.api, "PUT /v1/tenants/"+tenant, map[string]any{"name": word, "metadata": map[string]string{"k": word}}, nil)
	call(e.t, e.api, "POST /v1/keys", map[string]any{"name": word, "tenant": tenant, "scopes": []string{"events:read"}}, nil)
	call(e.t, e.api, "POST /v1/event-types", map[string]any{"name": "typed", "tenant": tenant, "schema": map[string]any{"title": word}}, nil)
	for _, path := range []string{"ok", "dead", "later", "held"} {
		sub := map[string]any{
			"name": word, "description": word, "url": receiver + "/" + path + "/" + word, "event_types": []string{"load.*"},
			"headers": map[string]string{"X-Word": word}, "metadata": map[string]string{"k": word}, "filter": `event.data.word == "` + word + `"`,
		}
		switch path {
		case "dead":
			sub["retry"] = map[string]any{"max_retries": 0}
		case "later":
			sub["retry"] = map[string]any{"schedule": []string{"1h"}}
		case "held":
			sub["status"] = "paused"
		}
		call(e.t, e.api, "POST /v1/subscriptions?tenant="+tenant, sub, nil)
	}
	for i := range erasedEvents {
		call(e.t, e.api, "POST /v1/events?tenant="+tenant, fmt.Appendf(nil,
			`{"type":"load.test","id":"%s_%d","object_id":%q,"data":{"word":%q}}`, tenant, i, word, word), nil)
	}
	if _, err := e.js.Publish(context.WithoutCancel(e.t.Context()), "events."+tenant+".bad", []byte("{"+word)); err != nil {
		e.t.Fatal(err)
	}
	await(e.t, tenant+"'s deliveries are in all states", func() bool {
		return e.count(`SELECT count(*) FROM deliveries WHERE tenant = $1`, tenant) == 2*erasedEvents &&
			e.count(`SELECT count(*) FROM deferrals WHERE tenant = $1`, tenant) == 2*erasedEvents &&
			e.count(`SELECT count(*) FROM quarantine WHERE tenant = $1`, tenant) == 1
	})
}

func (e *erasure) count(query string, args ...any) (n int) {
	e.t.Helper()
	if err := e.db.QueryRowContext(context.WithoutCancel(e.t.Context()), query, args...).Scan(&n); err != nil {
		e.t.Fatal(err)
	}
	return n
}

// rowsOf returns how many rows each table has of a tenant: each table with a column of the tenant's name, or of several tenants'.
// A deleted tenant keeps its name and the record of its deletion; only as many rows as these need are left out.
func (e *erasure) rowsOf(tenant string) map[string]int {
	e.t.Helper()
	rows, err := e.db.QueryContext(context.WithoutCancel(e.t.Context()), `
SELECT table_name, data_type = 'ARRAY' FROM information_schema.columns WHERE table_schema = 'public' AND column_name = 'tenant'
    AND NOT EXISTS (SELECT FROM pg_class WHERE relname = table_name AND relispartition)`)
	conditions := map[string]string{}
	err = postgres.Each(rows, err, func() error {
		var name string
		var list bool
		if err := rows.Scan(&name, &list); err != nil {
			return err
		}
		conditions[name] = "tenant = $1"
		if list {
			conditions[name] = "$1 = ANY (tenant)"
		}
		return nil
	})
	if err != nil {
		e.t.Fatal(err)
	}
	for table, kept := range map[string]string{
		"tenants": "erased_at IS NULL", "subscriptions": "NOT deleted", "event_types": "NOT deleted", "changes": "NOT (resource = 'tenant' AND action = 'delete')",
	} {
		conditions[table] += " AND " + kept
	}
	found := map[string]int{}
	for table, condition := range conditions {
		if n := e.count(`SELECT count(*) FROM "`+table+`" WHERE `+condition, tenant); n > 0 {
			found[table] = n
		}
	}
	return found
}

// busy gives a tenant a replay, one of its deliveries that was recalled, and a job.
func (e *erasure) busy(tenant string) {
	e.t.Helper()
	var list struct{ Data []struct{ ID string } }
	call(e.t, e.api, "GET /v1/subscriptions?tenant="+tenant, nil, &list)
	var replay struct{ ID string }
	call(e.t, e.api, "POST /v1/subscriptions/"+list.Data[0].ID+"/replay", map[string]any{"since": "2020-01-01T00:00:00Z", "until": "2020-01-02T00:00:00Z"}, &replay)
	call(e.t, e.api, "POST /v1/deliveries/retry?tenant="+tenant, someSpan(map[string]any{"dry_run": true}), nil)
	if _, err := e.db.ExecContext(e.t.Context(), `
INSERT INTO recalled (replay_id, id, tenant, event_uid, event_id, event_type, seq, subscription_id, generation, reason, due_at)
VALUES ($1, gen_random_uuid(), $2, gen_random_uuid(), 'e', 't', 1, gen_random_uuid(), 0, 'ok', now())`, replay.ID, tenant); err != nil {
		e.t.Fatal(err)
	}
	await(e.t, "the deliveries are counted", func() bool { return e.count(`SELECT count(*) FROM delivery_counts WHERE tenant = $1`, tenant) > 0 })
}

// holding returns how many rows of each table hold the word, as text or as bytes.
func (e *erasure) holding(word string) map[string]int {
	e.t.Helper()
	rows, err := e.db.QueryContext(e.t.Context(), `SELECT relname FROM pg_class
WHERE relkind IN ('r', 'p') AND NOT relispartition AND relnamespace = 'public'::regnamespace`)
	if err != nil {
		e.t.Fatal(err)
	}
	defer rows.Close()
	var tables []string
	for rows.Next() {
		var name string
		if err := rows.Scan(&name); err != nil {
			e.t.Fatal(err)
		}
		tables = append(tables, name)
	}
	if err := rows.Err(); err != nil {
		e.t.Fatal(err)
	}
	found := map[string]int{}
	for _, table := range tables {
		n := e.count(`SELECT count(*) FROM "`+table+`" AS t WHERE t::text LIKE '%' || $1 || '%' OR t::text LIKE '%' || $2 || '%'`,
			word, hex.EncodeToString([]byte(word)))
		if n > 0 {
			found[table] = n
		}
	}
	return found
}

// stored is how many messages of a tenant the stream of events holds.
func (e *erasure) stored(tenant string) (n uint64) {
	e.t.Helper()
	stream, err := e.js.Stream(e.t.Context(), fanout.Stream)
	if err != nil {
		e.t.Fatal(err)
	}
	info, err := stream.Info(e.t.Context(), natsjs.WithSubjectFilter("events."+tenant+".>"))
	if err != nil {
		e.t.Fatal(err)
	}
	for _, of := range info.State.Subjects {
		n += of
	}
	return n
}

// echo answers with the word that a delivery holds: well on /ok, else not.
func echo(t *testing.T) string {
	t.Helper()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		if !strings.HasPrefix(r.URL.Path, "/ok/") {
			w.WriteHeader(http.StatusInternalServerError)
		}
		fmt.Fprint(w, r.Header.Get("X-Word"))
	}))
	t.Cleanup(server.Close)
	return server.URL
}

// What is erased is gone from every table and from the stream; that it was stays. Others lose nothing.
func TestErasure(t *testing.T) {
	t.Parallel()
	e, receiver := newErasure(t), echo(t)
	e.fill("acme", "gooseberry", receiver)
	e.fill("globex", "elderflower", receiver)
	e.busy("acme")
	theirs := e.holding("elderflower")
	there := e.rowsOf("acme")
	for _, table := range []string{"delivery_counts", "count_bins", "recalled", "replays", "changes", "deliveries", "deferrals", "events", "quarantine", "tenant_keys"} {
		if there[table] == 0 {
			t.Errorf("%s has no row of the tenant before it is erased: the search is wrong", table)
		}
	}
	found := e.holding("gooseberry")
	for _, table := range []string{"tenants", "keys", "event_types", "event_type_versions", "subscriptions"} {
		if found[table] == 0 {
			t.Errorf("nothing is found in %s before it is erased: the search is wrong", table)
		}
	}
	for _, table := range []string{"deliveries", "attempts", "event_data", "quarantine"} {
		if found[table] != 0 {
			t.Errorf("%d rows of %s hold contents in the clear", found[table], table)
		}
	}
	kept := e.count(`SELECT count(*) FROM event_data`)
	before := e.stored("acme")

	call(t, e.api, "DELETE /v1/events/acme_0/data", nil, nil)
	var shown struct {
		Data       any            `json:"data"`
		Matched    int            `json:"matched"`
		Deliveries map[string]int `json:"deliveries"`
	}
	call(t, e.api, "GET /v1/events/acme_0", nil, &shown)
	if shown.Data != nil || shown.Matched != 4 || shown.Deliveries["delivered"] != 1 || shown.Deliveries["dead"] != 1 || shown.Deliveries["cancelled"] != 2 {
		t.Errorf("an event whose data is erased is shown as %+v", shown)
	}
	if got := e.stored("acme"); got != before-1 {
		t.Errorf("the stream holds %d of %d messages", got, before)
	}
	if got := e.count(`SELECT count(*) FROM event_data`); got != kept-1 {
		t.Errorf("%d of %d kept events are left", got, kept)
	}
	var dead struct {
		Data []struct{ ID string }
	}
	call(t, e.api, "GET /v1/dead-letters?tenant=acme&event=acme_0", nil, &dead)
	if err := e.api.Do(t.Context(), "POST /v1/deliveries/"+dead.Data[0].ID+"/retry", nil, nil); err == nil || !strings.Contains(err.Error(), "409") {
		t.Errorf("the retry of an erased event: %v, want 409", err)
	}

	theirAttempts := e.count(`SELECT count(*) FROM attempts a WHERE EXISTS (SELECT FROM deliveries d WHERE d.id = a.delivery_id AND d.tenant = 'globex')
    OR EXISTS (SELECT FROM deferrals d WHERE d.id = a.delivery_id AND d.tenant = 'globex')`)
	call(t, e.api, "DELETE /v1/tenants/acme", nil, nil)
	await(t, "the tenant is erased", func() bool {
		return e.count(`SELECT count(*) FROM tenants WHERE tenant = 'acme' AND erased_at IS NOT NULL`) == 1
	})
	for _, gone := range []string{"GET /v1/tenants/acme", "DELETE /v1/tenants/acme"} {
		if err := e.api.Do(t.Context(), gone, nil, nil); err == nil || !strings.Contains(err.Error(), "404") {
			t.Errorf("%s: %v, want 404", gone, err)
		}
	}
	for _, list := range []string{"deliveries", "dead-letters", "events", "quarantine", "subscriptions"} {
		var page struct{ Data []any }
		if call(t, e.api, "GET /v1/"+list+"?tenant=acme", nil, &page); len(page.Data) > 0 {
			t.Errorf("%s of the erased tenant: %v", list, page.Data)
		}
	}
	if held := e.holding("gooseberry"); len(held) > 0 {
		t.Errorf("rows that hold erased text: %v", held)
	}
	if n := e.stored("acme"); n != 0 {
		t.Errorf("the stream holds %d messages of the tenant", n)
	}
	// What was being recorded meanwhile is erased a minute later.
	var left map[string]int
	t.Cleanup(func() {
		if len(left) > 0 {
			t.Logf("rows of the erased tenant: %v", left)
		}
	})
	await(t, "no table has a row of the tenant", func() bool { left = e.rowsOf("acme"); return len(left) == 0 })
	for query, want := range map[string]int{
		`SELECT count(*) FROM attempts`:                                                    theirAttempts,
		`SELECT count(*) FROM tenant_keys WHERE tenant = 'globex'`:                         1,
		`SELECT count(*) FROM event_type_versions WHERE tenant = 'globex'`:                 1,
		`SELECT count(*) FROM deferrals WHERE tenant = 'globex'`:                           2 * erasedEvents,
		`SELECT count(*) FROM event_keys WHERE tenant = 'globex'`:                          erasedEvents,
		`SELECT count(*) FROM deliveries WHERE tenant = 'globex' AND response IS NOT NULL`: 2 * erasedEvents,
	} {
		if got := e.count(query); got != want {
			t.Errorf("%s: %d, want %d", query, got, want)
		}
	}
	if now := e.holding("elderflower"); fmt.Sprint(now) != fmt.Sprint(theirs) {
		t.Errorf("of the other tenant there is %v, and was %v", now, theirs)
	}
	var audit struct{ Balanced bool }
	call(t, e.api, "GET /v1/audit", nil, &audit)
	if !audit.Balanced {
		t.Error("the audit does not balance after the erasure")
	}
}

// capitals returns a random text. It has capitals alone, and no four of them in a row are anywhere else in a file.
func capitals() string {
	return strings.Map(func(r rune) rune {
		if r >= '2' && r <= '7' {
			return r - '2' + 'A'
		}
		return r
	}, rand.Text())
}

// blocks returns the files of the stream of events that hold the text, and how many files there are. A compressed file has the
// middle of the text as it is: its ends may be part of a reference to something before, such as a quote and its first letter.
func blocks(t *testing.T, dir, text string) (holding []string, files int) {
	t.Helper()
	paths, err := filepath.Glob(filepath.Join(dir, "nats", "jetstream", "*", "streams", fanout.Stream, "msgs", "*.blk"))
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range paths {
		content, err := os.ReadFile(path)
		if errors.Is(err, fs.ErrNotExist) {
			continue // The server replaces files while it works.
		}
		if err != nil {
			t.Fatal(err)
		}
		if bytes.Contains(content, []byte(text[4:len(text)-4])) {
			holding = append(holding, path)
		}
	}
	return holding, len(paths)
}

// Once an event or a tenant is erased, no file of the stream has its bytes: neither the file that is written to nor one that is
// full and compressed, in which most messages stay.
func TestErasedBytesLeaveTheFilesOfTheStream(t *testing.T) {
	t.Parallel()
	dir := dataDir(t)
	_, at := startAll(t, dir)
	admin := adminClient(t, at, dir)
	publish := func(tenant, id, text string) {
		t.Helper()
		call(t, admin, "POST /v1/events?tenant="+tenant, map[string]any{"type": "load.done", "id": id, "data": map[string]any{"text": text}}, nil)
	}
	noise := make([]byte, 90_000)
	_, _ = rand.Read(noise)
	filler := hex.EncodeToString(noise)
	early, late, single, settled := capitals(), capitals(), capitals(), capitals()
	publish("acme", "early", early)
	publish("globex", "settled", settled)
	publish("globex", "single", single)
	for i := range 55 { // A file holds 8 MiB.
		publish("globex", fmt.Sprint("filler_", i), filler)
	}
	publish("acme", "late", late)
	for _, text := range []string{early, late, single, settled} {
		if found, files := blocks(t, dir, text); len(found) == 0 || files < 2 {
			t.Fatalf("before it is erased the text is in %q of %d files: the search is wrong", found, files)
		}
	}
	call(t, admin, "DELETE /v1/tenants/acme", nil, nil)
	await(t, "the tenant is erased", func() bool {
		return strings.Contains(fmt.Sprint(admin.Do(t.Context(), "GET /v1/tenants/acme", nil, nil)), "404")
	})
	call(t, admin, "DELETE /v1/events/single/data?tenant=globex", nil, nil)
	for name, text := range map[string]string{"early": early, "late": late, "single": single} {
		if found, _ := blocks(t, dir, text); len(found) > 0 {
			t.Errorf("the text of %s is still in %q", name, found)
		}
	}
	var kept struct{ Data struct{ Text string } }
	if call(t, admin, "GET /v1/events/filler_3?tenant=globex", nil, &kept); kept.Data.Text != filler {
		t.Error("another event of the same file has lost its bytes")
	}

	// A settled event is removed as it is; its bytes leave with the last event of its file.
	nc, err := nats.Connect(at.NATS)
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	js, err := natsjs.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	stream, err := js.Stream(t.Context(), fanout.Stream)
	if err == nil {
		err = stream.Purge(t.Context(), natsjs.WithPurgeKeep(3))
	}
	if err != nil {
		t.Fatal(err)
	}
	await(t, "the file of a settled event is gone", func() bool {
		found, _ := blocks(t, dir, settled)
		return len(found) == 0
	})
}
