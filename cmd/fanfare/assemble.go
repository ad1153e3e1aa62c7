package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"

	"github.com/fanfarehq/fanfare/deliver"
	"github.com/fanfarehq/fanfare/deliver/ledger"
	"github.com/fanfarehq/fanfare/deliver/webhook"
	"github.com/fanfarehq/fanfare/fanout"
	"github.com/fanfarehq/fanfare/fanout/audit"
	"github.com/fanfarehq/fanfare/ingest"
	"github.com/fanfarehq/fanfare/internal/access"
	"github.com/fanfarehq/fanfare/internal/api"
	"github.com/fanfarehq/fanfare/internal/dialects"
	"github.com/fanfarehq/fanfare/internal/egress"
	"github.com/fanfarehq/fanfare/internal/embedded"
	"github.com/fanfarehq/fanfare/internal/event"
	"github.com/fanfarehq/fanfare/internal/jetstream"
	"github.com/fanfarehq/fanfare/internal/keyring"
	"github.com/fanfarehq/fanfare/internal/postgres"
	"github.com/fanfarehq/fanfare/internal/quota"
	"github.com/fanfarehq/fanfare/internal/seal"
	"github.com/fanfarehq/fanfare/internal/survive"
	"github.com/fanfarehq/fanfare/internal/suspect"
	"github.com/fanfarehq/fanfare/internal/telemetry"
	"github.com/fanfarehq/fanfare/internal/tenantkeys"
	"github.com/fanfarehq/fanfare/subscriptions"
)

// ground is what the stages are made on.
type ground struct {
	*backing
	log     *slog.Logger
	metrics *prometheus.Registry
	tracer  *telemetry.Tracer
}

// assembly is what a process of a role is made of.
type assembly struct {
	log        *slog.Logger
	runs       []part
	mux        *http.ServeMux // the API, if the role serves it
	vendors    []*dialects.Vendor
	publishers []*jetstream.Publisher
	ring       *seal.Ring
	ground     ground
	document   *huma.OpenAPI // of the API, if the role serves it
}

// part is something that runs until its context ends.
type part struct {
	name string
	run  func(context.Context) error
}

func (a *assembly) add(name string, run func(context.Context) error) {
	a.runs = append(a.runs, part{name, run})
}

// loop adds work that begins again after a panic.
func (a *assembly) loop(name string, run func(context.Context) error) {
	a.add(name, func(ctx context.Context) error { return survive.Loop(ctx, a.log, name, run) })
}

// close waits for messages that are being published.
func (a *assembly) close() error {
	var errs []error
	for _, p := range a.publishers {
		errs = append(errs, p.Close())
	}
	return errors.Join(errs...)
}

// routes are the patterns of the API's routes.
func (a *assembly) routes() (all []string) {
	for path, item := range a.document.Paths {
		for method, operation := range map[string]*huma.Operation{
			http.MethodGet: item.Get, http.MethodPost: item.Post, http.MethodPut: item.Put, http.MethodPatch: item.Patch, http.MethodDelete: item.Delete,
		} {
			if operation != nil {
				all = append(all, method+" "+path)
			}
		}
	}
	return all
}

// trouble is why a publisher of the process could not send lately.
func (a *assembly) trouble(context.Context) error {
	var errs []error
	for _, p := range a.publishers {
		errs = append(errs, p.Trouble())
	}
	return errors.Join(errs...)
}

// publisher makes one that is closed with the assembly.
func (a *assembly) publisher(g ground, cfg jetstream.PublisherConfig) (*jetstream.Publisher, error) {
	p, err := jetstream.NewPublisher(g.js, cfg)
	if err == nil {
		a.publishers = append(a.publishers, p)
	}
	return p, err
}

// shared holds the parts that all roles use: access, subscriptions, and the reader of events.
type shared struct {
	ground
	s         *settings
	ring      *seal.Ring
	client    *http.Client
	store     *subscriptions.Store
	directory *subscriptions.Directory
	rules     *fanout.Rules
	ledger    *fanout.Ledger // of events
	reader    *fanout.Reader
	events    *deliver.Events
	turns     *ledger.Turns
	quotas    *quota.Quotas
	keys      *tenantkeys.Keys
	own       deploymentKeys
	suspects  suspects
}

// suspects tell the messages apart that kill the process, stage by stage.
type suspects struct{ events, tasks, outcomes *suspect.Guard }

func newSuspects(g ground) suspects {
	guards := suspect.New(g.db, g.log, "fanout", "deliver", "recorder")
	return suspects{guards[0], guards[1], guards[2]}
}

// assemble makes the parts of a role; nothing runs yet when it returns. This file is the one place that knows them all.
func assemble(ctx context.Context, s *settings, r role, g ground) (*assembly, error) {
	g.metrics.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	if err := postgres.Measure(g.db, g.metrics); err != nil {
		return nil, err
	}
	sh, err := share(ctx, s, g)
	if err != nil {
		return nil, err
	}
	a := &assembly{log: g.log, ring: sh.ring, ground: g}
	a.loop("quotas", sh.quotas.Run)
	a.loop("tenant keys", sh.keys.Run)
	if r.is(roleAPI, roleIngest) {
		err = a.serveHTTP(ctx, sh, r)
	}
	if err == nil && r.is(roleFanout) {
		err = a.match(sh)
	}
	if err == nil && r.is(roleDeliver) {
		err = a.send(sh)
	}
	return a, err
}

// share makes what all roles use, and refuses to go on if stored secrets cannot be read.
func share(ctx context.Context, s *settings, g ground) (*shared, error) {
	policy, err := s.egress.Policy()
	if err != nil {
		return nil, err
	}
	ring, err := seal.ParseRing(s.server.SecretKeys)
	if err != nil {
		return nil, fmt.Errorf("FANFARE_SECRET_KEYS: %w", err)
	}
	sh := &shared{
		ring: ring, ground: g, s: s, client: egress.NewClient(policy, s.egress),
		store: subscriptions.New(g.db, ring, policy), directory: subscriptions.NewDirectory(g.db, ring, g.log),
		ledger: fanout.NewLedger(g.db), reader: fanout.NewReader(g.js),
		suspects: newSuspects(g),
	}
	sh.turns = ledger.NewTurns(ledger.TurnsDeps{DB: g.db, Floor: fanout.Floor(g.js)})
	if sh.own, err = readDeploymentKeys(ctx, s, keyring.New(g.db, ring)); err != nil {
		return nil, err
	}
	sh.rules = fanout.NewRules(s.fanout, sh.directory, sh.own.marks)
	if sh.quotas, err = quota.New(s.limits, quota.Deps{DB: g.db, Logger: g.log}); err != nil {
		return nil, err
	}
	if err := sh.quotas.Refresh(ctx); err != nil {
		return nil, err
	}
	sh.store.Limit(sh.quotas)
	if err := sh.store.CheckKeys(ctx); err != nil {
		return nil, err
	}
	if sh.keys, err = tenantkeys.New(g.db, ring, g.log); err != nil {
		return nil, err
	}
	if err := sh.keys.Check(ctx); err != nil {
		return nil, fmt.Errorf("FANFARE_SECRET_KEYS: %w", err)
	}
	sh.ledger.SealWith(sh.keys)
	// The first event should not wait for it.
	if _, err := sh.directory.Fresh(ctx); err != nil {
		return nil, err
	}
	sh.events, err = deliver.NewEvents(deliver.EventsConfig{Read: readEvents(sh.reader), Keys: sh.keys}, g.db)
	return sh, err
}

// outbox makes the way into deliver's inbox.
func (sh *shared) outbox(publisher *jetstream.Publisher) *deliver.Outbox {
	outbox := deliver.NewOutbox(sh.js, publisher)
	outbox.SealWith(sh.keys)
	return outbox
}

// embeddedBulkRate is how many bytes a second of large bodies go to the embedded broker. It keeps the bytes of the last ten
// seconds in memory, and an event is written once more, at least, for its deliveries.
const embeddedBulkRate = 16 << 20

// serveHTTP makes the API, or the part of it that publishes.
func (a *assembly) serveHTTP(ctx context.Context, sh *shared, r role) error {
	cfg := jetstream.PublisherConfig{Dedupe: true}
	if sh.disk != nil {
		cfg.Room = sh.disk.Admit
	}
	publisher, err := a.publisher(sh.ground, cfg)
	if err != nil {
		return err
	}
	rate := int64(0)
	if sh.nats != nil {
		rate = embeddedBulkRate
	}
	in, err := ingest.New(sh.s.ingest, ingest.Deps{
		DB: sh.db, Publisher: publisher, Directory: sh.directory, Rules: sh.rules, Ledger: sh.ledger, Reader: sh.reader,
		Quotas: sh.quotas, BulkRate: rate, Tracer: sh.tracer, Logger: sh.log, Metrics: sh.metrics,
	})
	if err != nil {
		return err
	}
	keys, err := access.New(sh.s.access, access.Deps{DB: sh.db, Peppers: sh.own.peppers, Quotas: sh.quotas, Logger: sh.log})
	if err != nil {
		return err
	}
	if err := keys.Check(ctx); err != nil {
		return fmt.Errorf("FANFARE_SECRET_KEYS: %w", err)
	}
	a.loop("ingest", in.Run)
	a.loop("access", keys.Run)
	if err := a.publishLocally(sh); err != nil {
		return err
	}

	a.mux = http.NewServeMux()
	routes := api.New(a.mux, apiConfig(sh.own, sh.log), keys)
	a.document = routes.OpenAPI()
	by := served{r, keys, in}
	if r.is(roleAPI) {
		if err := a.vendorAPIs(ctx, sh, by); err != nil {
			return err
		}
	}
	a.mount(sh, by, routes)
	return nil
}

// publishLocally makes the way in of NATS clients of this machine, where the embedded server lets them.
func (a *assembly) publishLocally(sh *shared) error {
	if sh.local == nil {
		return nil
	}
	reserve := fanout.Reserve(sh.js)
	cfg := jetstream.PublisherConfig{Room: func(ctx context.Context) error {
		if sh.disk != nil {
			if err := sh.disk.Admit(ctx); err != nil {
				return err
			}
		}
		return reserve()
	}}
	publisher, err := a.publisher(sh.ground, cfg)
	if err != nil {
		return err
	}
	a.add("local publishers", ingest.NewLocal(ingest.LocalDeps{
		Conn: sh.local, Prefix: embedded.LocalPrefix, Publisher: publisher, Behind: fanout.Behind(sh.js), Metrics: sh.metrics,
	}).Run)
	return nil
}

// match makes fan-out, which hands over to deliver's inbox.
func (a *assembly) match(sh *shared) error {
	publisher, err := a.publisher(sh.ground, jetstream.PublisherConfig{})
	if err != nil {
		return err
	}
	outbox := sh.outbox(publisher)
	reconciler := audit.NewReconciler(sh.auditor(outbox), sh.metrics)
	recovery := audit.NewRecovery(reconciler)
	stage, err := fanout.New(sh.s.fanout, fanout.Deps{
		JetStream: sh.js, Directory: sh.directory, Rules: sh.rules, Outbox: outbox, Order: sh.turns, Ledger: sh.ledger,
		Logger: sh.log, Metrics: sh.metrics, Tracer: sh.tracer, Suspects: sh.suspects.events, Broker: recovery.Broker,
	})
	if err != nil {
		return err
	}
	a.add("fanout", stage.Run)
	a.loop("reconcile", reconciler.Run)
	a.loop("recover", recovery.Run)
	a.upkeep(sh, recovery)
	return nil
}

// send makes the worker, the recorder that writes the ledger, and what keeps the streams short.
func (a *assembly) send(sh *shared) error {
	cfg := sh.s.deliver
	cfg.EventsMaxAge = sh.s.fanout.EventsMaxAge
	publisher, err := a.publisher(sh.ground, jetstream.PublisherConfig{})
	if err != nil {
		return err
	}
	telling, err := a.publisher(sh.ground, jetstream.PublisherConfig{Dedupe: true})
	if err != nil {
		return err
	}
	poster, err := webhook.NewPoster(sh.client, sh.s.posterConfig(), time.Now)
	if err != nil {
		return err
	}
	metrics, err := deliver.NewMetrics(sh.metrics)
	if err != nil {
		return err
	}
	worker, err := deliver.NewWorker(cfg, deliver.Deps{
		JS: sh.js, DB: sh.db, Publisher: publisher, Directory: sh.directory, Disabler: sh.store, Poster: poster,
		Events: sh.events, Turns: sh.turns, Keys: sh.keys, Quotas: sh.quotas, Tracer: sh.tracer, Metrics: metrics, Logger: sh.log, Workers: sh.workers,
		Name: sh.heartbeat.ID(), Killed: sh.heartbeat.Killed,
		Announcer: announcer{to: telling, directory: sh.directory, marks: sh.rules.Marks()}, Suspects: sh.suspects.tasks,
	})
	if err != nil {
		return err
	}
	recorder, err := ledger.NewRecorder(ledger.RecorderDeps{
		JS: sh.js, DB: sh.db, Turns: sh.turns, Keys: sh.keys, Metrics: metrics.Ledger, Logger: sh.log, Suspects: sh.suspects.outcomes,
	})
	if err != nil {
		return err
	}
	a.add("deliver", func(ctx context.Context) error {
		defer poster.Close()
		select {
		case <-sh.workers.Counted(): // Until then it has no share of any max_in_flight.
			return worker.Run(ctx)
		case <-ctx.Done():
			return nil
		}
	})
	a.add("recorder", recorder.Run)
	a.loop("counts", ledger.NewCounter(sh.db, sh.log).Run)
	a.loop("trim", deliver.NewTrimmer(cfg, sh.js, metrics, sh.log).Run)
	return nil
}

// tags are the groups of operations.
var tags = map[string]string{
	"Events":        "What happened: publishing it, reading it back, and why it went where it went.",
	"Event types":   "What events look like: schemas, samples and the scopes that they demand.",
	"Subscriptions": "Who wants which events, where and how they are sent.",
	"Deliveries":    "One event on its way to one subscription, with its attempts.",
	"Replays":       "Events of the past, sent again.",
	"Jobs":          "Many deliveries retried or cancelled by a filter.",
	"Keys":          "API keys and their scopes.",
	"Tenants":       "The customers' accounts, which own all of the above.",
	"Changes":       "Who changed what: the history of subscriptions, event types, keys and tenants.",
	"Operations":    "What those who run Fanfare look at.",
}

// apiConfig is what the API says of itself.
func apiConfig(own deploymentKeys, log *slog.Logger) api.Config {
	return api.Config{
		Title: "Fanfare", Version: "1", Logger: log, CursorKey: own.cursors,
		Description: "Publish events, and manage who receives them as webhooks.", Tags: tags,
		Unavailable: func(err error) bool {
			return postgres.IsUnavailable(err) || errors.Is(err, jetstream.ErrUnavailable) || errors.Is(err, jetstream.ErrFull)
		},
	}
}

// readEvents reads events for deliver, which does not know fan-out's errors.
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
