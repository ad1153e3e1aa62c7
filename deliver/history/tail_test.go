package history

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

	"github.com/fanfarehq/fanfare/deliver/outcome"
	"github.com/fanfarehq/fanfare/internal/api"
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
	case <-time.After(2 * time.Minute):
		t.Fatal("the tail is silent")
	}
	return ""
}

// tailOf serves a tail that runs until stop is called.
func tailOf(t *testing.T, h *house) (tail *Tail, url string, stop func() error) {
	t.Helper()
	tail = NewTail(h.JS, h.Log)
	url, stop = serveTail(t, h, tail, tenants{})
	return tail, url, stop
}

// serveTail serves a tail for those that keys names.
func serveTail(t *testing.T, h *house, tail *Tail, keys api.Authenticator) (url string, stop func() error) {
	t.Helper()
	stop = h.Run(tail.Run).Stop
	mux := http.NewServeMux()
	tail.Register(api.New(mux, api.Config{Title: "t", Version: "1"}, keys))
	server := httptest.NewServer(mux)
	t.Cleanup(func() { _ = stop(); server.Close() })
	h.Eventually("the tail to run", func() bool {
		tail.mu.Lock()
		defer tail.mu.Unlock()
		return tail.ends != nil
	})
	return server.URL, stop
}

func TestTheTailShowsOutcomesAsTheyHappen(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	_, url, stop := tailOf(t, h)
	all, dead, foreign := watch(t, url, "acme", ""), watch(t, url, "acme", "?state=dead"), watch(t, url, "globex", "")
	sub, id := uuid.New(), uuid.New()
	h.outcome(&outcome.Record{Outcome: outcome.Delivered, Reason: outcome.ReasonOK, Attempt: &outcome.Made{Number: 1, Status: 200}})
	h.outcome(&outcome.Record{
		Delivery: id, Subscription: sub, Outcome: outcome.Dead, Reason: outcome.ReasonServer,
		Attempt: &outcome.Made{Number: 1, Status: 500, Response: []byte("oops")},
	})
	states := map[string]int{}
	for range 2 {
		if line := next(t, all); line != "event: attempt" {
			t.Errorf("the event is %q", line)
		}
		var e attemptEvent
		if err := json.Unmarshal([]byte(strings.TrimPrefix(next(t, all), "data: ")), &e); err != nil {
			t.Fatal(err)
		}
		states[e.State]++
	}
	if states["delivered"] != 1 || states["dead"] != 1 {
		t.Errorf("the tail showed %v", states)
	}
	next(t, dead)
	var e attemptEvent
	if err := json.Unmarshal([]byte(strings.TrimPrefix(next(t, dead), "data: ")), &e); err != nil {
		t.Fatal(err)
	}
	if e.DeliveryID != id || e.Tenant != "acme" || e.Subscription != sub || e.Status == nil || *e.Status != 500 ||
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
	h := newHouse(t)
	logged := make(logLines, 1)
	h.Log = slog.New(slog.NewTextHandler(logged, nil))
	tail, url, _ := tailOf(t, h)
	all := watch(t, url, "acme", "")
	tail.mu.Lock()
	tail.readers[nil] = true // asking it what it wants panics
	tail.mu.Unlock()
	h.outcome(&outcome.Record{Outcome: outcome.Delivered, Reason: outcome.ReasonOK})
	for line := ""; !strings.Contains(line, "outcomes not shown"); {
		line = <-logged
	}
	tail.mu.Lock()
	delete(tail.readers, nil)
	tail.mu.Unlock()
	want := h.outcome(&outcome.Record{Outcome: outcome.Delivered, Reason: outcome.ReasonOK}).String()
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
	h := newHouse(t)
	tail, url, _ := tailOf(t, h)
	quick := watch(t, url, "acme", "")
	slow := newTailReader("", "")
	slow.outcomes = make(chan []byte, 1)
	if _, err := tail.join(t.Context(), slow); err != nil {
		t.Fatal(err)
	}
	rec := &outcome.Record{Delivery: uuid.New(), Tenant: "acme", Outcome: outcome.Delivered, Reason: outcome.ReasonOK, At: time.Now()}
	tail.hand(t.Context(), tail.following, []*outcome.Record{rec})
	tail.hand(t.Context(), tail.following, []*outcome.Record{rec})
	<-slow.dropped
	for range 4 { // Two outcomes, of two lines each.
		next(t, quick)
	}
}

// A reader that reads nothing is dropped before it keeps more than tailBytes in memory, however few outcomes these are; one
// outcome that is larger than that is queued alone.
func TestAReaderOfTheTailIsBoundedByBytes(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	tail, _, _ := tailOf(t, h)
	slow := newTailReader("", "")
	if _, err := tail.join(t.Context(), slow); err != nil {
		t.Fatal(err)
	}
	record := func(size int) *outcome.Record {
		return &outcome.Record{
			Delivery: uuid.New(), Tenant: "acme", Outcome: outcome.Dead, Reason: outcome.ReasonServer, At: time.Now(),
			Attempt: &outcome.Made{Number: 1, StartedAt: time.Now(), Status: 500, Response: []byte(strings.Repeat("x", size))},
		}
	}
	tail.hand(t.Context(), tail.following, []*outcome.Record{record(2 * tailBytes)})
	if n := len(slow.outcomes); n != 1 {
		t.Fatalf("%d outcomes are queued, want the large one", n)
	}
	slow.behind.Add(-int64(len(<-slow.outcomes)))
	for range tailBuffer {
		tail.hand(t.Context(), tail.following, []*outcome.Record{record(16 << 10)})
	}
	<-slow.dropped
	queued := 0
	for len(slow.outcomes) > 0 {
		queued += len(<-slow.outcomes)
	}
	if queued > tailBytes || queued < tailBytes/2 {
		t.Errorf("%d bytes were queued, want them within %d and near it", queued, tailBytes)
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
	h := newHouse(t)
	tail, _, _ := tailOf(t, h)
	broker := slowBroker{h.JS, make(chan struct{}), make(chan struct{})}
	tail.js = broker
	joined := make(chan error, 2)
	join := func() {
		_, err := tail.join(t.Context(), newTailReader("acme", ""))
		joined <- err
	}
	go join()
	<-broker.asked
	tail.leave(newTailReader("acme", "")) // It would wait here.
	go join()
	close(broker.answer)
	for range 2 {
		if err := <-joined; err != nil {
			t.Error(err)
		}
	}
}
