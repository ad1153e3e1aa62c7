package fanout_test

import (
	"context"
	"database/sql"
	"errors"
	"log/slog"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/lib/pq"
	"github.com/nats-io/nats.go"
	natsjs "github.com/nats-io/nats.go/jetstream"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/fanfarehq/fanfare/deliver"
	"github.com/fanfarehq/fanfare/fanout"
	"github.com/fanfarehq/fanfare/internal/egress"
	"github.com/fanfarehq/fanfare/internal/event"
	"github.com/fanfarehq/fanfare/internal/jetstream"
	"github.com/fanfarehq/fanfare/internal/seal"
	"github.com/fanfarehq/fanfare/internal/servertest"
	"github.com/fanfarehq/fanfare/subscriptions"
)

// house is fan-out with a real broker and a real database around it, and a tray in the place of deliver.
type house struct {
	t      testing.TB
	nc     *nats.Conn
	js     natsjs.JetStream
	db     *sql.DB
	line   *line
	store  *subscriptions.Store
	dir    *subscriptions.Directory
	ledger *fanout.Ledger
	tray   *tray
	queue  *queue
	cfg    fanout.Config
	now    func() time.Time // nil means time.Now
}

func newHouse(t testing.TB) *house {
	t.Helper()
	return newHouseOn(t, servertest.Connect(t, servertest.NATS(t)))
}

func newHouseOn(t testing.TB, nc *nats.Conn) *house {
	t.Helper()
	h := &house{t: t, nc: nc, tray: newTray(), line: &line{}, cfg: fanout.DefaultConfig()}
	js, err := natsjs.New(h.nc)
	if err != nil {
		t.Fatal(err)
	}
	h.js = js
	h.apply()
	h.db = h.line.open(t, servertest.PostgresURL(t))
	ring, err := seal.ParseRing(seal.NewKey())
	if err != nil {
		t.Fatal(err)
	}
	h.store = subscriptions.New(h.db, ring, egress.Policy{})
	h.dir = subscriptions.NewDirectory(h.db, ring, slog.New(slog.DiscardHandler))
	h.ledger = fanout.NewLedger(h.db)
	h.queue = &queue{to: deliver.NewTurns(deliver.TurnsDeps{DB: h.db, Floor: fanout.Floor(h.js)})}
	return h
}

func (h *house) apply() {
	h.t.Helper()
	if err := jetstream.Apply(h.t.Context(), h.js, fanout.Inbox(24*time.Hour, 1<<30)); err != nil {
		h.t.Fatal(err)
	}
}

// run starts a fan-out, which ends with the test or when stop is called.
func (h *house) run() (stop func()) {
	h.t.Helper()
	stage, err := fanout.New(h.cfg, fanout.Deps{
		JetStream: h.js, Directory: h.dir, Rules: fanout.NewRules(h.cfg, h.dir, marks), Outbox: h.tray, Order: h.queue, Ledger: h.ledger,
		Logger: slog.New(slog.DiscardHandler), Metrics: prometheus.NewRegistry(), Now: h.now,
	})
	if err != nil {
		h.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- stage.Run(ctx) }()
	stop = sync.OnceFunc(func() {
		cancel()
		if err := <-ended; err != nil {
			h.t.Errorf("fan-out ended with %v", err)
		}
	})
	h.t.Cleanup(stop)
	return stop
}

// subscribe creates a subscription to event types.
func (h *house) subscribe(tenant string, types ...string) *subscriptions.Subscription {
	h.t.Helper()
	s := &subscriptions.Subscription{Tenant: tenant, Name: "test", URL: "https://example.com/", EventTypes: types, Scopes: []string{subscriptions.AllScopes}}
	if err := h.store.Create(h.t.Context(), s); err != nil {
		h.t.Fatal(err)
	}
	return s
}

// publish publishes a message as any NATS client would.
func (h *house) publish(subject, data string, headers ...string) uint64 {
	h.t.Helper()
	msg := &nats.Msg{Subject: subject, Data: []byte(data), Header: nats.Header{}}
	for i := 0; i < len(headers); i += 2 {
		msg.Header.Add(headers[i], headers[i+1])
	}
	ack, err := h.js.PublishMsg(h.t.Context(), msg)
	if err != nil {
		h.t.Fatal(err)
	}
	return ack.Sequence
}

// settled waits until every event that was published is acknowledged.
func (h *house) settled() {
	h.t.Helper()
	h.eventually("all events are acknowledged", func() bool {
		stream, err := h.js.Stream(h.t.Context(), fanout.Stream)
		if err != nil {
			return false
		}
		info := h.consumer()
		last := stream.CachedInfo().State.LastSeq
		return info != nil && info.NumPending == 0 && info.NumAckPending == 0 && info.Delivered.Stream == last && info.AckFloor.Stream == last
	})
}

// reading waits until a fan-out asks for events: what is published from then on is not suspect.
func (h *house) reading() {
	h.t.Helper()
	h.eventually("fan-out asks for events", func() bool {
		info := h.consumer()
		return info != nil && info.NumWaiting > 0
	})
}

func (h *house) consumer() *natsjs.ConsumerInfo {
	consumer, err := h.js.Consumer(h.t.Context(), fanout.Stream, fanout.Durable)
	if err != nil {
		return nil
	}
	info, err := consumer.Info(h.t.Context())
	if err != nil {
		return nil
	}
	return info
}

func (h *house) eventually(what string, is func() bool) {
	h.t.Helper()
	deadline, tick := time.After(30*time.Second), time.NewTicker(5*time.Millisecond)
	defer tick.Stop()
	for !is() {
		select {
		case <-deadline:
			h.t.Fatalf("it never came about that %s", what)
		case <-tick.C:
		}
	}
}

// rows returns the id and matched of the ledger's rows.
func (h *house) rows() map[string]int {
	h.t.Helper()
	rows, err := h.db.QueryContext(h.t.Context(), "SELECT id, matched FROM events")
	if err != nil {
		h.t.Fatal(err)
	}
	defer rows.Close()
	all := map[string]int{}
	for rows.Next() {
		var id string
		var matched int
		if err := rows.Scan(&id, &matched); err != nil {
			h.t.Fatal(err)
		}
		if _, twice := all[id]; twice {
			h.t.Errorf("the ledger has event %s twice", id)
		}
		all[id] = matched
	}
	return all
}

// quarantined returns the reasons in quarantine, by place in the stream.
func (h *house) quarantined() map[uint64]event.Reason {
	h.t.Helper()
	rows, err := h.db.QueryContext(h.t.Context(), "SELECT stream_seq, reason FROM quarantine")
	if err != nil {
		h.t.Fatal(err)
	}
	defer rows.Close()
	all := map[uint64]event.Reason{}
	for rows.Next() {
		var seq int64
		var reason event.Reason
		if err := rows.Scan(&seq, &reason); err != nil {
			h.t.Fatal(err)
		}
		all[uint64(seq)] = reason
	}
	return all
}

// tray takes the tasks that fan-out hands over.
type tray struct {
	mu    sync.Mutex
	tasks []deliver.Task
	// before, where set, is called before tasks are taken; its error is what Send fails with.
	before atomic.Pointer[func([]deliver.Task) error]
}

func newTray() *tray { return &tray{} }

func (t *tray) Send(_ context.Context, tasks ...deliver.Task) error {
	if before := t.before.Load(); before != nil {
		if err := (*before)(tasks); err != nil {
			return err
		}
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.tasks = append(t.tasks, tasks...)
	return nil
}

// all returns the tasks so far.
func (t *tray) all() []deliver.Task {
	t.mu.Lock()
	defer t.mu.Unlock()
	return append([]deliver.Task(nil), t.tasks...)
}

// targets returns how often each subscription is to get each event.
func (t *tray) targets() map[string]map[uuid.UUID]int {
	counts := map[string]map[uuid.UUID]int{}
	for _, task := range t.all() {
		if counts[task.Event.ID] == nil {
			counts[task.Event.ID] = map[uuid.UUID]int{}
		}
		for _, target := range task.Targets {
			counts[task.Event.ID][target.Subscription]++
		}
	}
	return counts
}

// queue counts what fan-out queues in the order of a key.
type queue struct {
	to    *deliver.Turns
	calls atomic.Int64
}

func (q *queue) Queue(ctx context.Context, e *deliver.Event, turns []deliver.Turn) error {
	q.calls.Add(1)
	return q.to.Queue(ctx, e, turns)
}

// line is the way to Postgres, which can be cut.
type line struct {
	mu    sync.Mutex
	cut   bool
	conns map[net.Conn]bool
}

var errCut = &net.OpError{Op: "dial", Net: "unix", Err: errors.New("the line is cut")}

func (l *line) open(t testing.TB, url string) *sql.DB {
	t.Helper()
	cfg, err := pq.NewConfig(url)
	if err != nil {
		t.Fatal(err)
	}
	cfg.BinaryParameters = true // as postgres.Open does
	connector, err := pq.NewConnectorConfig(cfg)
	if err != nil {
		t.Fatal(err)
	}
	l.conns = map[net.Conn]bool{}
	connector.Dialer(l)
	db := sql.OpenDB(connector)
	db.SetMaxOpenConns(10)
	t.Cleanup(func() {
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	})
	return db
}

func (l *line) Dial(network, address string) (net.Conn, error) {
	return l.DialContext(context.Background(), network, address)
}

func (l *line) DialTimeout(network, address string, timeout time.Duration) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	defer cancel()
	return l.DialContext(ctx, network, address)
}

func (l *line) DialContext(ctx context.Context, network, address string) (net.Conn, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.cut {
		return nil, errCut
	}
	conn, err := (&net.Dialer{}).DialContext(ctx, network, address)
	if err == nil {
		l.conns[conn] = true
	}
	return conn, err
}

// sever cuts all connections and lets no new one be made; mend ends that.
func (l *line) sever() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.cut = true
	for conn := range l.conns {
		conn.Close()
	}
	clear(l.conns)
}

func (l *line) mend() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.cut = false
}

// do sets what happens before tasks are taken.
func (t *tray) do(before func([]deliver.Task) error) {
	if before == nil {
		t.before.Store(nil)
		return
	}
	t.before.Store(&before)
}

// declare declares an event type.
func (h *house) declare(tenant, name, schema string, archived bool) {
	h.t.Helper()
	var text any
	if schema != "" {
		text = schema
	}
	_, err := h.db.ExecContext(h.t.Context(), `WITH r AS (UPDATE revision SET value = value + 1 RETURNING value)
		INSERT INTO event_types (tenant, name, schema, archived, revision) SELECT $1, $2, $3::jsonb, $4, value FROM r`,
		tenant, name, text, archived)
	if err != nil {
		h.t.Fatal(err)
	}
}

// status changes a subscription's status.
func (h *house) status(s *subscriptions.Subscription, status subscriptions.Status) {
	h.t.Helper()
	_, err := h.db.ExecContext(h.t.Context(), `WITH r AS (UPDATE revision SET value = value + 1 RETURNING value)
		UPDATE subscriptions SET status = $2, revision = r.value FROM r WHERE id = $1`, s.ID, status)
	if err != nil {
		h.t.Fatal(err)
	}
}

// marks are those of the tests.
var marks = event.NewMarks([]byte("marks"))
