package ingest_test

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/danielgtaylor/huma/v2"
	natsjs "github.com/nats-io/nats.go/jetstream"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/fanfarehq/fanfare/fanout"
	"github.com/fanfarehq/fanfare/ingest"
	"github.com/fanfarehq/fanfare/internal/api"
	"github.com/fanfarehq/fanfare/internal/egress"
	"github.com/fanfarehq/fanfare/internal/embedded"
	"github.com/fanfarehq/fanfare/internal/event"
	"github.com/fanfarehq/fanfare/internal/jetstream"
	"github.com/fanfarehq/fanfare/internal/quota"
	"github.com/fanfarehq/fanfare/internal/servertest"
	"github.com/fanfarehq/fanfare/subscriptions"
)

// keys says who holds which key.
type keys map[string]api.Caller

func (k keys) Authenticate(_ context.Context, credential string) (api.Caller, error) {
	if c, ok := k[credential]; ok {
		return c, nil
	}
	return api.Caller{}, api.ErrUnauthenticated
}

var callers = keys{
	"admin":  {Admin: true},
	"acme":   {Tenant: "acme", Scopes: []string{"events:write", "subscriptions:write"}},
	"globex": {Tenant: "globex", Scopes: []string{"events:write", "subscriptions:write"}},
	"reader": {Tenant: "acme", Scopes: []string{"events:read"}},
}

// house is ingest with a real broker and a real database behind it, served by a real server.
type house struct {
	*servertest.House
	nats   *embedded.NATS
	store  *subscriptions.Store
	dir    *subscriptions.Directory
	ledger *fanout.Ledger
	ingest *ingest.Ingest
	api    huma.API
	url    string

	metrics  *prometheus.Registry // of the ingest that was built last
	cfg      ingest.Config
	quotas   *quota.Quotas
	events   fanout.Config
	bulkRate int64
	// maxBytes of the stream.
	maxBytes int64
}

// newHouse makes a house; the changes are made to its configuration before it is built.
func newHouse(t testing.TB, changes ...func(*house)) *house {
	t.Helper()
	h := &house{nats: servertest.NATS(t), cfg: ingest.DefaultConfig(), events: fanout.DefaultConfig(), maxBytes: 1 << 30}
	h.cfg.Timeout = 30 * time.Second // Machines that run tests are slow; those who test the limit set it.
	h.House = servertest.HouseOn(t, servertest.Connect(t, h.nats), servertest.PostgresURL(t))
	for _, change := range changes {
		change(h)
	}
	h.apply()
	h.store = subscriptions.New(h.DB, h.Ring, egress.Policy{})
	h.dir = subscriptions.NewDirectory(h.DB, h.Ring, h.Log)
	h.ledger = fanout.NewLedger(h.DB)
	h.build()
	return h
}

// build makes an ingest and serves it.
func (h *house) build() {
	h.T.Helper()
	h.metrics = prometheus.NewRegistry()
	var err error
	h.ingest, err = ingest.New(h.cfg, ingest.Deps{
		DB: h.DB, Publisher: h.Publisher(jetstream.PublisherConfig{Dedupe: true}), Directory: h.dir, Rules: fanout.NewRules(h.events, h.dir, marks), Ledger: h.ledger,
		Reader: fanout.NewReader(h.JS), Quotas: h.quotas, BulkRate: h.bulkRate, Logger: h.Log, Metrics: h.metrics,
	})
	if err != nil {
		h.T.Fatal(err)
	}
	h.serve()
}

// twin is another ingest with the same broker and database.
func (h *house) twin() *house {
	h.T.Helper()
	other := *h
	other.build()
	return &other
}

// brief is a twin that gives up after a second. What must succeed is asked of the house itself: machines that run tests are slow.
func (h *house) brief() *house {
	h.T.Helper()
	other := *h
	other.cfg.Timeout = time.Second
	other.build()
	return &other
}

// apply makes the stream.
func (h *house) apply() {
	h.T.Helper()
	h.Apply(fanout.Inbox(24*time.Hour, h.maxBytes))
}

// run runs what ingest does besides answering, until stop is called.
func (h *house) run() (stop func()) {
	running := h.Run(h.ingest.Run)
	return func() { _ = running.Stop() } // The House looks at the error.
}

func (h *house) serve() {
	mux := http.NewServeMux()
	h.api = api.New(mux, api.Config{Title: "Fanfare", Version: "1"}, callers)
	h.ingest.Routes(h.api)
	server := httptest.NewUnstartedServer(mux)
	server.Config = api.NewServer(mux, nil)
	server.Start()
	h.url = server.URL
	h.T.Cleanup(func() {
		server.Close()
		http.DefaultClient.CloseIdleConnections()
	})
}

// answer is what the server said.
type answer struct {
	status int
	header http.Header
	body   string
}

// post publishes; headers are pairs, beside the key.
func (h *house) post(key, path, body string, headers ...string) answer {
	h.T.Helper()
	return h.send(key, path, strings.NewReader(body), headers...)
}

func (h *house) send(key, path string, body io.Reader, headers ...string) answer {
	h.T.Helper()
	return h.sendBy(http.DefaultClient, key, path, body, headers...)
}

func (h *house) sendBy(client *http.Client, key, path string, body io.Reader, headers ...string) answer {
	h.T.Helper()
	req, err := http.NewRequestWithContext(h.T.Context(), http.MethodPost, h.url+path, body)
	if err != nil {
		h.T.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+key)
	req.Header.Set("Content-Type", "application/json")
	for i := 0; i < len(headers); i += 2 {
		req.Header.Set(headers[i], headers[i+1])
	}
	res, err := client.Do(req)
	if err != nil {
		h.T.Fatal(err)
	}
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	if err != nil {
		h.T.Fatal(err)
	}
	return answer{res.StatusCode, res.Header, strings.TrimSpace(string(text))}
}

// problem is the answer as a problem; anything else fails the test.
func (a answer) problem(t testing.TB) api.Problem {
	t.Helper()
	if got := a.header.Get("Content-Type"); got != "application/problem+json" {
		t.Errorf("the error is %s: %s", got, a.body)
	}
	return problemIn(t, []byte(a.body))
}

func problemIn(t testing.TB, text []byte) api.Problem {
	t.Helper()
	var p api.Problem
	if err := json.Unmarshal(text, &p); err != nil {
		t.Fatalf("%s: %v", text, err)
	}
	if p.Status == 0 || p.Title == "" || p.Detail == "" || p.Type == "" {
		t.Errorf("the problem lacks something: %s", text)
	}
	return p
}

// at says whether a problem names a location.
func at(p api.Problem, location string) bool {
	for _, e := range p.Errors {
		if e.Location == location {
			return true
		}
	}
	return false
}

type result struct {
	ID        string
	Duplicate bool
	Error     json.RawMessage
}

// results is the answer to an array.
func (a answer) results(t testing.TB) (accepted int, events []result) {
	t.Helper()
	var body struct {
		Accepted int
		Events   []result
	}
	dec := json.NewDecoder(bytes.NewReader([]byte(a.body)))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&body); err != nil {
		t.Fatalf("%s: %v", a.body, err)
	}
	return body.Accepted, body.Events
}

// result is the answer to one event.
func (a answer) result(t testing.TB) result {
	t.Helper()
	var r result
	if err := json.Unmarshal([]byte(a.body), &r); err != nil {
		t.Fatalf("%s: %v", a.body, err)
	}
	return r
}

// stored returns the messages of the stream.
func (h *house) stored() []*natsjs.RawStreamMsg {
	h.T.Helper()
	stream, err := h.JS.Stream(h.T.Context(), fanout.Stream)
	if err != nil {
		h.T.Fatal(err)
	}
	var all []*natsjs.RawStreamMsg
	for seq := uint64(1); seq <= stream.CachedInfo().State.LastSeq; seq++ {
		m, err := stream.GetMsg(h.T.Context(), seq)
		if err != nil {
			h.T.Fatal(err)
		}
		all = append(all, m)
	}
	return all
}

// keyCount is how many ids are held.
func (h *house) keyCount() int {
	h.T.Helper()
	return h.Count("SELECT count(*) FROM event_keys")
}

// subscribe creates a subscription.
func (h *house) subscribe(tenant string, types ...string) *subscriptions.Subscription {
	h.T.Helper()
	s := &subscriptions.Subscription{Tenant: tenant, Name: "test", URL: "https://example.com/", EventTypes: types, Scopes: []string{subscriptions.AllScopes}}
	if err := h.store.Create(h.T.Context(), s); err != nil {
		h.T.Fatal(err)
	}
	return s
}

// marks are those of the tests.
var marks = event.NewMarks([]byte("marks"))
