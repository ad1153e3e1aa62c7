package main

import (
	"net/http"
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
