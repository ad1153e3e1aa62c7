package vendors_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/fanfarehq/fanfare/deliver"
	"github.com/fanfarehq/fanfare/deliver/history"
	"github.com/fanfarehq/fanfare/deliver/ledger"
	"github.com/fanfarehq/fanfare/deliver/webhook"
	"github.com/fanfarehq/fanfare/fanout"
	"github.com/fanfarehq/fanfare/ingest"
	"github.com/fanfarehq/fanfare/internal/access"
	"github.com/fanfarehq/fanfare/internal/api"
	"github.com/fanfarehq/fanfare/internal/dialects"
	"github.com/fanfarehq/fanfare/internal/dialects/vendors"
	"github.com/fanfarehq/fanfare/internal/egress"
	"github.com/fanfarehq/fanfare/internal/event"
	"github.com/fanfarehq/fanfare/internal/jetstream"
	"github.com/fanfarehq/fanfare/internal/postgres"
	"github.com/fanfarehq/fanfare/internal/servertest"
	"github.com/fanfarehq/fanfare/subscriptions"
)

const adminKey = "admin-key-of-the-environment"

// house is a whole deployment in one process, with the four vendors' APIs in front of the native one, and a receiver
// that answers by the first word of its path: /500 with that status, anything else with 200.
type house struct {
	*servertest.House
	database string // its URL; empty for one of the test's own
	cfg      vendors.Config
	access   access.Config
	strict   bool
	log      bytes.Buffer // of the dialects
	logging  sync.Mutex
	store    *subscriptions.Store
	dir      *subscriptions.Directory
	vendors  []*dialects.Vendor
	url      string
	receiver *servertest.Receiver
}

func must[T any](v T, err error) func(testing.TB) T {
	return func(t testing.TB) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

// newHouse makes a house; the changes are made before it is built.
func newHouse(t testing.TB, changes ...func(*house)) *house {
	t.Helper()
	h := &house{cfg: vendors.DefaultConfig(), access: access.DefaultConfig()}
	h.access.AdminKey = adminKey
	for _, change := range changes {
		change(h)
	}
	if h.database == "" {
		h.database = servertest.PostgresURL(t)
	}
	h.House = servertest.HouseOn(t, servertest.Connect(t, servertest.NATS(t)), h.database,
		fanout.Inbox(24*time.Hour, 256<<20), deliver.Inbox(64<<20), deliver.BacklogInbox(64<<20), ledger.Inbox(64<<20))
	h.receiver = servertest.NewReceiver(t, servertest.By(func(q servertest.Request) servertest.Answer {
		if strings.HasPrefix(q.Path, "/500") {
			return servertest.Reply(http.StatusInternalServerError, nil, "oops")
		}
		return servertest.Reply(http.StatusOK, nil, "thanks")
	}))
	h.build()
	return h
}

// Write takes what the dialects log.
func (h *house) Write(line []byte) (int, error) {
	h.logging.Lock()
	defer h.logging.Unlock()
	return h.log.Write(line)
}

// logged is what the dialects have logged.
func (h *house) logged() string {
	h.logging.Lock()
	defer h.logging.Unlock()
	return h.log.String()
}

// build makes the stages and serves them, as the binary does.
func (h *house) build() {
	t := h.T
	t.Helper()
	policy := must(egress.ParsePolicy("127.0.0.0/8"))(t)
	client := egress.NewClient(policy, egress.DefaultConfig())
	t.Cleanup(client.CloseIdleConnections)
	h.store = subscriptions.New(h.DB, h.Ring, policy)
	h.dir = subscriptions.NewDirectory(h.DB, h.Ring, h.Log)
	events := fanout.DefaultConfig()
	if h.strict {
		events.EventTypes = fanout.Strict
	}
	rules, fanned, reader := fanout.NewRules(events, h.dir, event.NewMarks([]byte("marks"))), fanout.NewLedger(h.DB), fanout.NewReader(h.JS)
	bytesOf := must(deliver.NewEvents(deliver.EventsConfig{Read: readEvents(reader)}, h.DB))(t)
	metrics := must(deliver.NewMetrics(prometheus.NewRegistry()))(t)

	timeout := ingest.DefaultConfig()
	timeout.Timeout = 30 * time.Second
	in := must(ingest.New(timeout, ingest.Deps{
		DB: h.DB, Publisher: h.Publisher(jetstream.PublisherConfig{Dedupe: true}), Directory: h.dir, Rules: rules, Ledger: fanned, Reader: reader,
		Logger: h.Log, Metrics: prometheus.NewRegistry(),
	}))(t)
	stage := must(fanout.New(events, fanout.Deps{
		JetStream: h.JS, Directory: h.dir, Rules: rules, Outbox: deliver.NewOutbox(h.JS, h.Publisher(jetstream.PublisherConfig{})), Ledger: fanned,
		Logger: h.Log, Metrics: prometheus.NewRegistry(),
	}))(t)
	poster := webhook.DefaultPosterConfig()
	poster.Formats = append(poster.Formats, vendors.Formats(h.cfg)...)
	// A delivery has its row when its attempt is over, however slow the machine is.
	worker := must(deliver.NewWorker(deliver.Config{HandOff: 20 * time.Second}, deliver.Deps{
		JS: h.JS, DB: h.DB, Publisher: h.Publisher(jetstream.PublisherConfig{}), Directory: h.dir, Disabler: h.store,
		Poster: must(webhook.NewPoster(client, poster, time.Now))(t), Events: bytesOf, Metrics: metrics, Logger: h.Log,
	}))(t)
	recorder := must(ledger.NewRecorder(ledger.RecorderDeps{JS: h.JS, DB: h.DB, Metrics: metrics.Ledger, Logger: h.Log}))(t)
	for _, part := range []func(context.Context) error{stage.Run, worker.Run, recorder.Run} {
		h.Run(part)
	}

	keys := must(access.New(h.access, access.Deps{DB: h.DB, Peppers: must(access.ParsePeppers(h.Keys))(t), Client: client}))(t)
	served := h.cfg.Names(true)
	if err := vendors.Declare(t.Context(), served, h.store); err != nil {
		t.Fatal(err)
	}
	h.vendors = vendors.New(h.cfg, served, vendors.Deps{
		Deps:       dialects.Deps{Auth: keys.Grants(), Store: h.store, Log: slog.New(slog.NewTextHandler(h, nil))},
		Deliveries: history.NewLog(h.DB, bytesOf), Ingest: in, Reader: reader, Ledger: fanned, Strict: h.strict,
	})
	mux := http.NewServeMux()
	native := api.New(mux, api.Config{Title: "Fanfare", Version: "1", CursorKey: []byte("k"), Unavailable: postgres.IsUnavailable}, keys)
	in.Routes(native)
	keys.Routes(native)
	subscriptions.Routes(native, h.store, nil)
	history.Routes(native, history.RoutesDeps{DB: h.DB, Events: bytesOf})
	h.serve(api.NewServer(mux, nil))
}

// serve puts the vendors before the server's own handler, which bears no slashes.
func (h *house) serve(server *http.Server) {
	server.Handler = api.ReadOn(dialects.Mux(server.Handler, h.vendors...)) // as the process does
	listening := httptest.NewUnstartedServer(nil)
	listening.Config = server
	listening.Start()
	h.url = listening.URL
	h.T.Cleanup(func() {
		listening.Close()
		http.DefaultClient.CloseIdleConnections()
	})
}

// readEvents is as in the binary.
func readEvents(from *fanout.Reader) func(context.Context, uint64) (*event.Event, error) {
	return func(ctx context.Context, seq uint64) (*event.Event, error) {
		e, err := from.Read(ctx, seq)
		if errors.Is(err, fanout.ErrGone) {
			return nil, event.ErrGone
		}
		if err != nil {
			return nil, err
		}
		return e, nil
	}
}

// allScopes are what a key for every dialect needs.
const allScopes = `["events:write","events:read","subscriptions:read","subscriptions:write","deliveries:read","deliveries:write",` +
	`"view:purchases","view:transactions","view:orders","view:form_submissions","view:contacts"]`

// key makes a key of a tenant; scopes are JSON.
func (h *house) key(tenant, scopes string) (id, key string) {
	h.T.Helper()
	a := h.call(adminKey, "POST /v1/keys", `{"name":"n","tenant":"`+tenant+`","scopes":`+scopes+`}`)
	var made struct{ ID, Key string }
	a.decode(h.T, http.StatusCreated, &made)
	return made.ID, made.Key
}

// answer is what the server said.
type answer struct {
	status int
	header http.Header
	body   string
}

// decode reads the answer, which must have the status.
func (a answer) decode(t testing.TB, status int, into any) {
	t.Helper()
	if a.status != status {
		t.Fatalf("got %d %s, want %d", a.status, a.body, status)
	}
	if into == nil {
		return
	}
	if err := json.Unmarshal([]byte(a.body), into); err != nil {
		t.Fatalf("%s: %v", a.body, err)
	}
}

// client follows no redirect: there must be none.
var client = &http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}

// call asks "METHOD /path" with a key and a JSON body; headers are pairs that go with it or replace what there is.
func (h *house) call(key, what, body string, headers ...string) answer {
	h.T.Helper()
	method, path, _ := strings.Cut(what, " ")
	req := must(http.NewRequestWithContext(h.T.Context(), method, h.url+path, strings.NewReader(body)))(h.T)
	if key != "" {
		req.Header.Set("Authorization", "Bearer "+key)
	}
	if body != "" {
		req.Header.Set("Content-Type", "application/json")
	}
	for i := 0; i < len(headers); i += 2 {
		req.Header.Set(headers[i], headers[i+1])
	}
	return h.send(req)
}

func (h *house) send(req *http.Request) answer {
	h.T.Helper()
	res := must(client.Do(req))(h.T)
	defer res.Body.Close()
	return answer{res.StatusCode, res.Header, string(must(io.ReadAll(res.Body))(h.T))}
}
