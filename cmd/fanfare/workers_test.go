package main

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
	"time"

	"github.com/fanfarehq/fanfare/internal/client"
	"github.com/fanfarehq/fanfare/internal/servertest"
)

// Three processes that start together divide the max_in_flight of a subscription, whatever its remainder.
func TestMaxInFlightOverThreeProcesses(t *testing.T) {
	t.Parallel()
	nats := servertest.NATS(t, servertest.Listen)
	const key = "the-admin-key-of-this-test"
	env := sharedSettings(nats.AdminURL(), servertest.EmptyPostgresURL(t))
	if p := start(t, dataDir(t), env, "topology", "apply"); p.exitCode() != exitOK {
		t.Fatal(p.out)
	}
	api := servertest.FreeAddress(t)
	for _, role := range []string{"api", "fanout", "deliver", "deliver", "deliver"} {
		start(t, dataDir(t), append(env, "FANFARE_ADDR="+api, "FANFARE_OPS_ADDR="+servertest.FreeAddress(t)), role)
	}
	await(t, "the API answers", func() bool {
		resp, err := http.Get("http://" + api + "/v1/openapi.json")
		if err == nil {
			_ = resp.Body.Close()
		}
		return err == nil
	})
	c := client.New("http://"+api, key)
	t.Cleanup(c.Close)

	const n = 300
	limits := []int{8, 2}
	var mu sync.Mutex
	now, most, done := map[string]int{}, map[string]int{}, map[string]int{}
	receiver := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		count := func(by int) {
			mu.Lock()
			defer mu.Unlock()
			now[r.URL.Path] += by
			most[r.URL.Path] = max(most[r.URL.Path], now[r.URL.Path])
			done[r.URL.Path] += max(-by, 0)
		}
		count(1)
		defer count(-1)
		time.Sleep(50 * time.Millisecond)
	}))
	t.Cleanup(receiver.Close)
	for _, limit := range limits {
		kind := fmt.Sprintf("limit.n%d", limit)
		call(t, c, "POST /v1/subscriptions?tenant=acme", map[string]any{
			"name": kind, "url": fmt.Sprintf("%s/%d", receiver.URL, limit), "event_types": []string{kind}, "max_in_flight": limit,
		}, nil)
		sent(t, c, array(kind, 0, n))
	}
	await(t, "everything arrived", func() bool {
		mu.Lock()
		defer mu.Unlock()
		return done["/8"] >= n && done["/2"] >= n
	})
	mu.Lock()
	defer mu.Unlock()
	for _, limit := range limits {
		if got := most[fmt.Sprintf("/%d", limit)]; got > limit {
			t.Errorf("%d requests at once, want %d at most", got, limit)
		}
	}
	t.Logf("requests at once: %v", most)
}
