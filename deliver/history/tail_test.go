package history_test

import (
	"bufio"
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/uuid"
	natsjs "github.com/nats-io/nats.go/jetstream"

	"github.com/fanfarehq/fanfare/deliver/history"
	"github.com/fanfarehq/fanfare/deliver/ledger"
	"github.com/fanfarehq/fanfare/deliver/outcome"
	"github.com/fanfarehq/fanfare/internal/api"
	"github.com/fanfarehq/fanfare/internal/quota"
	"github.com/fanfarehq/fanfare/internal/tenantkeys"
)

// tenants judges keys: a key is its tenant's name.
type tenants struct{}

func (tenants) Authenticate(_ context.Context, key string) (api.Caller, error) {
	return api.Caller{Tenant: key, Scopes: []string{"deliveries:read"}}, nil
}

// open asks for the tail. While it is not run yet, or for want of the broker, it is asked again.
func open(ctx context.Context, t *testing.T, base, key, query string) *http.Response {
	t.Helper()
	for {
		req := must(http.NewRequestWithContext(ctx, http.MethodGet, base+"/v1/tail"+query, nil))(t)
		req.Header.Set("X-API-Key", key)
		resp := must((&http.Client{Transport: &http.Transport{DisableKeepAlives: true}}).Do(req))(t)
		t.Cleanup(func() { resp.Body.Close() })
		if resp.StatusCode != http.StatusServiceUnavailable {
			return resp
		}
		resp.Body.Close()
		time.Sleep(10 * time.Millisecond)
	}
}

// watch opens the tail and returns its events, one string each, until it ends.
func watch(t *testing.T, base, tenant, query string) <-chan string {
	t.Helper()
	resp := open(t.Context(), t, base, tenant, query)
	if resp.StatusCode != http.StatusOK || resp.Header.Get("Content-Type") != "text/event-stream" {
		t.Fatalf("the tail answers %s, %s", resp.Status, resp.Header.Get("Content-Type"))
	}
	return read(t, resp.Body)
}

// read returns the lines of a tail but for beats, until it ends.
func read(t *testing.T, body io.Reader) <-chan string {
	t.Helper()
	events := make(chan string, 10_000)
	lines := bufio.NewScanner(body)
	lines.Buffer(nil, 4<<20)
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
func tailOf(t *testing.T, h *house) (tail *history.Tail, url string, stop func() error) {
	t.Helper()
	tail = history.NewTail(h.JS, h.Log)
	url, stop = serveTail(t, h, tail, tenants{})
	return tail, url, stop
}

// serveTail serves a tail for those that keys names.
func serveTail(t *testing.T, h *house, tail *history.Tail, keys api.Authenticator) (url string, stop func() error) {
	t.Helper()
	stop = h.Run(tail.Run).Stop
	mux := http.NewServeMux()
	tail.Register(api.New(mux, api.Config{Title: "t", Version: "1"}, keys))
	server := httptest.NewUnstartedServer(mux)
	server.Config.ConnContext = func(ctx context.Context, c net.Conn) context.Context {
		_ = c.(*net.TCPConn).SetWriteBuffer(4096) // What a reader does not read is soon felt.
		return ctx
	}
	server.Start()
	t.Cleanup(func() { _ = stop(); server.Close() })
	return server.URL, stop
}

// shown is what of an event the tests look at.
type shown struct {
	Number       int
	Status       *int
	Response     *string
	Outcome      outcome.Outcome
	DeliveryID   uuid.UUID `json:"delivery_id"`
	EventType    string    `json:"event_type"`
	Subscription uuid.UUID `json:"subscription_id"`
	Tenant       string
	State        string
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
		var e shown
		if err := json.Unmarshal([]byte(strings.TrimPrefix(next(t, all), "data: ")), &e); err != nil {
			t.Fatal(err)
		}
		states[e.State]++
	}
	if states["delivered"] != 1 || states["dead"] != 1 {
		t.Errorf("the tail showed %v", states)
	}
	next(t, dead)
	var e shown
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
	tail := history.NewTail(h.JS, h.Log)
	tail.SealWith(new(tenantkeys.Keys)) // They were not made, and panic when a sealed answer is to be opened.
	url, _ := serveTail(t, h, tail, tenants{})
	all := watch(t, url, "acme", "")
	sealed := append([]byte{0xff, 1}, make([]byte, tenantkeys.Overhead)...)
	h.outcome(&outcome.Record{
		Outcome: outcome.Delivered, Reason: outcome.ReasonOK, Attempt: &outcome.Made{Number: 1, StartedAt: time.Now(), Status: 200, Response: sealed},
	})
	for line := ""; !strings.Contains(line, "outcomes not shown"); {
		line = <-logged
	}
	want := h.outcome(&outcome.Record{Outcome: outcome.Delivered, Reason: outcome.ReasonOK}).String()
	next(t, all)
	if line := next(t, all); !strings.Contains(line, want) {
		t.Errorf("after the panic %q is shown, want %s", line, want)
	}
}

// logLines passes on what is written to a log.
type logLines chan string

func (w logLines) Write(line []byte) (int, error) {
	w <- string(line)
	return len(line), nil
}

// A reader that reads nothing is dropped before it is behind by 1 MiB or by more than 1,024 outcomes, and the others go on.
func TestASlowReaderOfTheTailIsDropped(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	_, url, _ := tailOf(t, h)
	for name, tc := range map[string]struct {
		outcomes, size int
		most           int // outcomes that a dropped reader still gets: those that were queued or are in the network
	}{
		"by bytes":    {200, 16 << 10, 100},
		"by outcomes": {1400, 0, 1300},
	} {
		quick := watch(t, url, "acme", "")
		slow := &net.Dialer{Control: func(_, _ string, c syscall.RawConn) error {
			return c.Control(func(fd uintptr) { _ = syscall.SetsockoptInt(int(fd), syscall.SOL_SOCKET, syscall.SO_RCVBUF, 4096) })
		}}
		conn := must(slow.DialContext(t.Context(), "tcp", strings.TrimPrefix(url, "http://")))(t)
		must(io.WriteString(conn, "GET /v1/tail HTTP/1.1\r\nHost: tail\r\nX-API-Key: acme\r\nConnection: close\r\n\r\n"))(t)
		resp := must(http.ReadResponse(bufio.NewReader(conn), nil))(t)
		if resp.StatusCode != http.StatusOK {
			t.Fatalf("got %s", resp.Status)
		}
		records := make([]*outcome.Record, tc.outcomes)
		for i := range records {
			records[i] = &outcome.Record{
				Delivery: uuid.New(), Tenant: "acme", Outcome: outcome.Dead, Reason: outcome.ReasonServer, At: time.Now(),
				Attempt: &outcome.Made{Number: 1, StartedAt: time.Now(), Status: 500, Response: []byte(strings.Repeat("x", tc.size))},
			}
		}
		for part := range slices.Chunk(records, 20) {
			if err := h.journal.Write(t.Context(), part, ledger.TaskWaits); err != nil {
				t.Fatal(err)
			}
			for range 2 * len(part) {
				next(t, quick)
			}
		}
		// Now it reads the rest, up to the end.
		if err := conn.SetReadDeadline(time.Now().Add(time.Minute)); err != nil {
			t.Fatal(err)
		}
		got := 0
		for line := range read(t, resp.Body) {
			if strings.HasPrefix(line, "data: {\"") {
				got++
			}
		}
		if got > tc.most {
			t.Errorf("%s: a reader that read nothing got %d of %d outcomes, want at most %d", name, got, len(records), tc.most)
		}
		conn.Close()
		resp.Body.Close()
	}
}

// An outcome that is larger than what a reader may be behind by is shown alone.
func TestALargeOutcomeIsShown(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	_, url, _ := tailOf(t, h)
	all := watch(t, url, "acme", "")
	h.outcome(&outcome.Record{
		Outcome: outcome.Dead, Reason: outcome.ReasonServer,
		Attempt: &outcome.Made{Number: 1, StartedAt: time.Now(), Status: 500, Response: []byte(strings.Repeat("\x01", 200_000))}, // six bytes each
	})
	next(t, all)
	if n := len(next(t, all)); n < 1<<20 {
		t.Errorf("%d bytes are shown, want more than a reader may be behind by", n)
	}
}

// slowBroker answers requests for a consumer only when it is let.
type slowBroker struct {
	natsjs.JetStream
	asked  chan struct{} // sent to, if there is room
	answer chan struct{}
}

func (b slowBroker) OrderedConsumer(ctx context.Context, stream string, cfg natsjs.OrderedConsumerConfig) (natsjs.Consumer, error) {
	select {
	case b.asked <- struct{}{}:
	default:
	}
	<-b.answer
	return b.JetStream.OrderedConsumer(ctx, stream, cfg)
}

// A tail that waits for the broker keeps nobody from leaving, and its other readers begin with it.
func TestTailsWaitForTheBrokerWithoutTheLock(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	broker := slowBroker{h.JS, make(chan struct{}, 1), make(chan struct{})}
	tail := history.NewTail(broker, h.Log)
	quotas := must(quota.New(quota.Config{Tails: 2}, quota.Deps{DB: h.DB}))(t)
	tail.Limit(quotas)
	url, _ := serveTail(t, h, tail, tenants{})
	opened := make(chan int, 2)
	ask := func() { opened <- open(t.Context(), t, url, "acme", "").StatusCode }
	go ask()
	<-broker.asked
	// Another one comes, and leaves before the broker has answered.
	ctx, leave := context.WithCancel(t.Context())
	left := make(chan struct{})
	go func() {
		defer close(left)
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, url+"/v1/tail", nil)
		if err != nil {
			t.Error(err)
			return
		}
		req.Header.Set("X-API-Key", "globex")
		if resp, err := (&http.Client{Transport: &http.Transport{DisableKeepAlives: true}}).Do(req); err == nil {
			resp.Body.Close()
			t.Error("the broker did not answer, and the tail is open")
		}
	}()
	h.Eventually("another reader to wait", func() bool { return quotas.Inside("globex", quota.Tails) == 1 })
	leave()
	<-left
	h.Eventually("it to be gone", func() bool { return quotas.Inside("globex", quota.Tails) == 0 })
	go ask()
	close(broker.answer)
	for range 2 {
		if status := <-opened; status != http.StatusOK {
			t.Errorf("got %d", status)
		}
	}
}
