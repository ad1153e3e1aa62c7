package main

import (
	"context"
	"log/slog"
	"net/http"
	"strings"
	"sync"
	"testing"

	"github.com/fanfarehq/fanfare/internal/client"
	"github.com/fanfarehq/fanfare/internal/dialects/vendors"
	"github.com/fanfarehq/fanfare/internal/egress"
	"github.com/fanfarehq/fanfare/internal/postgres"
	"github.com/fanfarehq/fanfare/internal/seal"
	"github.com/fanfarehq/fanfare/internal/servertest"
	"github.com/fanfarehq/fanfare/subscriptions"
)

// where clients of each vendor list what they have.
var vendorLists = map[string]string{
	"leat": "/api/v3/oauth/clients/webhook-subscriptions", "kajabi": "/v1/hooks",
	"passona": "/api/2.0/webhooks", "babelfor": "/v1/webhooks/subscriptions",
}

// TestDialects is what the clients of four vendors see of one Fanfare, all with the same tenant.
func TestDialects(t *testing.T) {
	t.Parallel()
	d := launch(t, 0)
	for name, test := range map[string]func(*testing.T, *deployment){
		"Leat": testLeat, "Kajabi": testKajabi, "Passona": testPassona, "Babelfor": testBabelfor, "NativePaths": testNativePaths,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			test(t, d)
		})
	}
}

// The native API is what it is without dialects: no path of it is a vendor's, and what neither has is a problem of its own.
func testNativePaths(t *testing.T, d *deployment) {
	for _, v := range vendors.New(vendors.DefaultConfig(), vendors.Config{}.Names(true), vendors.Deps{}) {
		for _, prefix := range v.Prefixes {
			for _, o := range d.doc.Operations {
				if strings.HasPrefix(o.Path+"/", prefix+"/") || strings.HasPrefix(prefix+"/", o.Path+"/") {
					t.Errorf("%s is %s's as well", o, v.Name)
				}
			}
			if strings.Contains(string(d.doc.Raw), `"`+prefix) {
				t.Errorf("the document has %s of %s", prefix, v.Name)
			}
		}
	}
	key := d.key(t, "acme")
	for _, route := range []string{"GET /v1/nothing", "GET /", "GET /api", "GET /v1/hooksmith", "GET /v1//subscriptions", "POST /v1/subscriptions/"} {
		d.call(t, key, route, nil, http.StatusNotFound)
	}
	d.call(t, key, "PUT /v1/subscriptions", nil, http.StatusMethodNotAllowed)
}

// Which APIs a process serves: all of them in `all`, none in another role, and what FANFARE_DIALECTS says in both. The
// payloads are known to every process that sends, whatever it serves.
func TestDialectsOfRoles(t *testing.T) {
	t.Parallel()
	s := testSettings(t.TempDir())
	s.server.PostgresURL = servertest.PostgresURL(t)
	s.dialects.Dialects = []string{"off"}
	at := runInProcess(t, s, roleAll)
	serve := func(names ...string) *deployment {
		more := *s
		more.nats.URL, more.dialects.Dialects = at.NATS, names
		api := runInProcess(t, &more, roleAPI)
		c := client.New(api.API, testAdminKey)
		t.Cleanup(c.Close)
		return &deployment{at: api, admin: c, client: c.HTTP}
	}
	off := &deployment{at: at, client: client.New(at.API, testAdminKey).HTTP}
	t.Cleanup(off.client.CloseIdleConnections)
	none, two := serve(), serve("babelfor", "kajabi")
	key := off.key(t, "acme")
	for name, path := range vendorLists {
		off.call(t, key, "GET "+path, nil, http.StatusNotFound)
		none.call(t, key, "GET "+path, nil, http.StatusNotFound)
		want := http.StatusNotFound
		if name == "babelfor" || name == "kajabi" {
			want = http.StatusOK
		}
		if got := two.raw(t, key, http.MethodGet, two.at.API+path, request{}); got.status != want {
			t.Errorf("%s: got %d %s, want %d", name, got.status, got.body, want)
		}
	}

	receiver := servertest.NewReceiver(t)
	made := two.raw(t, key, http.MethodPost, two.at.API+vendorLists["babelfor"], request{body: map[string]any{"subscription": map[string]any{
		"name": "a", "eventType": "LicenseCreated", "url": receiver.URL, "secret": "s3cret",
	}}})
	if made.status != http.StatusOK {
		t.Fatalf("got %d %s", made.status, made.body)
	}
	off.call(t, key, "POST /v1/events", map[string]any{"type": "LicenseCreated", "data": map[string]any{"license": "L-17"}}, http.StatusAccepted)
	came := receiver.Wait(1)[0]
	if string(came.Body) != `{"license":"L-17"}` || came.Header.Get("X-Webhook-Signature") != "sha256="+hexHMAC("s3cret", came.Body) {
		t.Errorf("got %v %s", came.Header, came.Body)
	}
}

// Processes that start at once all declare the event types, and none fails; one that finds Postgres away waits for it.
func TestDeclare(t *testing.T) {
	t.Parallel()
	pg := servertest.NewRestartablePostgres(t)
	db, err := postgres.Open(t.Context(), pg.URL(), 10)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = db.Close() })
	ring, err := seal.ParseRing(testSettings("").server.SecretKeys)
	if err != nil {
		t.Fatal(err)
	}
	policy, err := egress.ParsePolicy("")
	if err != nil {
		t.Fatal(err)
	}
	store := subscriptions.New(db, ring, policy)
	everybody := vendors.Config{}.Names(true)

	pg.Stop()
	waits := &heard{first: make(chan struct{})}
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			if err := declare(t.Context(), everybody, store, slog.New(waits)); err != nil {
				t.Errorf("got %v", err)
			}
		})
	}
	<-waits.first
	pg.Start()
	all.Wait()
	types, err := store.ListEventTypes(t.Context(), subscriptions.EventTypeQuery{})
	if err != nil || len(types) != 6 {
		t.Errorf("got %d event types, %v", len(types), err)
	}
}

// heard is a log that tells when its first line was written.
type heard struct {
	slog.Handler
	once  sync.Once
	first chan struct{}
}

// Enabled takes every line.
func (*heard) Enabled(context.Context, slog.Level) bool { return true }

// Handle tells of the first line.
func (h *heard) Handle(context.Context, slog.Record) error {
	h.once.Do(func() { close(h.first) })
	return nil
}
