package check

import (
	"encoding/json"
	"flag"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

var (
	most = flag.Int("scaling.most", 1, "how many processes of fanout and deliver the test of scaling goes up to")
	rate = flag.Int("scaling.rate", 40, "events a second of the test of scaling")
)

// arrivals counts webhooks by their event, with the time since it was published.
type arrivals struct {
	mu      sync.Mutex
	times   map[string]int
	latency []time.Duration
}

func (a *arrivals) ServeHTTP(_ http.ResponseWriter, r *http.Request) {
	var hook struct {
		Data struct{ At int64 }
	}
	err := json.NewDecoder(r.Body).Decode(&hook)
	a.mu.Lock()
	defer a.mu.Unlock()
	a.times[r.Header.Get("Webhook-Id")]++
	if err == nil && a.times[r.Header.Get("Webhook-Id")] == 1 {
		a.latency = append(a.latency, time.Since(time.UnixMicro(hook.Data.At)))
	}
}

// counts returns how many events arrived, how many arrivals there were beyond that, and the p99.
func (a *arrivals) counts() (distinct, duplicates int, p99 time.Duration) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, n := range a.times {
		duplicates += n - 1
	}
	sorted := slices.Sorted(slices.Values(a.latency))
	if len(sorted) > 0 {
		p99 = sorted[len(sorted)*99/100]
	}
	return len(a.times), duplicates, p99
}

// Processes of fan-out and deliver come and go under load, and each role is replaced one process at a time: each accepted event
// arrives, exactly once, as nothing crashes. `make scaling` goes up to eight processes of each.
func TestScaling(t *testing.T) {
	s := up(t)
	got := &arrivals{times: map[string]int{}}
	receiver := httptest.NewServer(got)
	t.Cleanup(receiver.Close)
	fleet := map[string][]*child{}
	for _, role := range []string{"api", "ingest", "fanout", "deliver"} {
		s.grow(fleet, role, 1)
	}
	s.call("POST /v1/subscriptions?tenant=acme", map[string]any{
		"name": "x", "url": receiver.URL, "event_types": []string{"*"}, "max_in_flight": 256,
	})
	load := s.publish()
	for _, n := range []int{*most, max(*most/4, 1)} {
		for _, role := range []string{"fanout", "deliver"} {
			s.grow(fleet, role, n)
		}
		load.more(t, 2*(*rate))
	}
	for _, role := range []string{"api", "ingest", "fanout", "deliver"} {
		for i, old := range fleet[role] {
			s.replace(fleet, role, i, old)
		}
		load.more(t, *rate)
	}
	accepted := load.stop()
	await(t, fmt.Sprintf("all %d events arrive", accepted), func() bool {
		distinct, _, _ := got.counts()
		return distinct >= accepted
	})
	distinct, duplicates, p99 := got.counts()
	t.Logf("1 -> %d -> %d processes of fanout and deliver, then each role replaced: %d events accepted, %d arrived, %d duplicates, p99 %v",
		*most, max(*most/4, 1), accepted, distinct, duplicates, p99)
	if distinct != accepted || duplicates > 0 {
		t.Errorf("%d events accepted, %d arrived, %d duplicates; want each once", accepted, distinct, duplicates)
	}
	for _, role := range fleet {
		for _, c := range role {
			s.stop(c)
		}
	}
}

// grow starts or stops processes of a role until there are n.
func (s *stack) grow(fleet map[string][]*child, role string, n int) {
	s.t.Helper()
	var fresh []*child
	for len(fleet[role])+len(fresh) < n {
		fresh = append(fresh, s.run(role))
	}
	for _, c := range fresh {
		s.healthy(c)
	}
	fleet[role] = append(fleet[role], fresh...)
	for len(fleet[role]) > n {
		last := len(fleet[role]) - 1
		s.stop(fleet[role][last])
		fleet[role] = fleet[role][:last]
	}
}

// replace starts a process and then stops the one that it replaces, as a rolling update does. One that serves takes over the
// address, so it is stopped first; its clients repeat what got no answer.
func (s *stack) replace(fleet map[string][]*child, role string, i int, old *child) {
	s.t.Helper()
	if s.apis[role] != "" {
		s.stop(old)
		fleet[role][i] = s.run(role)
		s.healthy(fleet[role][i])
		return
	}
	fresh := s.run(role)
	s.healthy(fresh)
	s.stop(old)
	fleet[role][i] = fresh
}

// publishing is a load of events over HTTP.
type publishing struct {
	accepted atomic.Int64
	end      chan struct{}
	done     chan struct{}
}

// publish publishes to ingest at the rate. Any answer but 202 means unknown: the event is sent again under its id.
func (s *stack) publish() *publishing {
	p := &publishing{end: make(chan struct{}), done: make(chan struct{})}
	send := func(id int) bool {
		body := fmt.Sprintf(`{"type":"order.created","id":"evt_%d","data":{"at":%d}}`, id, time.Now().UnixMicro())
		req, err := http.NewRequest(http.MethodPost, "http://"+s.apis["ingest"]+"/v1/events?tenant=acme", strings.NewReader(body))
		if err != nil {
			panic(err)
		}
		req.Header.Set("Authorization", "Bearer "+secrets(s.t)["FANFARE_ADMIN_KEY"])
		req.Header.Set("Content-Type", "application/json")
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			return false
		}
		defer resp.Body.Close()
		return resp.StatusCode == http.StatusAccepted
	}
	go func() {
		defer close(p.done)
		tick := time.NewTicker(time.Second / time.Duration(*rate))
		defer tick.Stop()
		for id := 0; ; {
			select {
			case <-p.end:
				return
			case <-tick.C:
				if send(id) {
					id++
					p.accepted.Add(1)
				}
			}
		}
	}()
	return p
}

// more waits until as many events more were accepted.
func (p *publishing) more(t *testing.T, n int) {
	t.Helper()
	until := p.accepted.Load() + int64(n)
	await(t, "more events are accepted", func() bool { return p.accepted.Load() >= until })
}

// stop ends the load and returns how many events were accepted.
func (p *publishing) stop() int {
	close(p.end)
	<-p.done
	return int(p.accepted.Load())
}
