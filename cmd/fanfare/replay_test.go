package main

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/fanfarehq/fanfare/internal/client"
	"github.com/fanfarehq/fanfare/internal/postgres"
	"github.com/fanfarehq/fanfare/internal/running"
)

// past is what a subscription is to get of the time before and after its creation.
type past struct {
	since any // what its creation asks for; nil: a replay is asked for
	past  int
	live  int // events that are published once it is there
}

// kill -9 in the middle of a replay or of a backfill: each event is sent once in its generation, none is missing, and what
// arrives twice was in flight.
func TestThePastGoesOnAfterAKill(t *testing.T) {
	t.Parallel()
	for name, h := range map[string]past{
		"replay":   {past: 3000},
		"backfill": {since: time.Now().Add(-time.Hour), past: 900, live: 200}, // its rate is 100/s
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			testPastAfterAKill(t, h)
		})
	}
}

func testPastAfterAKill(t *testing.T, h past) {
	t.Helper()
	dir, receiver := dataDir(t), newTally(t)
	limit := fmt.Sprintf("FANFARE_DELIVER_IN_FLIGHT=%d", killInFlight)
	p, at := startAll(t, dir, limit)
	api := adminClient(t, at, dir)
	for first := 0; first < h.past; first += 1000 {
		sent(t, api, array("load.test", first, min(1000, h.past-first)))
	}
	await(t, "the past is in the ledger", func() bool {
		n := 0
		if err := client.All(context.Background(), api, "/v1/events?tenant=acme", func(struct{}) { n++ }); err != nil {
			t.Fatal(err)
		}
		return n == h.past
	})
	subscription := map[string]any{"name": "late", "url": receiver.url, "event_types": []string{"load.*"}}
	if h.since != nil {
		subscription["since"] = h.since
	}
	var sub struct {
		ID       uuid.UUID
		Backfill struct {
			ReplayID uuid.UUID `json:"replay_id"`
		}
	}
	call(t, api, "POST /v1/subscriptions?tenant=acme", subscription, &sub)
	replay := struct{ ID uuid.UUID }{sub.Backfill.ReplayID}
	if h.since == nil {
		call(t, api, "POST /v1/subscriptions/"+sub.ID.String()+"/replay",
			map[string]any{"since": "2026-01-01T00:00:00Z", "only": "all", "rate": 500}, &replay)
	}
	if h.live > 0 {
		sent(t, api, array("load.test", h.past, h.live))
	}
	await(t, "a third has arrived", func() bool { return receiver.total.Load() > int64(h.live+h.past/3) })
	if err := p.cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	<-p.done
	await(t, "the receiver has read what was sent before the kill", func() bool { return receiver.open.Load() == 0 })
	before := receiver.snapshot()
	t.Logf("%d of %d had arrived before the kill", len(before), h.past+h.live)

	_, at = startAll(t, dir, limit)
	api = adminClient(t, at, dir)
	await(t, "the replay is done", func() bool {
		var v struct {
			State         string
			Matched, Sent int
		}
		call(t, api, "GET /v1/replays/"+replay.ID.String(), nil, &v)
		if v.State == "done" && (v.Matched != h.past || v.Sent > h.past) {
			t.Fatalf("the replay is %+v, want %d", v, h.past)
		}
		return v.State == "done" && v.Sent == h.past
	})
	checkOnceEach(t, at, sub.ID, h)
	if distinct, _ := receiver.counts(); distinct != h.past+h.live {
		t.Errorf("%d events arrived, want %d", distinct, h.past+h.live)
	}
	checkDuplicates(t, receiver, before)
}

// checkOnceEach wants each event of the past delivered once in generation 1, and each that came later in generation 0.
func checkOnceEach(t *testing.T, at running.Process, sub uuid.UUID, h past) {
	t.Helper()
	db, err := postgres.Open(t.Context(), at.Postgres, 1)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	await(t, "each event is delivered once in its generation", func() bool {
		var rows, distinct, first, second int
		if err := db.QueryRowContext(context.WithoutCancel(t.Context()), `SELECT count(*), count(DISTINCT event_uid),
    count(*) FILTER (WHERE generation = 0), count(*) FILTER (WHERE generation = 1)
FROM deliveries WHERE subscription_id = $1 AND state = 'delivered'`, sub).Scan(&rows, &distinct, &first, &second); err != nil {
			t.Fatal(err)
		}
		if rows > distinct {
			t.Fatalf("%d deliveries of %d events", rows, distinct)
		}
		return first == h.live && second == h.past
	})
}
