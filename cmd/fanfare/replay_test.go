package main

import (
	"context"
	"fmt"
	"testing"

	"github.com/google/uuid"

	"github.com/fanfarehq/fanfare/internal/postgres"
)

// kill -9 in the middle of a replay: each event is sent once in its generation, and what arrives twice was in flight.
func TestReplayGoesOnAfterAKill(t *testing.T) {
	t.Parallel()
	const events = 3000
	dir, receiver := dataDir(t), newTally(t)
	limit := fmt.Sprintf("FANFARE_DELIVER_IN_FLIGHT=%d", killInFlight)
	p, at := startAll(t, dir, limit)
	api := adminClient(t, at, dir)
	for first := 0; first < events; first += 1000 {
		call(t, api, "POST /v1/events?tenant=acme", array("load.test", first, 1000), nil)
	}
	await(t, "the past is in the ledger", func() bool {
		n := 0
		if err := all(context.Background(), api, "/v1/events?tenant=acme", func(struct{}) { n++ }); err != nil {
			t.Fatal(err)
		}
		return n == events
	})
	var sub, replay struct{ ID uuid.UUID }
	call(t, api, "POST /v1/subscriptions?tenant=acme", map[string]any{"name": "late", "url": receiver.url, "event_types": []string{"load.*"}}, &sub)
	call(t, api, "POST /v1/subscriptions/"+sub.ID.String()+"/replay",
		map[string]any{"since": "2026-01-01T00:00:00Z", "only": "all", "rate": 500}, &replay)
	await(t, "a third has arrived", func() bool { return receiver.total.Load() > events/3 })
	if err := p.cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	<-p.done
	await(t, "the receiver has read what was sent before the kill", func() bool { return receiver.open.Load() == 0 })
	before := receiver.snapshot()

	_, at = startAll(t, dir, limit)
	api = adminClient(t, at, dir)
	await(t, "the replay is done", func() bool {
		var v struct {
			State         string
			Matched, Sent int
		}
		call(t, api, "GET /v1/replays/"+replay.ID.String(), nil, &v)
		if v.State == "done" && (v.Matched != events || v.Sent != events) {
			t.Fatalf("the replay is %+v, want %d", v, events)
		}
		return v.State == "done"
	})
	db, err := postgres.Open(t.Context(), at.Postgres, 1)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	await(t, "each event is delivered once in generation 1", func() bool {
		var rows, distinct int
		if err := db.QueryRowContext(context.WithoutCancel(t.Context()), `SELECT count(*), count(DISTINCT event_uid)
FROM deliveries WHERE subscription_id = $1 AND generation = 1 AND state = 'delivered'`, sub.ID).Scan(&rows, &distinct); err != nil {
			t.Fatal(err)
		}
		if rows > distinct {
			t.Fatalf("%d deliveries of %d events", rows, distinct)
		}
		return distinct == events
	})
	if distinct, _ := receiver.counts(); distinct != events {
		t.Errorf("%d events arrived, want %d", distinct, events)
	}
	checkDuplicates(t, receiver, before)
}
