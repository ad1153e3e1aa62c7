package main

import (
	"net/http"
	"strings"
	"testing"

	"github.com/fanfarehq/fanfare/internal/client"
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
