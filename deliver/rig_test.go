package deliver_test

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/nats-io/nats.go"
	natsjs "github.com/nats-io/nats.go/jetstream"
	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"

	"github.com/fanfarehq/fanfare/deliver"
	"github.com/fanfarehq/fanfare/deliver/history"
	"github.com/fanfarehq/fanfare/deliver/ledger"
	"github.com/fanfarehq/fanfare/deliver/outcome"
	"github.com/fanfarehq/fanfare/deliver/webhook"
	"github.com/fanfarehq/fanfare/internal/egress"
	"github.com/fanfarehq/fanfare/internal/event"
	"github.com/fanfarehq/fanfare/internal/jetstream"
	"github.com/fanfarehq/fanfare/internal/servertest"
	"github.com/fanfarehq/fanfare/subscriptions"
)

// rig is what the tests of the pipeline stand on: real servers, a store, and events that are only in memory.
type rig struct {
	*servertest.House
	store  *subscriptions.Store
	outbox *deliver.Outbox

	mu     sync.Mutex
	events map[uint64]*event.Event
}

// newRig starts servers of the test's own.
func newRig(t *testing.T) *rig {
	t.Helper()
	return rigOn(t, servertest.Connect(t, servertest.NATS(t)), servertest.PostgresURL(t))
}

// rigOn uses servers that are there. A test that fails shows the ledger.
func rigOn(t *testing.T, nc *nats.Conn, url string) *rig {
	t.Helper()
	h := servertest.HouseOn(t, nc, url, inboxes()...)
	r := &rig{House: h, events: make(map[uint64]*event.Event)}
	t.Cleanup(func() {
		if t.Failed() {
			t.Log(r.dump())
		}
	})
	r.store = subscriptions.New(r.DB, r.Ring, allowLoopback(t))
	r.outbox = deliver.NewOutbox(r.JS, r.publisher(r.JS))
	return r
}

// inboxes are the streams that a worker and a recorder stand on.
func inboxes() []jetstream.Inbox {
	return []jetstream.Inbox{deliver.Inbox(64 << 20), deliver.BacklogInbox(64 << 20), ledger.Inbox(64 << 20)}
}

// must fails the test on an error.
func must[T any](v T, err error) func(testing.TB) T {
	return func(t testing.TB) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

func allowLoopback(t testing.TB) egress.Policy {
	t.Helper()
	return must(egress.ParsePolicy("127.0.0.0/8"))(t)
}

func (r *rig) publisher(js natsjs.JetStream) *jetstream.Publisher {
	r.T.Helper()
	return must(jetstream.NewPublisher(js, jetstream.PublisherConfig{}))(r.T)
}

// quick is a configuration for tests that do not want to wait, and whose receivers may fail as often as they like.
func quick() deliver.Config {
	return deliver.Config{HandOff: time.Second, Lease: time.Minute, DrainTimeout: 10 * time.Second, BreakerAfter: -1}
}

// unhurried is quick, but hands nothing off, however slow the machine is: for tests that count rows and messages.
func unhurried() deliver.Config {
	cfg := quick()
	cfg.HandOff = 5 * time.Minute
	return cfg
}

// parts are what a worker is made of; a test may change some.
type parts struct {
	cfg      deliver.Config
	registry *prometheus.Registry
	deps     deliver.Deps
}

// running is a worker or a recorder that runs.
type running struct {
	*servertest.Running
	t        testing.TB
	name     string // of a worker's leases
	registry *prometheus.Registry
}

func (r *rig) parts(cfg deliver.Config) *parts {
	r.T.Helper()
	client := egress.NewClient(allowLoopback(r.T), egress.DefaultConfig())
	r.T.Cleanup(client.CloseIdleConnections)
	registry := prometheus.NewRegistry()
	return &parts{cfg: cfg, registry: registry, deps: deliver.Deps{
		JS: r.JS, DB: r.DB, Publisher: r.publisher(r.JS), Directory: subscriptions.NewDirectory(r.DB, r.Ring, r.Log), Disabler: r.store,
		Poster:  must(webhook.NewPoster(client, webhook.DefaultPosterConfig(), time.Now))(r.T),
		Metrics: must(deliver.NewMetrics(registry))(r.T), Logger: r.Log, Name: uuid.NewString(),
	}}
}

// worker starts a worker that ends with the test.
func (r *rig) worker(cfg deliver.Config) *running {
	r.T.Helper()
	return r.start(r.parts(cfg))
}

func (r *rig) start(p *parts) *running {
	r.T.Helper()
	p.deps.Events = must(deliver.NewEvents(deliver.EventsConfig{Read: r.read}, p.deps.DB))(r.T)
	w := must(deliver.NewWorker(p.cfg, p.deps))(r.T)
	return &running{Running: r.Run(w.Run), t: r.T, name: p.deps.Name, registry: p.registry}
}

// recorder starts a recorder that ends with the test.
func (r *rig) recorder() *running {
	r.T.Helper()
	registry := prometheus.NewRegistry()
	metrics := must(ledger.NewMetrics(registry))(r.T)
	recorder := must(ledger.NewRecorder(ledger.RecorderDeps{JS: r.JS, DB: r.DB, Metrics: metrics, Logger: r.Log}))(r.T)
	return &running{Running: r.Run(recorder.Run), t: r.T, registry: registry}
}

// read stands for the stream of events.
func (r *rig) read(_ context.Context, seq uint64) (*event.Event, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if e := r.events[seq]; e != nil {
		return e, nil
	}
	return nil, event.ErrGone
}

// forget removes an event's bytes from the stream of events.
func (r *rig) forget(e *event.Event) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.events, e.Seq)
}

// event makes an event and puts it into the stream of events.
func (r *rig) event() *event.Event {
	r.mu.Lock()
	defer r.mu.Unlock()
	seq := uint64(len(r.events) + 1)
	e := &event.Event{
		ID: fmt.Sprintf("evt_%d", seq), Tenant: "acme", Type: "order.created", Time: time.Now().UTC(),
		Data: fmt.Appendf(nil, `{"n":%d, "total":1.50}`, seq), Seq: seq, AcceptedAt: time.Now().UTC(),
	}
	e.UID = event.UID(e.Tenant, e.ID, e.AcceptedAt)
	r.events[seq] = e
	return e
}

// subscribe makes a subscription to a receiver; change may be nil.
func (r *rig) subscribe(url string, change func(*subscriptions.Subscription)) *subscriptions.Subscription {
	r.T.Helper()
	s := &subscriptions.Subscription{
		Tenant: "acme", Dialect: subscriptions.Native, Name: "test", URL: url, EventTypes: []string{"*"},
		Status: subscriptions.Active, PayloadFormat: "standard", Timeout: 10 * time.Second, Scopes: []string{subscriptions.AllScopes},
	}
	if change != nil {
		change(s)
	}
	if err := r.store.Create(r.T.Context(), s); err != nil {
		r.T.Fatal(err)
	}
	return s
}

// retries gives a subscription a schedule.
func retries(delays ...time.Duration) func(*subscriptions.Subscription) {
	return func(s *subscriptions.Subscription) { s.Retry.Schedule = delays }
}

// once gives a subscription no retries.
func once(s *subscriptions.Subscription) { s.Retry.MaxRetries = new(int) }

// status sets a subscription's status.
func (r *rig) status(s *subscriptions.Subscription, to subscriptions.Status) {
	r.T.Helper()
	fresh := must(r.store.Get(r.T.Context(), s.Tenant, s.ID))(r.T)
	fresh.Status = to
	if to == subscriptions.Disabled {
		fresh.DisabledReason = "manual"
	} else {
		fresh.DisabledReason = ""
	}
	if err := r.store.Update(r.T.Context(), fresh); err != nil {
		r.T.Fatal(err)
	}
}

// task makes the task of an event for subscriptions as they are now.
func (r *rig) task(e *event.Event, subs ...*subscriptions.Subscription) deliver.Task {
	r.T.Helper()
	t := deliver.Task{Event: *e}
	for _, s := range subs {
		t.Targets = append(t.Targets, deliver.Target{Subscription: s.ID})
	}
	if err := r.DB.QueryRow(`SELECT value FROM revision`).Scan(&t.Revision); err != nil {
		r.T.Fatal(err)
	}
	return t
}

// send hands an event over for subscriptions and returns the delivery to the first.
func (r *rig) send(e *event.Event, subs ...*subscriptions.Subscription) uuid.UUID {
	r.T.Helper()
	if err := r.outbox.Send(r.T.Context(), r.task(e, subs...)); err != nil {
		r.T.Fatal(err)
	}
	return outcome.ID(e.UID, subs[0].ID, 0, e.AcceptedAt)
}

// await waits until a delivery is as it should be, and returns it.
func (r *rig) await(id uuid.UUID, what string, ok func(ledger.Entry) bool) ledger.Entry {
	r.T.Helper()
	var e ledger.Entry
	r.Eventually(fmt.Sprintf("delivery %s to be %s", id, what), func() bool {
		var err error
		e, err = history.NewReader(r.DB, nil).Find(r.T.Context(), id, "")
		return err == nil && ok(e)
	})
	return e
}

// ended waits for the end of a delivery and demands state and reason.
func (r *rig) ended(id uuid.UUID, state outcome.Outcome, reason outcome.Reason) ledger.Entry {
	r.T.Helper()
	e := r.await(id, "over", func(e ledger.Entry) bool { return e.State != outcome.Pending })
	if e.State != string(state) || e.Reason != string(reason) {
		r.T.Fatalf("delivery %s: got %s (%s), want %s (%s)", id, e.State, e.Reason, state, reason)
	}
	return e
}

// waits waits until a delivery is pending for a reason.
func (r *rig) waits(id uuid.UUID, reason outcome.Reason) ledger.Entry {
	r.T.Helper()
	return r.await(id, "waiting: "+string(reason), func(e ledger.Entry) bool { return e.State == outcome.Pending && e.Reason == string(reason) })
}

// settled waits until all tasks are acknowledged and all outcomes recorded.
func (r *rig) settled() {
	r.T.Helper()
	for _, inbox := range inboxes() {
		r.Eventually(inbox.Stream.Name+" to be done", func() bool {
			n, err := r.undone(inbox)
			return err == nil && n == 0
		})
	}
}

// undone is how many messages of an inbox are not acknowledged.
func (r *rig) undone(inbox jetstream.Inbox) (n uint64, err error) {
	for _, of := range inbox.Consumers {
		c, err := r.JS.Consumer(context.Background(), inbox.Stream.Name, of.Durable)
		if err != nil {
			return 0, err
		}
		n += c.CachedInfo().NumPending + uint64(c.CachedInfo().NumAckPending)
	}
	return n, nil
}

// metric adds up the series of a counter or gauge of the process that have a label of each of the values.
func (s *running) metric(name string, labels ...string) float64 {
	return metric(s.t, s.registry, name, labels...)
}

func metric(t testing.TB, from prometheus.Gatherer, name string, labels ...string) (sum float64) {
	t.Helper()
	families := must(from.Gather())(t)
	i := slices.IndexFunc(families, func(f *dto.MetricFamily) bool { return f.GetName() == name })
	if i < 0 {
		t.Fatalf("there is no metric %s", name)
	}
	for _, m := range families[i].GetMetric() {
		has := make(map[string]bool)
		for _, label := range m.GetLabel() {
			has[label.GetValue()] = true
		}
		if !slices.ContainsFunc(labels, func(value string) bool { return !has[value] }) {
			sum += m.GetCounter().GetValue() + m.GetGauge().GetValue()
		}
	}
	return sum
}

// breakers returns how often breakers came to a state.
func (s *running) breakers(to string) float64 { return s.metric("fanfare_breaker_changes_total", to) }

// ever is longer ago than anything was due.
const ever = 100 * 365 * 24 * time.Hour

// delivery is what each record says of the delivery of an event to a subscription.
func delivery(e *event.Event, subscription uuid.UUID) outcome.Record {
	return outcome.Record{
		Delivery: outcome.ID(e.UID, subscription, 0, e.AcceptedAt), Tenant: e.Tenant, EventUID: e.UID, EventID: e.ID, EventType: e.Type, Seq: e.Seq,
		Subscription: subscription, CreatedAt: e.AcceptedAt, Step: 1,
	}
}

// someDelivery is one of an event and a subscription that nobody knows.
func someDelivery() outcome.Record {
	return delivery(&event.Event{UID: uuid.Must(uuid.NewV7()), ID: "e", Tenant: "acme", Type: "t", AcceptedAt: time.Now()}, uuid.New())
}

// became is the record of what became of a delivery.
func became(d outcome.Record, as outcome.Outcome, reason outcome.Reason, at time.Time) *outcome.Record {
	d.Outcome, d.Reason, d.At = as, reason, at
	return &d
}

// dump shows the ledger for a failing test.
func (r *rig) dump() string {
	list, err := history.NewReader(r.DB, nil).Whole(context.Background(), history.Filter{Limit: 20})
	if err != nil {
		return err.Error()
	}
	return fmt.Sprintf("the last %d deliveries: %.3000s", len(list), fmt.Sprintf("%+v", list))
}
