package main

import (
	"errors"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/fanfarehq/fanfare/internal/client"
	"github.com/fanfarehq/fanfare/internal/running"
	"github.com/fanfarehq/fanfare/internal/servertest"
)

// A start with an empty database beside a stream that was matched before is refused, unless the operator means it.
func TestLostDatabase(t *testing.T) {
	t.Parallel()
	broker := servertest.NATS(t, servertest.Listen)
	receiver := newTally(t)
	env := sharedSettings(broker.AdminURL(), servertest.EmptyPostgresURL(t))
	dir := dataDir(t)
	p, at := startAll(t, dir, env...)
	admin := client.New(at.API, "the-admin-key-of-this-test")
	t.Cleanup(admin.Close)
	subscribe(t, admin, "s", receiver.url, "*")
	call(t, admin, "POST /v1/events?tenant=acme", map[string]any{"type": "order.created", "data": map[string]any{}}, nil)
	await(t, "the event is delivered", func() bool { distinct, _ := receiver.counts(); return distinct == 1 })
	p.stop()

	lost := append(env, "FANFARE_POSTGRES_URL="+servertest.EmptyPostgresURL(t))
	for _, role := range []string{"all", "ingest"} {
		fails(t, exitError, lost, []string{role}, "FANFARE_POSTGRES_URL", "FANFARE_EMPTY_DATABASE", "EVENTS")
	}
	_, at = startAll(t, dir, append(lost, "FANFARE_EMPTY_DATABASE=accept")...)
	awaitReadiness(t, at.Ops, http.StatusOK)
}

// A start with an empty NATS beside a ledger that knows of events says so, in its log, in readiness and in an audit, and works.
func TestLostStreams(t *testing.T) {
	t.Parallel()
	first, second := servertest.NATS(t, servertest.Listen), servertest.NATS(t, servertest.Listen)
	receiver := newTally(t)
	database := servertest.EmptyPostgresURL(t)
	dir := dataDir(t)
	p, at := startAll(t, dir, sharedSettings(first.AdminURL(), database)...)
	publish := func() {
		t.Helper()
		admin := client.New(at.API, "the-admin-key-of-this-test")
		defer admin.Close()
		call(t, admin, "POST /v1/events?tenant=acme", map[string]any{"type": "order.created", "data": map[string]any{}}, nil)
	}
	admin := client.New(at.API, "the-admin-key-of-this-test")
	subscribe(t, admin, "s", receiver.url, "*")
	admin.Close()
	for range 3 {
		publish()
	}
	await(t, "the events are delivered", func() bool { distinct, _ := receiver.counts(); return distinct == 3 })
	p.stop()

	env := sharedSettings(second.AdminURL(), database)
	p, at = startAll(t, dir, env...)
	awaitReadiness(t, at.Ops, http.StatusOK, `stream EVENTS ends at place 0, and the ledger has events up to place 3`)
	p.wait("the log says it", func() bool { return strings.Contains(p.out.String(), "NATS lost events that the ledger knows of") })
	audit := start(t, dir, env, "audit", "--span", "1h")
	if code := audit.exitCode(); code != exitError || !strings.Contains(audit.out.String(), "the former stream was lost") {
		t.Errorf("audit: exit code %d: %s", code, audit.out)
	}
	publish()
	await(t, "the new event is delivered", func() bool { distinct, _ := receiver.counts(); return distinct == 4 })
}

// Readiness tells of a NATS that was restored from an older state, and the audit names the events that it lacks; events that are
// published from then on, at places that the ledger knows already, are delivered once, and none of the past is sent again.
func TestOlderStreams(t *testing.T) {
	t.Parallel()
	receiver := newTally(t)
	dir, env := dataDir(t), sharedSettings("", servertest.EmptyPostgresURL(t))[1:]
	nats, backup := filepath.Join(dir, "nats"), filepath.Join(t.TempDir(), "nats")
	replace := func(to, from string) {
		t.Helper()
		if err := errors.Join(os.RemoveAll(to), os.CopyFS(to, os.DirFS(from))); err != nil {
			t.Fatal(err)
		}
	}
	total := 0
	publish := func(at running.Process, n int) {
		t.Helper()
		admin := client.New(at.API, "the-admin-key-of-this-test")
		defer admin.Close()
		for range n {
			call(t, admin, "POST /v1/events?tenant=acme", map[string]any{"type": "order.created", "data": map[string]any{}}, nil)
		}
		total += n
		await(t, "the events are delivered", func() bool { distinct, _ := receiver.counts(); return distinct == total })
	}
	p, at := startAll(t, dir, env...)
	admin := client.New(at.API, "the-admin-key-of-this-test")
	subscribe(t, admin, "s", receiver.url, "*")
	admin.Close()
	publish(at, 3)
	p.stop()
	replace(backup, nats)
	p, at = startAll(t, dir, env...)
	publish(at, 4)
	p.stop()

	replace(nats, backup)
	_, at = startAll(t, dir, env...)
	awaitReadiness(t, at.Ops, http.StatusOK, `stream EVENTS ends at place 3, and the ledger has events up to place 7`)
	publish(at, 6)
	var audit struct {
		InLedger int `json:"in_ledger"`
		Gaps     []struct{ Kind, Detail string }
	}
	admin = client.New(at.API, "the-admin-key-of-this-test")
	t.Cleanup(admin.Close)
	await(t, "the events are in the ledger", func() bool {
		audit.Gaps = nil
		call(t, admin, "GET /v1/audit", nil, &audit)
		return audit.InLedger == total
	})
	named := 0
	for _, gap := range audit.Gaps {
		if strings.Contains(gap.Detail, "the stream is older than the ledger") {
			named++
		}
	}
	if named != 4 {
		t.Errorf("audit names %d of the 4 events that the older stream lacks: %+v", named, audit)
	}
	if distinct, duplicates := receiver.counts(); distinct != total || duplicates != 0 {
		t.Errorf("%d events were delivered and %d again, want %d once each", distinct, duplicates, total)
	}
}
