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
	"github.com/fanfarehq/fanfare/deliver/throttle"
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

// sparing is a configuration whose breakers open.
func sparing() deliver.Config {
	cfg := quick()
	cfg.BreakerAfter = 10
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

// recorder starts a recorder that ends with the test. A test may change what it is made of.
func (r *rig) recorder(change ...func(*ledger.RecorderDeps)) *running {
	r.T.Helper()
	registry := prometheus.NewRegistry()
	deps := ledger.RecorderDeps{JS: r.JS, DB: r.DB, Metrics: must(ledger.NewMetrics(registry))(r.T), Logger: r.Log}
	for _, change := range change {
		change(&deps)
	}
	return &running{Running: r.Run(must(ledger.NewRecorder(deps))(r.T).Run), t: r.T, registry: registry}
}

// trimmer starts a trimmer that ends with the test.
func (r *rig) trimmer(cfg deliver.Config) *running {
	r.T.Helper()
	p := r.parts(cfg)
	return &running{Running: r.Run(deliver.NewTrimmer(cfg, r.JS, p.deps.Metrics, r.Log).Run), t: r.T, registry: p.registry}
}

// messages is how many messages a stream has.
func (r *rig) messages(stream string) uint64 {
	r.T.Helper()
	return must(r.JS.Stream(r.T.Context(), stream))(r.T).CachedInfo().State.Msgs
}

// gate is one as a worker has it.
func (r *rig) gate() *throttle.Gate {
	r.T.Helper()
	return throttle.New(throttle.Config{InFlight: 1}, throttle.Deps{
		DB: r.DB, Metrics: must(throttle.NewMetrics(prometheus.NewRegistry()))(r.T), Logger: r.Log, Now: time.Now, Go: func(f func()) { go f() },
	})
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

// dump shows the ledger for a failing test.
func (r *rig) dump() string {
	list, err := history.NewReader(r.DB, nil).Whole(context.Background(), history.Filter{Limit: 20})
	if err != nil {
		return err.Error()
	}
	return fmt.Sprintf("the last %d deliveries: %.3000s", len(list), fmt.Sprintf("%+v", list))
}
