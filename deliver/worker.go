package deliver

import (
	"context"
	"database/sql"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/google/uuid"
	natsjs "github.com/nats-io/nats.go/jetstream"

	"github.com/fanfarehq/fanfare/deliver/ledger"
	"github.com/fanfarehq/fanfare/deliver/throttle"
	"github.com/fanfarehq/fanfare/deliver/webhook"
	"github.com/fanfarehq/fanfare/internal/jetstream"
	"github.com/fanfarehq/fanfare/internal/quota"
	"github.com/fanfarehq/fanfare/internal/router"
	"github.com/fanfarehq/fanfare/internal/suspect"
	"github.com/fanfarehq/fanfare/internal/telemetry"
	"github.com/fanfarehq/fanfare/internal/tenantkeys"
	"github.com/fanfarehq/fanfare/internal/trouble"
	"github.com/fanfarehq/fanfare/subscriptions"
)

// Directory is what a worker knows of subscriptions; *subscriptions.Directory is one.
type Directory interface {
	// Fresh brings it up to date with Postgres.
	Fresh(ctx context.Context) (revision int64, err error)
	// AtLeast returns once it knows all changes up to a revision; it fails if it does not and Postgres is away.
	AtLeast(ctx context.Context, revision int64) error
	// Get returns a subscription, to be read only; false where it does not exist any more.
	Get(id uuid.UUID) (*subscriptions.Subscription, bool)
	// MayReceive reports whether a subscription holds the scopes that an event type demands.
	MayReceive(s *subscriptions.Subscription, eventType string) bool
}

// Disabler disables subscriptions; *subscriptions.Store is one.
type Disabler interface {
	// Disable reports whether it disabled the subscription: not if it was changed after the revision.
	Disable(ctx context.Context, id uuid.UUID, revision int64, reason string) (bool, error)
}

// Attempter makes attempts; *Poster is one.
type Attempter interface {
	Send(ctx context.Context, a webhook.Attempt) webhook.Result
}

// Deps are what a worker works with.
type Deps struct {
	JS        natsjs.JetStream
	DB        *sql.DB
	Publisher *jetstream.Publisher // without deduplication
	Directory Directory
	Disabler  Disabler
	Poster    Attempter
	Events    *Events
	Turns     *ledger.Turns    // nil: nothing is ordered
	Keys      *tenantkeys.Keys // nil: contents are stored in the clear
	Metrics   *Metrics
	Logger    *slog.Logger
	Announcer Announcer     // nil: tenants are told nothing
	Quotas    *quota.Quotas // nil bounds no tenant
	Tracer    *telemetry.Tracer
	Suspects  *suspect.Guard // nil: tasks that kill the process are not told apart
	Name      string         // of the worker's leases, which no other worker ever has; empty: one is made
	// Killed returns the names of workers that were killed, but for those known; nil: leases end by their time alone.
	Killed  func(ctx context.Context, known []string) ([]string, error)
	Workers *throttle.Workers // divides max_in_flight; nil: this worker is the only one
	Now     func() time.Time  // nil means time.Now
}

// Worker makes deliveries: those of tasks, and those that were put off and are due.
type Worker struct {
	cfg       Config
	name      string // of its leases; no two workers ever have the same
	killed    func(ctx context.Context, known []string) ([]string, error)
	js        natsjs.JetStream
	ledger    *ledger.Ledger
	journal   *ledger.Journal
	directory Directory
	disabler  Disabler
	poster    Attempter
	events    *Events
	turns     *ledger.Turns
	metrics   *Metrics
	tracer    *telemetry.Tracer
	log       *slog.Logger
	now       func() time.Time

	gate     *throttle.Gate
	inHand   *inHand // bounds the deliveries of tasks in hand
	aloft    *aloft
	panics   *panics
	suspects *ledger.Suspects
	deadly   *suspect.Guard
	due      *due
	flights  crew
	failing  *failing
	complaints
	leasing

	announcer Announcer
	notices   chan Notice
}

// NewWorker makes a Worker; Run starts it.
func NewWorker(cfg Config, deps Deps) (*Worker, error) {
	cfg = cfg.or(DefaultConfig())
	if deps.Now == nil {
		deps.Now = time.Now
	}
	if deps.Name == "" {
		deps.Name = uuid.NewString()
	}
	w := &Worker{
		cfg: cfg, name: deps.Name, killed: deps.Killed,
		js: deps.JS, ledger: ledger.New(deps.DB).With(deps.Keys), journal: ledger.NewJournal(deps.Publisher),
		directory: deps.Directory, disabler: deps.Disabler, poster: deps.Poster, tracer: deps.Tracer, events: deps.Events, turns: deps.Turns,
		metrics: deps.Metrics, log: deps.Logger.With("stage", "deliver"), now: deps.Now,
		inHand: newInHand(cfg.maxTargets()), aloft: newAloft(),
	}
	w.complaints.trouble = trouble.New(w.log)
	w.flights.panicked = func(cause any) { w.outlived("flight", cause) }
	var err error
	if w.panics, err = newPanics(); err != nil {
		return nil, err
	}
	w.suspects, w.deadly = ledger.NewSuspects(w.js, w.ledger), deps.Suspects
	w.leasing = newLeasing(w.ledger, ledger.Lease{Worker: w.name, Length: cfg.Lease})
	w.due = newDue(w)
	w.spare(deps)
	return w, nil
}

// Run works until ctx ends. Then it takes nothing new, lets attempts in flight end within Config.DrainTimeout,
// hands the rest back and returns nil.
func (w *Worker) Run(ctx context.Context) error {
	run, stages := newRun(ctx)
	defer stages.end()
	defer context.AfterFunc(run, w.gate.Stop)()
	w.pulse = newPulse()

	tasks, err := w.router(run)
	if err != nil {
		return err
	}
	// Feeders begin flights, so they end before the last flights are waited for.
	var loops, feeders sync.WaitGroup
	alive, cancel := context.WithCancel(recording(run))
	defer loops.Wait()
	defer cancel()
	loops.Go(func() { w.pulse.run(alive) })
	loops.Go(w.lasting(alive, "observe", w.observe))
	feeders.Go(w.lasting(run, "claim due deliveries", w.due.run))
	feeders.Go(w.lasting(run, "take over lapsed leases", w.due.lapse))
	feeders.Go(w.lasting(run, "follow subscriptions", (&follower{worker: w}).run))
	feeders.Go(w.lasting(run, "count failures", w.failing.run))
	if w.turns != nil {
		feeders.Go(w.lasting(run, "give turns", ledger.NewTurner(ledger.TurnerDeps{
			Turns: w.turns, Events: w.events, KeepAfter: w.cfg.EventsMaxAge - keepBefore, Keys: w.ledger.Keys, Now: w.now,
			Metrics: w.metrics.Ledger, Trouble: w.trouble,
		}).Run))
	}
	loops.Go(w.lasting(alive, "announce", func(ctx context.Context) { w.announce(ctx, recording(run)) }))

	err = router.Run(ctx, tasks, func() { stages.begin(run, w.cfg.DrainTimeout) })
	w.awaitFlights(run, &feeders)
	w.ledger.Close()
	if err != nil {
		return fmt.Errorf("deliver tasks: %w", err)
	}
	return nil
}

// awaitFlights waits for all flights, but not for one that hangs although the run is over: a Postgres that neither answers
// nor refuses can keep it for longer than the end may take.
func (w *Worker) awaitFlights(ctx context.Context, feeders *sync.WaitGroup) {
	landed := make(chan struct{})
	go func() {
		feeders.Wait()
		w.flights.Wait()
		close(landed)
	}()
	select {
	case <-landed:
		return
	case <-recording(ctx).Done():
	}
	select {
	case <-landed:
	case <-time.After(commitGrace):
		w.log.Warn("deliveries left in flight")
	}
}

// router is Watermill's, with one handler for all tasks.
func (w *Worker) router(ctx context.Context) (*message.Router, error) {
	r := router.Route{
		Name:   "deliver",
		Handle: func(msg *message.Message) error { return w.handle(ctx, msg) },
		PutAway: func(meta jetstream.Delivery, cause error, data []byte) error {
			return w.quarantine(ctx, meta, cause, data)
		},
		Last:  func(msg *message.Message) error { return w.endAll(ctx, msg) },
		About: aboutTasks, Guard: w.deadly, JS: w.js,
		Metrics: w.metrics.Ledger.Routes, Drain: w.cfg.DrainTimeout + commitGrace, Logger: w.log,
	}
	for _, q := range taskQueues() {
		cfg := jetstream.SubscriberConfig{Stream: q.stream, Durable: q.durable, MaxInFlight: w.cfg.Messages}
		if q.stream == BacklogStream {
			cfg.MaxBytes = backlogBytes
		}
		r.Subscribers = append(r.Subscribers, cfg)
	}
	return router.New(ctx, r)
}

// backlogBytes bounds what a worker holds of one lane of the backlog: several times of what it may have in hand.
const backlogBytes = 32 << 20

// patience is how long a delivery waits for a slot of its subscription; less with a short lease, so that what
// is left of it still outlasts the attempt.
func (w *Worker) patience() time.Duration { return min(patience, w.cfg.Lease/4) }

// observe sets the gauges now and then.
func (w *Worker) observe(ctx context.Context) {
	ticker := time.NewTicker(5 * time.Second)
	defer ticker.Stop()
	for {
		w.gate.Sweep()
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return
		}
	}
}

// quarantine keeps a message that cannot be read. It is acknowledged then; if Postgres is away it comes again.
func (w *Worker) quarantine(ctx context.Context, meta jetstream.Delivery, cause error, data []byte) error {
	ctx, cancel := context.WithTimeout(recording(ctx), handOffTimeout)
	defer cancel()
	err := w.ledger.Quarantine(ctx, ledger.Poison{
		Subject: meta.Subject, Seq: meta.Sequence, At: meta.Timestamp, Reason: ledger.QuarantineReason(cause), Detail: cause.Error(), Data: data,
	})
	if err != nil {
		return err
	}
	w.metrics.Ledger.Quarantined.Inc()
	w.log.Error("unreadable task is in quarantine", "seq", meta.Sequence, "cause", cause)
	return nil
}
