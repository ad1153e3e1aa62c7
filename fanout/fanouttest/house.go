package fanouttest

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net"
	"slices"
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
	"github.com/fanfarehq/fanfare/deliver/ledger"
	"github.com/fanfarehq/fanfare/fanout"
	"github.com/fanfarehq/fanfare/internal/egress"
	"github.com/fanfarehq/fanfare/internal/event"
	"github.com/fanfarehq/fanfare/internal/servertest"
	"github.com/fanfarehq/fanfare/subscriptions"
)

// House is fan-out with a real broker and a real database around it, and a tray in the place of deliver.
type House struct {
	*servertest.House
	Line      *Line
	Store     *subscriptions.Store
	Directory *subscriptions.Directory
	Ledger    *fanout.Ledger
	Tray      *Tray
	Queue     *Queue
	Config    fanout.Config
	Now       func() time.Time // nil means time.Now
	Broker    func() string    // see fanout.Deps
	// Metrics are those of the first fan-out that runs; nil for nobody's.
	Metrics *prometheus.Registry
}

// New makes a House on a NATS of its own.
func New(t testing.TB) *House {
	t.Helper()
	return NewOn(t, servertest.Connect(t, servertest.NATS(t)))
}

// NewOn makes a House on a connection to NATS.
func NewOn(t testing.TB, nc *nats.Conn) *House {
	t.Helper()
	h := &House{House: servertest.HouseOn(t, nc, servertest.PostgresURL(t)), Tray: NewTray(), Line: &Line{}, Config: fanout.DefaultConfig()}
	h.Apply()
	h.DB = h.Line.Open(t, h.URL)
	h.Store = subscriptions.New(h.DB, h.Ring, egress.Policy{})
	h.Directory = subscriptions.NewDirectory(h.DB, h.Ring, h.Log)
	h.Ledger = fanout.NewLedger(h.DB)
	h.Queue = &Queue{to: ledger.NewTurns(ledger.TurnsDeps{DB: h.DB, Floor: fanout.Floor(h.JS)})}
	return h
}

// Apply makes the stream of events and its consumer.
func (h *House) Apply() {
	h.T.Helper()
	h.House.Apply(fanout.Inbox(24*time.Hour, 1<<30))
}

// Run starts a fan-out, which ends with the test or when stop is called.
func (h *House) Run() (stop func()) {
	h.T.Helper()
	metrics := h.Metrics
	if h.Metrics = nil; metrics == nil {
		metrics = prometheus.NewRegistry()
	}
	stage, err := fanout.New(h.Config, fanout.Deps{
		JetStream: h.JS, Directory: h.Directory, Rules: fanout.NewRules(h.Config, h.Directory, Marks), Outbox: h.Tray, Order: h.Queue, Ledger: h.Ledger,
		Logger: h.Log, Metrics: metrics, Now: h.Now, Broker: h.Broker,
	})
	if err != nil {
		h.T.Fatal(err)
	}
	running := h.House.Run(stage.Run)
	return func() { _ = running.Stop() } // The House looks at the error.
}

// Subscribe creates a subscription to event types.
func (h *House) Subscribe(tenant string, types ...string) *subscriptions.Subscription {
	h.T.Helper()
	s := &subscriptions.Subscription{Tenant: tenant, Name: "test", URL: "https://example.com/", EventTypes: types, Scopes: []string{subscriptions.AllScopes}}
	if err := h.Store.Create(h.T.Context(), s); err != nil {
		h.T.Fatal(err)
	}
	return s
}

// Publish publishes a message as any NATS client would.
func (h *House) Publish(subject, data string, headers ...string) uint64 {
	h.T.Helper()
	msg := &nats.Msg{Subject: subject, Data: []byte(data), Header: nats.Header{}}
	for i := 0; i < len(headers); i += 2 {
		msg.Header.Add(headers[i], headers[i+1])
	}
	ack, err := h.JS.PublishMsg(h.T.Context(), msg)
	if err != nil {
		h.T.Fatal(err)
	}
	return ack.Sequence
}

// Settled waits until every event that was published is acknowledged.
func (h *House) Settled() {
	h.T.Helper()
	h.Eventually("all events are acknowledged", func() bool {
		stream, err := h.JS.Stream(h.T.Context(), fanout.Stream)
		if err != nil {
			return false
		}
		info := h.Consumer()
		last := stream.CachedInfo().State.LastSeq
		return info != nil && info.NumPending == 0 && info.NumAckPending == 0 && info.Delivered.Stream == last && info.AckFloor.Stream == last
	})
}

// Reading waits until a fan-out asks for events: events published from then on are not suspect.
func (h *House) Reading() {
	h.T.Helper()
	h.Eventually("fan-out asks for events", func() bool {
		info := h.Consumer()
		return info != nil && info.NumWaiting > 0
	})
}

// Consumer returns the state of fan-out's consumer; nil while NATS does not answer.
func (h *House) Consumer() *natsjs.ConsumerInfo {
	consumer, err := h.JS.Consumer(h.T.Context(), fanout.Stream, fanout.Durable)
	if err != nil {
		return nil
	}
	info, err := consumer.Info(h.T.Context())
	if err != nil {
		return nil
	}
	return info
}

// Rows returns the id and matched of the ledger's rows.
func (h *House) Rows() map[string]int {
	h.T.Helper()
	rows, err := h.DB.QueryContext(h.T.Context(), "SELECT id, matched FROM events")
	if err != nil {
		h.T.Fatal(err)
	}
	defer rows.Close()
	all := map[string]int{}
	for rows.Next() {
		var id string
		var matched int
		if err := rows.Scan(&id, &matched); err != nil {
			h.T.Fatal(err)
		}
		if _, twice := all[id]; twice {
			h.T.Errorf("the ledger has event %s twice", id)
		}
		all[id] = matched
	}
	return all
}

// Quarantined returns the reasons in quarantine, by place in the stream.
func (h *House) Quarantined() map[uint64]event.Reason {
	h.T.Helper()
	rows, err := h.DB.QueryContext(h.T.Context(), "SELECT stream_seq, reason FROM quarantine")
	if err != nil {
		h.T.Fatal(err)
	}
	defer rows.Close()
	all := map[uint64]event.Reason{}
	for rows.Next() {
		var seq int64
		var reason event.Reason
		if err := rows.Scan(&seq, &reason); err != nil {
			h.T.Fatal(err)
		}
		all[uint64(seq)] = reason
	}
	return all
}

// Tray takes the tasks that fan-out hands over.
type Tray struct {
	mu    sync.Mutex
	tasks []deliver.Task
	// Before, where set, is called before tasks are taken; its error is what Send fails with.
	Before atomic.Pointer[func([]deliver.Task) error]
}

// NewTray makes an empty Tray.
func NewTray() *Tray { return &Tray{} }

// Send takes tasks.
func (t *Tray) Send(_ context.Context, tasks ...deliver.Task) error {
	if before := t.Before.Load(); before != nil {
		if err := (*before)(tasks); err != nil {
			return err
		}
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.tasks = append(t.tasks, tasks...)
	return nil
}

// All returns the tasks so far.
func (t *Tray) All() []deliver.Task {
	t.mu.Lock()
	defer t.mu.Unlock()
	return append([]deliver.Task(nil), t.tasks...)
}

// Targets returns how often each subscription is to get each event.
func (t *Tray) Targets() map[string]map[uuid.UUID]int {
	counts := map[string]map[uuid.UUID]int{}
	for _, task := range t.All() {
		if counts[task.Event.ID] == nil {
			counts[task.Event.ID] = map[uuid.UUID]int{}
		}
		for _, target := range task.Targets {
			counts[task.Event.ID][target.Subscription]++
		}
	}
	return counts
}

// Queue counts what fan-out queues in the order of a key.
type Queue struct {
	to    *ledger.Turns
	Calls atomic.Int64
}

// Queue counts the call and passes it on.
func (q *Queue) Queue(ctx context.Context, e *event.Event, turns []ledger.Turn) error {
	q.Calls.Add(1)
	return q.to.Queue(ctx, e, turns)
}

// Line is the way to Postgres, which can be cut.
type Line struct {
	mu    sync.Mutex
	cut   bool
	conns map[net.Conn]bool
}

// ErrCut is the error of connecting over a cut line.
var ErrCut = &net.OpError{Op: "dial", Net: "unix", Err: errors.New("the line is cut")}

// Open opens a pool whose connections go over the line.
func (l *Line) Open(t testing.TB, url string) *sql.DB {
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

// Dial is DialContext without a context, for pq.
func (l *Line) Dial(network, address string) (net.Conn, error) {
	return l.DialContext(context.Background(), network, address)
}

// DialTimeout is DialContext with a time limit, for pq.
func (l *Line) DialTimeout(network, address string, timeout time.Duration) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	defer cancel()
	return l.DialContext(ctx, network, address)
}

// DialContext connects unless the line is cut.
func (l *Line) DialContext(ctx context.Context, network, address string) (net.Conn, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.cut {
		return nil, ErrCut
	}
	conn, err := (&net.Dialer{}).DialContext(ctx, network, address)
	if err == nil {
		l.conns[conn] = true
	}
	return conn, err
}

// Sever cuts all connections and lets no new one be made; mend ends that.
func (l *Line) Sever() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.cut = true
	for conn := range l.conns {
		conn.Close()
	}
	clear(l.conns)
}

// Mend lets connections be made again.
func (l *Line) Mend() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.cut = false
}

// Do sets what happens before tasks are taken.
func (t *Tray) Do(before func([]deliver.Task) error) {
	if before == nil {
		t.Before.Store(nil)
		return
	}
	t.Before.Store(&before)
}

// Declare declares an event type.
func (h *House) Declare(tenant, name, schema string, archived bool) {
	h.T.Helper()
	var text any
	if schema != "" {
		text = schema
	}
	_, err := h.DB.ExecContext(h.T.Context(), `WITH r AS (UPDATE revision SET value = value + 1 RETURNING value)
		INSERT INTO event_types (tenant, name, schema, archived, revision) SELECT $1, $2, $3::jsonb, $4, value FROM r`,
		tenant, name, text, archived)
	if err != nil {
		h.T.Fatal(err)
	}
}

// Status changes a subscription's status.
func (h *House) Status(s *subscriptions.Subscription, status subscriptions.Status) {
	h.T.Helper()
	current, err := h.Store.Get(h.T.Context(), "", s.ID)
	if err == nil {
		current.Status, current.DisabledReason = status, ""
		err = h.Store.Update(h.T.Context(), current)
	}
	if err != nil {
		h.T.Fatal(err)
	}
}

// Marks are those of the tests.
var Marks = event.NewMarks([]byte("marks"))

// Ordered creates a subscription that asks for an order by event.data.order.
func (h *House) Ordered(tenant string, types ...string) *subscriptions.Subscription {
	h.T.Helper()
	s := &subscriptions.Subscription{
		Tenant: tenant, Name: "test", URL: "https://example.com/", EventTypes: types, Scopes: []string{subscriptions.AllScopes},
		Ordering: &subscriptions.Ordering{Key: "event.data.order"},
	}
	if err := h.Store.Create(h.T.Context(), s); err != nil {
		h.T.Fatal(err)
	}
	return s
}

// Waiting returns the events that wait for their turn with a subscription, in the order of their places, by key.
func (h *House) Waiting(s *subscriptions.Subscription) map[uuid.UUID][]string {
	h.T.Helper()
	rows, err := h.DB.QueryContext(h.T.Context(), `SELECT order_key, event_id FROM deferrals
WHERE subscription_id = $1 AND waits AND held AND reason = 'key_blocked' ORDER BY seq, generation`, s.ID)
	if err != nil {
		h.T.Fatal(err)
	}
	defer rows.Close()
	keys := map[uuid.UUID][]string{}
	for rows.Next() {
		var key uuid.UUID
		var event string
		if err := rows.Scan(&key, &event); err != nil {
			h.T.Fatal(err)
		}
		keys[key] = append(keys[key], event)
	}
	return keys
}

// Lists are the events of each key, in no order of the keys.
func Lists(keys map[uuid.UUID][]string) (all []string) {
	for _, events := range keys {
		all = append(all, fmt.Sprint(events))
	}
	slices.Sort(all)
	return all
}
