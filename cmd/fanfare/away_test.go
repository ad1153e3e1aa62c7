package main

import (
	"cmp"
	"io"
	"net"
	"net/http"
	"net/url"
	"path/filepath"
	"sync"
	"testing"

	"github.com/fanfarehq/fanfare/ingest"
	"github.com/fanfarehq/fanfare/internal/client"
	"github.com/fanfarehq/fanfare/internal/servertest"
)

// With NATS away, and then with Postgres away, each operation works or says so: 503 with Retry-After, and no other 5xx.
func TestOperationsWithoutNATSOrPostgres(t *testing.T) {
	t.Parallel()
	broker := servertest.NewRestartableNATS(t)
	database := newWire(t, servertest.PostgresURL(t))
	s := testSettings(t.TempDir())
	s.nats.URL, s.server.PostgresURL = broker.URL(), database.url
	s.ingest.Timeout = ingest.DefaultConfig().Timeout // It bounds how long a refusal takes.
	const small = 64 << 20                            // what the streams may take
	s.fanout.EventsMaxBytes, s.deliver.TasksMaxBytes, s.deliver.BacklogMaxBytes, s.deliver.AttemptsMaxBytes = small, small, small, small
	at := runInProcess(t, s, roleAll)
	c := client.New(at.API, testAdminKey)
	t.Cleanup(c.Close)
	d := &deployment{at: at, admin: c, client: c.HTTP, doc: readDocument(t, at.API)}
	tenant := unique("away-")
	calls := make([]request, len(d.doc.Operations))
	for i, o := range d.doc.Operations {
		if m := makerOf(t, o); m != nil {
			if calls[i] = m(t, d, tenant); o.has("query", "tenant") {
				calls[i] = calls[i].asking("tenant", tenant)
			}
		}
	}
	all := func(away string) (answered map[string]int) {
		answered = map[string]int{}
		statuses := make([]int, len(calls))
		var under sync.WaitGroup
		for i, o := range d.doc.Operations {
			under.Go(func() { statuses[i] = d.without(t, o, calls[i], away) })
		}
		under.Wait()
		for i, o := range d.doc.Operations {
			answered[o.ID] = statuses[i]
		}
		return answered
	}
	broker.Stop()
	answered := all("NATS")
	for id, want := range map[string]int{"get-overview": 503, "publish-events": 503, "list-subscriptions": 200, "list-processes": 200} {
		if answered[id] != want {
			t.Errorf("%s without NATS: got %d, want %d", id, answered[id], want)
		}
	}
	broker.Start()
	d.until(t, testAdminKey, "GET /v1/overview", func(r reply) bool { return r.status == http.StatusOK })
	database.cut()
	answered = all("Postgres")
	for _, id := range []string{"get-overview", "list-subscriptions", "list-failures", "list-tenants", "get-delivery-metrics", "create-key"} {
		if answered[id] != http.StatusServiceUnavailable {
			t.Errorf("%s without Postgres: got %d, want 503", id, answered[id])
		}
	}
	database.mend()
	d.until(t, testAdminKey, "GET /v1/overview", func(r reply) bool { return r.status == http.StatusOK })
}

// without calls an operation while something is away, and returns the status.
func (d *deployment) without(t *testing.T, o *operation, r request, away string) int {
	got := d.raw(t, testAdminKey, o.Method, d.target(o, r), r)
	got.checkProblem(t, o.ID)
	unavailable := got.status == http.StatusServiceUnavailable
	if got.status >= 500 && !unavailable || unavailable && got.header.Get("Retry-After") == "" {
		t.Errorf("%s without %s: %d %v %.300s", o, away, got.status, got.header, got.body)
	}
	return got.status
}

// wire carries the connections to a server until it is cut.
type wire struct {
	url string // of the server, over the wire

	server string // its socket
	mu     sync.Mutex
	isCut  bool
	open   map[net.Conn]bool
}

// newWire lays a wire to the server of a URL. It ends with the test.
func newWire(t *testing.T, to string) *wire {
	t.Helper()
	u, err := url.Parse(to)
	if err != nil {
		t.Fatal(err)
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	query := u.Query()
	w := &wire{server: filepath.Join(query.Get("host"), ".s.PGSQL."+cmp.Or(query.Get("port"), "5432")), open: map[net.Conn]bool{}}
	query.Del("host")
	query.Del("port")
	query.Set("sslmode", "disable")
	u.Host, u.RawQuery = listener.Addr().String(), query.Encode()
	w.url = u.String()
	var carried sync.WaitGroup
	carried.Go(func() {
		for {
			c, err := listener.Accept()
			if err != nil {
				return // It is closed.
			}
			carried.Go(func() { w.carry(c) })
		}
	})
	t.Cleanup(func() {
		_ = listener.Close()
		w.cut()
		carried.Wait()
	})
	return w
}

func (w *wire) carry(from net.Conn) {
	defer from.Close()
	to, err := net.Dial("unix", w.server)
	if err != nil {
		return
	}
	defer to.Close()
	if !w.keep(from, to) {
		return
	}
	var both sync.WaitGroup
	for _, pair := range [][2]net.Conn{{from, to}, {to, from}} {
		both.Go(func() {
			_, _ = io.Copy(pair[0], pair[1])
			_ = pair[0].Close() // The other direction ends as well.
			_ = pair[1].Close()
		})
	}
	both.Wait()
}

// keep notes connections; false if the wire is cut.
func (w *wire) keep(conns ...net.Conn) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, c := range conns {
		w.open[c] = true
	}
	return !w.isCut
}

// cut ends all connections, and takes no more.
func (w *wire) cut() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.isCut = true
	for c := range w.open {
		_ = c.Close()
	}
	clear(w.open)
}

// mend takes connections again.
func (w *wire) mend() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.isCut = false
}
