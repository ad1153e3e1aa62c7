package deliver

import (
	"bufio"
	"context"
	"encoding/json"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	natsjs "github.com/nats-io/nats.go/jetstream"

	"github.com/fanfarehq/fanfare/deliver/history"
	"github.com/fanfarehq/fanfare/deliver/outcome"
	"github.com/fanfarehq/fanfare/internal/api"
	"github.com/fanfarehq/fanfare/internal/servertest"
)

// tenants judges keys: a key is its tenant's name.
type tenants struct{}

func (tenants) Authenticate(_ context.Context, key string) (api.Caller, error) {
	return api.Caller{Tenant: key, Scopes: []string{"deliveries:read"}}, nil
}

// watch opens the tail and returns its events, one string each, until it ends.
func watch(t *testing.T, base, tenant, query string) <-chan string {
	t.Helper()
	req := must(http.NewRequestWithContext(t.Context(), http.MethodGet, base+"/v1/tail"+query, nil))(t)
	req.Header.Set("X-API-Key", tenant)
	resp := must((&http.Client{Transport: &http.Transport{DisableKeepAlives: true}}).Do(req))(t)
	t.Cleanup(func() { resp.Body.Close() })
	if resp.StatusCode != http.StatusOK || resp.Header.Get("Content-Type") != "text/event-stream" {
		t.Fatalf("the tail answers %s, %s", resp.Status, resp.Header.Get("Content-Type"))
	}
	events := make(chan string, 10_000)
	lines := bufio.NewScanner(resp.Body)
	if !lines.Scan() || lines.Text() != ": watching" {
		t.Fatalf("the tail begins with %q", lines.Text())
	}
	go func() {
		defer close(events)
		for lines.Scan() {
			if line := lines.Text(); line != "" && !strings.HasPrefix(line, ":") {
				events <- line
			}
		}
	}()
	return events
}

func next(t *testing.T, events <-chan string) string {
	t.Helper()
	select {
	case e, ok := <-events:
		if !ok {
			t.Fatal("the tail ended")
		}
		return e
	case <-time.After(20 * time.Second):
		t.Fatal("the tail is silent")
	}
	return ""
}

// tailOf serves a tail that runs until stop is called.
func tailOf(t *testing.T, r *rig) (tail *history.Tail, url string, stop func() error) {
	t.Helper()
	tail = history.NewTail(r.js, r.log)
	s := r.run(tail.Run)
	mux := http.NewServeMux()
	tail.Register(api.New(mux, api.Config{Title: "t", Version: "1"}, tenants{}))
	server := httptest.NewServer(mux)
	t.Cleanup(func() { _ = s.stop(); server.Close() })
	r.eventually("the tail to run", func() bool {
		tail.Mu.Lock()
		defer tail.Mu.Unlock()
		return tail.Ends != nil
	})
	return tail, server.URL, s.stop
}

func TestTheTailShowsOutcomesAsTheyHappen(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	_, url, stop := tailOf(t, r)
	all, dead, foreign := watch(t, url, "acme", ""), watch(t, url, "acme", "?state=dead"), watch(t, url, "globex", "")
	r.worker(quick())
	good := r.subscribe(servertest.NewReceiver(t, servertest.Status(200)).URL, nil)
	bad := r.subscribe(servertest.NewReceiver(t, servertest.Reply(500, nil, "oops")).URL, once)
	r.send(r.event(), good)
	id := r.send(r.event(), bad)

	states := map[string]int{}
	for range 2 {
		if line := next(t, all); line != "event: attempt" {
			t.Errorf("the event is %q", line)
		}
		var e history.AttemptEvent
		if err := json.Unmarshal([]byte(strings.TrimPrefix(next(t, all), "data: ")), &e); err != nil {
			t.Fatal(err)
		}
		states[e.State]++
	}
	if states["delivered"] != 1 || states["dead"] != 1 {
		t.Errorf("the tail showed %v", states)
	}
	next(t, dead)
	var e history.AttemptEvent
	if err := json.Unmarshal([]byte(strings.TrimPrefix(next(t, dead), "data: ")), &e); err != nil {
		t.Fatal(err)
	}
	if e.DeliveryID != id || e.Tenant != "acme" || e.Subscription != bad.ID || e.Status == nil || *e.Status != 500 ||
		e.Response == nil || *e.Response != "oops" || e.Number != 1 || e.Outcome != outcome.Dead || e.EventType != "order.created" {
		t.Errorf("the dead letter is shown as %+v", e)
	}
	if err := stop(); err != nil {
		t.Error(err)
	}
	if line, ok := <-foreign; ok {
		t.Errorf("another tenant saw %q", line)
	}
}

// A panic while outcomes are shown leaves out what one message holds, not the tail or the process.
func TestTheTailOutlivesAPanic(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	logged := make(logLines, 1)
	r.log = slog.New(slog.NewTextHandler(logged, nil))
	tail, url, _ := tailOf(t, r)
	all := watch(t, url, "acme", "")
	tail.Mu.Lock()
	tail.Readers[nil] = true // asking it what it wants panics
	tail.Mu.Unlock()
	r.worker(quick())
	sub := r.subscribe(servertest.NewReceiver(t).URL, nil)
	r.send(r.event(), sub)
	for line := ""; !strings.Contains(line, "outcomes not shown"); {
		line = <-logged
	}
	tail.Mu.Lock()
	delete(tail.Readers, nil)
	tail.Mu.Unlock()
	want := r.send(r.event(), sub).String()
	for line := ""; !strings.Contains(line, want); { // The first outcome may have been queued before the panic.
		line = next(t, all)
	}
}

// logLines passes on what is written to a log.
type logLines chan string

func (w logLines) Write(line []byte) (int, error) {
	w <- string(line)
	return len(line), nil
}

func TestASlowReaderOfTheTailIsDropped(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	tail, url, _ := tailOf(t, r)
	quick := watch(t, url, "acme", "")
	slow := history.NewTailReader("", "")
	slow.Outcomes = make(chan []byte, 1)
	if _, err := tail.Join(t.Context(), slow); err != nil {
		t.Fatal(err)
	}
	rec := &outcome.Record{Delivery: uuid.New(), Tenant: "acme", Outcome: outcome.Delivered, Reason: outcome.ReasonOK, At: time.Now()}
	tail.Hand(t.Context(), tail.Following, []*outcome.Record{rec})
	tail.Hand(t.Context(), tail.Following, []*outcome.Record{rec})
	<-slow.Dropped
	for range 4 { // Two outcomes, of two lines each.
		next(t, quick)
	}
}

// A reader that reads nothing is dropped before it keeps more than TailBytes in memory, however few outcomes these are; one
// outcome that is larger than that is queued alone.
func TestAReaderOfTheTailIsBoundedByBytes(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	tail, _, _ := tailOf(t, r)
	slow := history.NewTailReader("", "")
	if _, err := tail.Join(t.Context(), slow); err != nil {
		t.Fatal(err)
	}
	record := func(size int) *outcome.Record {
		return &outcome.Record{
			Delivery: uuid.New(), Tenant: "acme", Outcome: outcome.Dead, Reason: outcome.ReasonServer, At: time.Now(),
			Attempt: &outcome.Made{Number: 1, StartedAt: time.Now(), Status: 500, Response: []byte(strings.Repeat("x", size))},
		}
	}
	tail.Hand(t.Context(), tail.Following, []*outcome.Record{record(2 * history.TailBytes)})
	if n := len(slow.Outcomes); n != 1 {
		t.Fatalf("%d outcomes are queued, want the large one", n)
	}
	slow.Behind.Add(-int64(len(<-slow.Outcomes)))
	for range history.TailBuffer {
		tail.Hand(t.Context(), tail.Following, []*outcome.Record{record(16 << 10)})
	}
	<-slow.Dropped
	queued := 0
	for len(slow.Outcomes) > 0 {
		queued += len(<-slow.Outcomes)
	}
	if queued > history.TailBytes || queued < history.TailBytes/2 {
		t.Errorf("%d bytes were queued, want them within %d and near it", queued, history.TailBytes)
	}
}

// slowBroker answers requests for a consumer only when it is let.
type slowBroker struct {
	natsjs.JetStream
	asked, answer chan struct{}
}

func (b slowBroker) OrderedConsumer(ctx context.Context, stream string, cfg natsjs.OrderedConsumerConfig) (natsjs.Consumer, error) {
	close(b.asked)
	select {
	case <-b.answer:
		return b.JetStream.OrderedConsumer(ctx, stream, cfg)
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// A tail that waits for the broker keeps nobody from leaving, and its other readers begin with it.
func TestTailsWaitForTheBrokerWithoutTheLock(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	tail, _, _ := tailOf(t, r)
	broker := slowBroker{r.js, make(chan struct{}), make(chan struct{})}
	tail.Js = broker
	joined := make(chan error, 2)
	join := func() {
		_, err := tail.Join(t.Context(), history.NewTailReader("acme", ""))
		joined <- err
	}
	go join()
	<-broker.asked
	tail.Leave(history.NewTailReader("acme", "")) // It would wait here.
	go join()
	close(broker.answer)
	for range 2 {
		if err := <-joined; err != nil {
			t.Error(err)
		}
	}
}
