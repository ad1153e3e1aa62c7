package vendors_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"database/sql"
	"encoding/base64"
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

	natsjs "github.com/nats-io/nats.go/jetstream"
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
	"github.com/fanfarehq/fanfare/internal/seal"
	"github.com/fanfarehq/fanfare/internal/servertest"
	"github.com/fanfarehq/fanfare/subscriptions"
)

const adminKey = "admin-key-of-the-environment"

// house is a whole deployment in one process, with the four vendors' APIs in front of the native one, and a receiver
// that answers by the first word of its path: /500 with that status, anything else with 200.
type house struct {
	t        testing.TB
	cfg      vendors.Config
	access   access.Config
	strict   bool
	log      bytes.Buffer // of the dialects
	logging  sync.Mutex
	js       natsjs.JetStream
	db       *sql.DB
	ring     string
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
	h := &house{t: t, cfg: vendors.DefaultConfig(), access: access.DefaultConfig()}
	h.access.AdminKey = adminKey
	for _, change := range changes {
		change(h)
	}
	if h.db == nil {
		h.db = servertest.Postgres(t)
	}
	key := make([]byte, 32)
	_, _ = rand.Read(key) // it never fails
	h.ring = "k1:" + base64.StdEncoding.EncodeToString(key)
	h.js = must(natsjs.New(servertest.Connect(t, servertest.NATS(t))))(t)
	inboxes := []jetstream.Inbox{fanout.Inbox(24*time.Hour, 256<<20), deliver.Inbox(64 << 20), deliver.BacklogInbox(64 << 20), ledger.Inbox(64 << 20)}
	if err := jetstream.Apply(t.Context(), h.js, inboxes...); err != nil {
		t.Fatal(err)
	}
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
	t, discard := h.t, slog.New(slog.DiscardHandler)
	t.Helper()
	policy := must(egress.ParsePolicy("127.0.0.0/8"))(t)
	client := egress.NewClient(policy, egress.DefaultConfig())
	t.Cleanup(client.CloseIdleConnections)
	ring := must(seal.ParseRing(h.ring))(t)
	h.store = subscriptions.New(h.db, ring, policy)
	h.dir = subscriptions.NewDirectory(h.db, ring, discard)
	events := fanout.DefaultConfig()
	if h.strict {
		events.EventTypes = fanout.Strict
	}
	rules, fanned, reader := fanout.NewRules(events, h.dir, event.NewMarks([]byte("marks"))), fanout.NewLedger(h.db), fanout.NewReader(h.js)
	bytesOf := must(deliver.NewEvents(deliver.EventsConfig{Read: readEvents(reader)}, h.db))(t)
	metrics := must(deliver.NewMetrics(prometheus.NewRegistry()))(t)

	timeout := ingest.DefaultConfig()
	timeout.Timeout = 30 * time.Second
	in := must(ingest.New(timeout, ingest.Deps{
		DB: h.db, Publisher: h.publisher(true), Directory: h.dir, Rules: rules, Ledger: fanned, Reader: reader,
		Logger: discard, Metrics: prometheus.NewRegistry(),
	}))(t)
	stage := must(fanout.New(events, fanout.Deps{
		JetStream: h.js, Directory: h.dir, Rules: rules, Outbox: deliver.NewOutbox(h.js, h.publisher(false)), Ledger: fanned,
		Logger: discard, Metrics: prometheus.NewRegistry(),
	}))(t)
	poster := webhook.DefaultPosterConfig()
	poster.Formats = append(poster.Formats, vendors.Formats(h.cfg)...)
	// A delivery has its row when its attempt is over, however slow the machine is.
	worker := must(deliver.NewWorker(deliver.Config{HandOff: 20 * time.Second}, deliver.Deps{
		JS: h.js, DB: h.db, Publisher: h.publisher(false), Directory: h.dir, Disabler: h.store,
		Poster: must(webhook.NewPoster(client, poster, time.Now))(t), Events: bytesOf, Metrics: metrics, Logger: discard,
	}))(t)
	recorder := must(ledger.NewRecorder(ledger.RecorderDeps{JS: h.js, DB: h.db, Metrics: metrics.Ledger, Logger: discard}))(t)
	h.run(stage.Run, worker.Run, recorder.Run)

	keys := must(access.New(h.access, access.Deps{DB: h.db, Peppers: must(access.ParsePeppers(h.ring))(t), Client: client}))(t)
	served := h.cfg.Names(true)
	if err := vendors.Declare(t.Context(), served, h.store); err != nil {
		t.Fatal(err)
	}
	h.vendors = vendors.New(h.cfg, served, vendors.Deps{
		Deps:       dialects.Deps{Auth: keys.Grants(), Store: h.store, Log: slog.New(slog.NewTextHandler(h, nil))},
		Deliveries: history.NewLog(h.db, bytesOf), Ingest: in, Reader: reader, Ledger: fanned, Strict: h.strict,
	})
	mux := http.NewServeMux()
	native := api.New(mux, api.Config{Title: "Fanfare", Version: "1", CursorKey: []byte("k"), Unavailable: postgres.IsUnavailable}, keys)
	in.Routes(native)
	keys.Routes(native)
	subscriptions.Routes(native, h.store, nil)
	history.Routes(native, history.RoutesDeps{DB: h.db, Events: bytesOf})
	h.serve(api.NewServer(mux, nil))
}

// serve puts the vendors before the server's own handler, which bears no slashes.
func (h *house) serve(server *http.Server) {
	server.Handler = api.ReadOn(dialects.Mux(server.Handler, h.vendors...)) // as the process does
	listening := httptest.NewUnstartedServer(nil)
	listening.Config = server
	listening.Start()
	h.url = listening.URL
	h.t.Cleanup(func() {
		listening.Close()
		http.DefaultClient.CloseIdleConnections()
	})
}

func (h *house) publisher(dedupe bool) *jetstream.Publisher {
	h.t.Helper()
	p := must(jetstream.NewPublisher(h.js, jetstream.PublisherConfig{Dedupe: dedupe}))(h.t)
	h.t.Cleanup(func() { _ = p.Close() })
	return p
}

// run runs parts until the test ends.
func (h *house) run(parts ...func(context.Context) error) {
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	for _, part := range parts {
		running.Go(func() {
			if err := part(ctx); err != nil && ctx.Err() == nil {
				h.t.Errorf("a stage ended: %v", err)
			}
		})
	}
	h.t.Cleanup(func() {
		cancel()
		running.Wait()
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
	h.t.Helper()
	a := h.call(adminKey, "POST /v1/keys", `{"name":"n","tenant":"`+tenant+`","scopes":`+scopes+`}`)
	var made struct{ ID, Key string }
	a.decode(h.t, http.StatusCreated, &made)
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
	h.t.Helper()
	method, path, _ := strings.Cut(what, " ")
	req := must(http.NewRequestWithContext(h.t.Context(), method, h.url+path, strings.NewReader(body)))(h.t)
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
	h.t.Helper()
	res := must(client.Do(req))(h.t)
	defer res.Body.Close()
	return answer{res.StatusCode, res.Header, string(must(io.ReadAll(res.Body))(h.t))}
}

// eventually waits for what gives no signal.
func (h *house) eventually(what string, is func() bool) {
	h.t.Helper()
	deadline, tick := time.After(2*time.Minute), time.NewTicker(10*time.Millisecond)
	defer tick.Stop()
	for !is() {
		select {
		case <-deadline:
			h.t.Fatalf("it never came about that %s", what)
		case <-tick.C:
		}
	}
}
