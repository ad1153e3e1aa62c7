package main

import (
	"context"
	"fmt"
	"net/http"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/fanfarehq/fanfare/internal/client"
	"github.com/fanfarehq/fanfare/internal/servertest"
)

// apart are the processes of the roles, on a NATS and a Postgres that they share.
type apart struct {
	t   *testing.T
	env []string
}

func newApart(t *testing.T) *apart {
	t.Helper()
	nats := servertest.NATS(t, servertest.Listen)
	a := &apart{t: t, env: sharedSettings(nats.AdminURL(), servertest.EmptyPostgresURL(t))}
	apply := start(t, dataDir(t), a.env, "topology", "apply")
	if code := apply.exitCode(); code != exitOK {
		t.Fatalf("topology apply: exit code %d: %s", code, apply.out)
	}
	return a
}

// start starts a process of a role and returns when it is ready.
func (a *apart) start(role string) (*process, *client.Client) {
	a.t.Helper()
	addr, opsAddr := servertest.FreeAddress(a.t), servertest.FreeAddress(a.t)
	p := start(a.t, dataDir(a.t), append(a.env[:len(a.env):len(a.env)], "FANFARE_ADDR="+addr, "FANFARE_OPS_ADDR="+opsAddr), role)
	p.wait(role+" is ready", func() bool {
		resp, err := http.Get("http://" + opsAddr + "/readyz")
		if err != nil {
			return false
		}
		defer resp.Body.Close()
		return resp.StatusCode == http.StatusOK
	})
	c := client.New("http://"+addr, "the-admin-key-of-this-test")
	a.t.Cleanup(c.Close)
	return p, c
}

// Subscriptions that ask for the past while publishers go on get each event since then once: what is matched live
// and what their backfill makes meet without a gap and without a double, also if fan-outs and workers are replaced.
func TestSinceHasNoGapAndNoDouble(t *testing.T) {
	t.Parallel()
	const (
		publishers, perRequest = 3, 20
		events                 = 2400
		born                   = 8
	)
	a, receiver := newApart(t), newTally(t)
	_, api := a.start("api")
	var olds []*process
	for _, role := range []string{"fanout", "fanout", "deliver", "deliver"} {
		p, _ := a.start(role)
		olds = append(olds, p)
	}
	subscribe(t, api, "old", receiver.url+"/old", "load.*")

	// Each of those that are born asks for what was accepted since a moment before: all, or a part.
	type birth struct {
		path    string
		since   time.Time
		replay  uuid.UUID
		because int // how many had been published
	}
	births := make(chan birth, born)
	began := time.Now().Add(-time.Minute)
	bear := func(n int, published int) {
		since := began
		if n%2 == 1 {
			since = time.Now().Add(-time.Duration(n) * 100 * time.Millisecond)
		}
		var made struct {
			Backfill struct {
				ReplayID uuid.UUID `json:"replay_id"`
			} `json:"backfill"`
		}
		path := fmt.Sprintf("/born-%d", n)
		if err := api.Do(context.Background(), "POST /v1/subscriptions?tenant=acme", map[string]any{
			"name": path, "url": receiver.url + path, "event_types": []string{"load.*"}, "since": since}, &made); err != nil {
			t.Error(err)
		}
		births <- birth{path, since, made.Backfill.ReplayID, published}
	}

	var working sync.WaitGroup
	next, lock := 0, sync.Mutex{}
	take := func() (first int, birth int) {
		lock.Lock()
		defer lock.Unlock()
		first, next = next, next+perRequest
		if first%(events/born) == 5*perRequest {
			return first, first / (events / born)
		}
		return first, -1
	}
	for range publishers {
		working.Go(func() {
			for {
				first, n := take()
				if first >= events {
					return
				}
				if n >= 0 {
					working.Go(func() { bear(n, first) })
				}
				if err := send(api, array("load.test", first, perRequest)); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	await(t, "a third of the events arrived", func() bool { return receiver.total.Load() > events/3 })
	// From here to the end of publishing no worker runs: what is matched live waits in tasks, unknown to the ledger.
	olds[2].stop()
	olds[3].stop()
	working.Wait()
	close(births)
	for i, role := range []string{"fanout", "fanout", "deliver", "deliver"} {
		a.start(role)
		if role == "fanout" {
			olds[i].stop()
		}
	}
	if len(births) != born {
		t.Fatalf("%d subscriptions were born, want %d", len(births), born)
	}
	accepted := map[string]time.Time{}
	await(t, "all events are in the ledger", func() bool {
		clear(accepted)
		err := client.All(t.Context(), api, "/v1/events?tenant=acme", func(e struct {
			ID         string    `json:"id"`
			AcceptedAt time.Time `json:"accepted_at"`
		}) {
			accepted[e.ID] = e.AcceptedAt
		})
		if err != nil {
			t.Fatal(err)
		}
		return len(accepted) == events
	})
	want := map[string]bool{}
	for id := range accepted {
		want["/old "+id] = true
	}
	for b := range births {
		await(t, "the backfill of "+b.path+" is done", func() bool {
			var v struct{ State string }
			call(t, api, "GET /v1/replays/"+b.replay.String(), nil, &v)
			return v.State == "done"
		})
		n := 0
		for id, at := range accepted {
			if !at.Before(b.since) {
				want[b.path+" "+id] = true
				n++
			}
		}
		t.Logf("%s was born after some %d events and is to get %d", b.path, b.because, n)
	}
	await(t, "everything arrived", func() bool { distinct, _ := receiver.counts(); return distinct >= len(want) })
	await(t, "nothing is on its way", func() bool {
		var audit struct {
			Pending  int
			Balanced bool
		}
		call(t, api, "GET /v1/audit", nil, &audit)
		return audit.Pending == 0 && audit.Balanced
	})
	for arrival, n := range receiver.snapshot() {
		if !want[arrival] || n != 1 {
			t.Errorf("%s arrived %d times, wanted %v", arrival, n, want[arrival])
		}
		delete(want, arrival)
	}
	if len(want) > 0 {
		t.Errorf("%d deliveries are missing", len(want))
	}
}
