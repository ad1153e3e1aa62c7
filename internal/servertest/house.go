package servertest

import (
	"context"
	"database/sql"
	"log/slog"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	natsjs "github.com/nats-io/nats.go/jetstream"

	"github.com/fanfarehq/fanfare/internal/jetstream"
	"github.com/fanfarehq/fanfare/internal/seal"
)

// House is what the tests of a stage stand on: streams, a database with the schema, a key ring and a log, which a test run with
// -v shows.
type House struct {
	T    testing.TB
	NC   *nats.Conn
	JS   natsjs.JetStream
	URL  string // of the database
	DB   *sql.DB
	Keys string // of Ring, as a setting has them
	Ring *seal.Ring
	Log  *slog.Logger
}

// NewHouse makes a House on servers of the test's own, with the streams of the inboxes.
func NewHouse(t testing.TB, inboxes ...jetstream.Inbox) *House {
	t.Helper()
	return HouseOn(t, Connect(t, NATS(t)), PostgresURL(t), inboxes...)
}

// HouseOn makes a House on servers that are there.
func HouseOn(t testing.TB, nc *nats.Conn, url string, inboxes ...jetstream.Inbox) *House {
	t.Helper()
	h := &House{T: t, NC: nc, URL: url, Keys: seal.NewKey(), Log: slog.New(slog.DiscardHandler)}
	if testing.Verbose() {
		h.Log = slog.New(slog.NewTextHandler(t.Output(), nil))
	}
	var err error
	if h.JS, err = natsjs.New(nc); err != nil {
		t.Fatal(err)
	}
	if h.Ring, err = seal.ParseRing(h.Keys); err != nil {
		t.Fatal(err)
	}
	h.Apply(inboxes...)
	h.DB = h.Open()
	return h
}

// Open opens another pool to the database.
func (h *House) Open() *sql.DB {
	h.T.Helper()
	return open(h.T, h.URL)
}

// Apply makes the streams of inboxes, or changes them.
func (h *House) Apply(inboxes ...jetstream.Inbox) {
	h.T.Helper()
	if err := jetstream.Apply(h.T.Context(), h.JS, inboxes...); err != nil {
		h.T.Fatal(err)
	}
}

// Publisher makes a publisher, which is closed when the test ends.
func (h *House) Publisher(cfg jetstream.PublisherConfig) *jetstream.Publisher {
	h.T.Helper()
	p, err := jetstream.NewPublisher(h.JS, cfg)
	if err != nil {
		h.T.Fatal(err)
	}
	h.T.Cleanup(func() { _ = p.Close() })
	return p
}

// Running is a part of Fanfare that runs.
type Running struct {
	Cancel context.CancelFunc
	Done   chan struct{}
	Err    error // once it is done
	Killed bool  // it may end with an error
}

// Stop ends it in order and returns its error.
func (r *Running) Stop() error {
	r.Cancel()
	<-r.Done
	return r.Err
}

// Run runs a part until the test ends. The test fails by its error, unless it was killed.
func (h *House) Run(part func(context.Context) error) *Running {
	ctx, cancel := context.WithCancel(context.Background())
	r := &Running{Cancel: cancel, Done: make(chan struct{})}
	go func() {
		defer close(r.Done)
		r.Err = part(ctx)
	}()
	h.T.Cleanup(func() {
		if err := r.Stop(); err != nil && !r.Killed {
			h.T.Errorf("run: %v", err)
		}
	})
	return r
}

// Count asks the database for a number.
func (h *House) Count(query string, args ...any) (n int) {
	h.T.Helper()
	if err := h.DB.QueryRow(query, args...).Scan(&n); err != nil {
		h.T.Fatal(err)
	}
	return n
}

// Eventually waits for a condition of the servers, which give no signal that a test could wait for. It takes its time: the
// machine may be busy.
func (h *House) Eventually(what string, ok func() bool) {
	h.T.Helper()
	deadline, tick := time.After(2*time.Minute), time.NewTicker(10*time.Millisecond)
	defer tick.Stop()
	for !ok() {
		select {
		case <-tick.C:
		case <-deadline:
			h.T.Fatalf("not in time: %s", what)
		}
	}
}
