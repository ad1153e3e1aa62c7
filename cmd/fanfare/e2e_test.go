package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/fanfarehq/fanfare/internal/client"
	"github.com/fanfarehq/fanfare/internal/servertest"
)

// tally is a receiver that counts how often each event arrived at each path.
type tally struct {
	url string

	mu       sync.Mutex
	arrivals map[string]int // by path and webhook-id
	total    atomic.Int64
	open     atomic.Int64 // connections
}

func newTally(t *testing.T) *tally {
	t.Helper()
	r := &tally{arrivals: map[string]int{}}
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		_, _ = io.Copy(io.Discard, req.Body)
		r.mu.Lock()
		r.arrivals[req.URL.Path+" "+req.Header.Get("Webhook-Id")]++
		r.mu.Unlock()
		r.total.Add(1)
		w.WriteHeader(http.StatusNoContent)
	}))
	server.Config.ConnState = func(_ net.Conn, state http.ConnState) {
		switch state {
		case http.StateNew:
			r.open.Add(1)
		case http.StateClosed, http.StateHijacked:
			r.open.Add(-1)
		}
	}
	server.Start()
	t.Cleanup(server.Close)
	r.url = server.URL
	return r
}

// counts returns how many deliveries arrived, and how many arrivals there were beyond the first of each.
func (r *tally) counts() (distinct, duplicates int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, n := range r.arrivals {
		duplicates += n - 1
	}
	return len(r.arrivals), duplicates
}

// snapshot is what has arrived so far.
func (r *tally) snapshot() map[string]int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return maps.Clone(r.arrivals)
}

// subscribe creates a subscription of tenant acme.
func subscribe(t *testing.T, c *client.Client, name, url, types string) {
	t.Helper()
	call(t, c, "POST /v1/subscriptions?tenant=acme",
		map[string]any{"name": name, "url": url, "event_types": []string{types}}, nil)
}

// array is a request of n events of a type, with ids from first on.
func array(kind string, first, n int) []byte {
	var b strings.Builder
	b.WriteByte('[')
	for i := range n {
		if i > 0 {
			b.WriteByte(',')
		}
		fmt.Fprintf(&b, `{"type":%q,"id":"%s_%d","data":{"n":%d}}`, kind, strings.ReplaceAll(kind, ".", "_"), first+i, first+i)
	}
	b.WriteByte(']')
	return []byte(b.String())
}

// killInFlight is how many requests the worker of the next test has in flight. killInHand is the deliveries that it takes on, 512
// from tasks and those that it holds leases of. It keeps each until its outcome is on disk: those are what a crash may repeat.
const (
	killInFlight = 64
	killInHand   = 512 + killInFlight
)

// kill -9 in the middle of 5,000 events, and a restart: what was accepted is delivered, and what arrives twice was
// in flight.
func TestKillInTheMiddle(t *testing.T) {
	t.Parallel()
	const (
		events, perRequest = 5000, 50
		endpoints          = 2
	)
	dir, receiver := dataDir(t), newTally(t)
	limit := fmt.Sprintf("FANFARE_DELIVER_IN_FLIGHT=%d", killInFlight)
	p, at := startAll(t, dir, limit)
	api := adminClient(t, at, dir)
	for i := range endpoints {
		subscribe(t, api, fmt.Sprint("endpoint ", i), fmt.Sprintf("%s/%d", receiver.url, i), "load.*")
	}

	// Publishers go on until they are cut off; each knows which of its requests were answered with 2xx.
	var accepted sync.Map // first id of a request
	var publishers sync.WaitGroup
	var next atomic.Int64
	for range 4 {
		publishers.Go(func() {
			for {
				first := int(next.Add(perRequest)) - perRequest
				if first >= events {
					return
				}
				if err := send(api, array("load.test", first, perRequest)); err != nil {
					return
				}
				accepted.Store(first, true)
			}
		})
	}
	await(t, "a third of the deliveries arrived", func() bool { return receiver.total.Load() > events*endpoints/3 })
	if err := p.cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	<-p.done
	publishers.Wait()
	await(t, "the receiver has read what was sent before the kill", func() bool { return receiver.open.Load() == 0 })
	before := receiver.snapshot()
	var known int
	accepted.Range(func(any, any) bool { known += perRequest; return true })
	t.Logf("killed after %d arrivals; %d events had been accepted", len(before), known)

	began := time.Now()
	_, at = startAll(t, dir, limit)
	t.Logf("ready %v after the restart", time.Since(began).Round(time.Millisecond))
	api = adminClient(t, at, dir)
	// What got no answer is unknown, so it is sent again, as the README says.
	for first := 0; first < events; first += perRequest {
		if _, ok := accepted.Load(first); !ok {
			sent(t, api, array("load.test", first, perRequest))
		}
	}
	await(t, "everything arrived", func() bool {
		distinct, _ := receiver.counts()
		return distinct == events*endpoints
	})
	await(t, "the ledger holds everything", func() bool {
		delivered := 0
		if err := client.All(context.Background(), api, "/v1/deliveries?tenant=acme&state=delivered", func(struct{}) { delivered++ }); err != nil {
			t.Fatal(err)
		}
		return delivered == events*endpoints
	})
	checkDuplicates(t, receiver, before)
	if t.Failed() {
		accepted.Range(func(first, _ any) bool {
			t.Logf("accepted before the kill: %v-%v", first, first.(int)+perRequest-1)
			return true
		})
	}
}

// checkDuplicates wants no duplicate but of what was under way at the kill, and each at most twice.
func checkDuplicates(t *testing.T, receiver *tally, before map[string]int) {
	t.Helper()
	_, duplicates := receiver.counts()
	t.Logf("%d duplicates", duplicates)
	if duplicates > killInHand {
		t.Errorf("%d duplicates, want at most the %d in hand", duplicates, killInHand)
	}
	for delivery, n := range receiver.snapshot() {
		switch {
		case n > 2:
			t.Errorf("%s arrived %d times, want at most 2", delivery, n)
		case n == 2 && before[delivery] != 1:
			t.Errorf("%s arrived %d times before the kill and %d times in all: what came after must come once", delivery, before[delivery], n)
		}
	}
}

// Each role is a process of its own, several of each, on a NATS and a Postgres that they share.
func TestRolesApart(t *testing.T) {
	t.Parallel()
	nats := servertest.NATS(t, servertest.Listen)
	receiver := newTally(t)
	const key = "the-admin-key-of-this-test"
	env := sharedSettings(nats.AdminURL(), servertest.EmptyPostgresURL(t))

	// Without streams, a role says which command makes them.
	fails(t, exitError, env, []string{"fanout"}, "fanfare topology apply")
	fails(t, exitError, env, []string{"topology", "check"}, "fanfare topology apply")
	apply := start(t, dataDir(t), env, "topology", "apply")
	if code := apply.exitCode(); code != exitOK {
		t.Fatalf("topology apply: exit code %d: %s", code, apply.out)
	}

	const ofEach = 2
	var processes []*process
	serving := map[string][]*client.Client{}
	for _, role := range []string{"api", "ingest", "fanout", "deliver"} {
		for range ofEach {
			addr, opsAddr := servertest.FreeAddress(t), servertest.FreeAddress(t)
			p := start(t, dataDir(t), append(env, "FANFARE_ADDR="+addr, "FANFARE_OPS_ADDR="+opsAddr), role)
			p.wait(role+" is ready", func() bool {
				resp, err := http.Get("http://" + opsAddr + "/readyz")
				if err != nil {
					return false
				}
				defer resp.Body.Close()
				return resp.StatusCode == http.StatusOK
			})
			c := client.New("http://"+addr, key)
			t.Cleanup(c.Close)
			processes, serving[role] = append(processes, p), append(serving[role], c)
		}
	}

	// Each subscription is made by one api process and at once published to through another, and by both ingests.
	const rounds, perRequest = 20, 25
	for i := range rounds {
		kind := fmt.Sprintf("round.n%d", i)
		subscribe(t, serving["api"][i%ofEach], kind, fmt.Sprintf("%s/%d", receiver.url, i), kind)
		sent(t, serving["api"][(i+1)%ofEach], array(kind, 0, perRequest))
		sent(t, serving["ingest"][i%ofEach], array(kind, perRequest, perRequest))
	}
	const want = rounds * perRequest * 2
	await(t, "everything arrived", func() bool { distinct, _ := receiver.counts(); return distinct == want })
	if _, duplicates := receiver.counts(); duplicates > 0 {
		t.Errorf("%d duplicates without a crash, want none", duplicates)
	}
	if err := serving["ingest"][0].Do(t.Context(), "GET /v1/subscriptions?tenant=acme", nil, nil); err == nil ||
		!strings.Contains(err.Error(), "404") {
		t.Errorf("GET /v1/subscriptions of an ingest process: got %v, want 404", err)
	}
	for _, p := range processes {
		p.stop()
	}
}

// A second start finds the data again, and is quick.
func TestSecondStart(t *testing.T) {
	t.Parallel()
	dir := dataDir(t)
	p, at := startAll(t, dir)
	subscribe(t, adminClient(t, at, dir), "kept", "http://127.0.0.1:9/", "*")
	p.wait("the start prints a request to try", func() bool { return strings.Contains(p.out.String(), "curl") })
	// Another process on the same directory is refused.
	fails(t, exitError, []string{"FANFARE_DATA_DIR=" + dir}, []string{"all"}, "FANFARE_DATA_DIR")
	p.stop()

	began := time.Now()
	p, at = startAll(t, dir)
	took := time.Since(began)
	t.Logf("the second start was ready after %v", took.Round(time.Millisecond))
	if took > time.Minute {
		t.Errorf("the second start took %v", took)
	}
	names := 0
	err := client.All(t.Context(), adminClient(t, at, dir), "/v1/subscriptions?tenant=acme", func(s struct{ Name string }) {
		if s.Name == "kept" {
			names++
		}
	})
	if err != nil || names != 1 {
		t.Errorf("the subscription of the first start: found %d, %v; want 1", names, err)
	}
	awaitReadiness(t, at.Ops, http.StatusOK, "synced")
	if code := get(t, at.Ops+"/healthz", nil); code != http.StatusOK {
		t.Errorf("GET /healthz: %d, want 200", code)
	}
	if code := get(t, at.Ops+"/metrics", nil); code != http.StatusOK {
		t.Errorf("GET /metrics: %d, want 200", code)
	}
	p.stop()
}

// A second signal does not wait for what is in flight.
func TestSecondSignal(t *testing.T) {
	t.Parallel()
	arrived := make(chan struct{}, 1)
	release := make(chan struct{})
	receiver := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
		arrived <- struct{}{}
		<-release
	}))
	defer receiver.Close()
	defer close(release)
	dir := dataDir(t)
	p, at := startAll(t, dir)
	api := adminClient(t, at, dir)
	subscribe(t, api, "hangs", receiver.URL, "*")
	call(t, api, "POST /v1/events?tenant=acme", []byte(`{"type":"order.created","data":1}`), nil)
	<-arrived
	p.wait("a signal ends it", func() bool {
		_ = p.cmd.Process.Signal(syscall.SIGTERM) // It has ended if this fails.
		select {
		case <-p.done:
			return true
		default:
			return false
		}
	})
	if status, ok := p.cmd.ProcessState.Sys().(syscall.WaitStatus); !ok || status.Signal() != syscall.SIGTERM {
		t.Errorf("it ended with %v, want by the signal", p.cmd.ProcessState)
	}
}

// The demo ends by itself, and its numbers add up.
func TestDemo(t *testing.T) {
	t.Parallel()
	p := start(t, dataDir(t), nil, "demo")
	if code := p.exitCode(); code != exitOK {
		t.Errorf("exit code %d, want 0", code)
	}
	if !strings.Contains(p.out.String(), "It adds up") {
		t.Errorf("it printed:\n%s", p.out)
	}
}

// A short bench measures something, and the ledger holds it all.
func TestBench(t *testing.T) {
	t.Parallel()
	p := start(t, dataDir(t), nil, "bench", "--json", "--seconds", "0.2", "--rounds", "1", "--steady", "1", "--fanout", "1,10", "--publishers", "1,16")
	if code := p.exitCode(); code != exitOK {
		t.Fatalf("exit code %d, want 0", code)
	}
	for _, want := range []string{`"ratio"`, `"p99_ms"`, `"delivered"`, `"publishers": 16`, `"disk_flushes_per_event"`} {
		if !strings.Contains(p.out.String(), want) {
			t.Errorf("it printed no %s:\n%s", want, p.out)
		}
	}
}

// A short soak accepts more events than its budget of bytes holds, as settled ones leave; and the ledger holds it all.
func TestBenchSoak(t *testing.T) {
	t.Parallel()
	const holds = 800 // events in 1 MiB
	type soaked struct {
		Samples                      []json.RawMessage
		Accepted                     int `json:"accepted_healthy"`
		Received, Delivered, Pending int
	}
	var got soaked
	for _, minutes := range []string{"0.14", "1", "3"} { // Machines that run tests may be slow.
		p := start(t, dataDir(t), nil, "bench", "soak", "--json", "--minutes", minutes, "--rate", "250", "--events-bytes", "1048576", "--failing", "10")
		p.exitCode() // 1 where this machine is too slow for the rate.
		out := p.out.String()
		got = soaked{}
		if err := json.Unmarshal([]byte(out[max(strings.Index(out, "\n{\n"), 0):strings.LastIndex(out, "\n}")+2]), &got); err != nil {
			t.Fatalf("%v in %s", err, out)
		}
		if got.Delivered+got.Pending > holds && len(got.Samples) > 1 {
			break
		}
	}
	if got.Delivered+got.Pending <= holds || got.Delivered != got.Received || got.Delivered < got.Accepted || len(got.Samples) < 2 {
		t.Errorf("got %+v", got)
	}
}
