package fanout

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/ThreeDotsLabs/watermill/message/router/middleware"
	natsjs "github.com/nats-io/nats.go/jetstream"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/fanfarehq/fanfare/deliver"
	"github.com/fanfarehq/fanfare/internal/event"
	"github.com/fanfarehq/fanfare/internal/jetstream"
	"github.com/fanfarehq/fanfare/internal/suspect"
	"github.com/fanfarehq/fanfare/internal/telemetry"
	"github.com/fanfarehq/fanfare/subscriptions"
)

// Stage matches events against subscriptions and hands tasks over.
type Stage struct {
	cfg     Config
	js      natsjs.JetStream
	rules   *Rules
	dir     *subscriptions.Directory
	out     deliver.Sender
	order   Queue
	ledger  *Ledger
	turns   turns
	outage  outage
	deadly  *suspect.Guard
	metrics *metrics
	tracer  *telemetry.Tracer
	log     *slog.Logger
	now     func() time.Time
	broker  func() string

	quarantineLogged atomic.Int64 // the second of the last line about a quarantined message
}

// Deps are what a Stage works with.
type Deps struct {
	JetStream natsjs.JetStream
	Directory *subscriptions.Directory
	Rules     *Rules
	Outbox    deliver.Sender
	Order     Queue
	Ledger    *Ledger
	Logger    *slog.Logger
	Metrics   prometheus.Registerer
	Tracer    *telemetry.Tracer
	Now       func() time.Time // nil means time.Now
	Suspects  *suspect.Guard   // nil: events that kill the process are not told apart
	// Broker names the process of the broker, which may lose tasks when it dies; nil: it loses none.
	Broker func() string
}

// New makes a Stage.
func New(cfg Config, deps Deps) (*Stage, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	if deps.Now == nil {
		deps.Now = time.Now
	}
	if deps.Broker == nil {
		deps.Broker = func() string { return "" }
	}
	return &Stage{
		cfg: cfg, js: deps.JetStream, rules: deps.Rules, dir: deps.Directory, out: deps.Outbox, order: deps.Order, ledger: deps.Ledger,
		metrics: newMetrics(deps.Metrics), log: deps.Logger, now: deps.Now, tracer: deps.Tracer,
		deadly: deps.Suspects, broker: deps.Broker,
	}, nil
}

// Run fans events out until the context ends. Then it takes no more, finishes those in flight within
// DrainTimeout, hands the rest back to the stream and returns nil.
func (s *Stage) Run(ctx context.Context) error {
	sub, err := jetstream.NewSubscriber(s.js, jetstream.SubscriberConfig{
		Stream: Stream, Durable: Durable, MaxInFlight: s.cfg.MaxInFlight, DrainTimeout: s.cfg.DrainTimeout, Logger: s.log,
		Ahead: readAhead, MaxBytes: readAheadBytes, Key: tenantOf,
	})
	if err != nil {
		return fmt.Errorf("read events: %w", err)
	}
	// Work goes on after the context ends, until the time to drain is over.
	work, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	defer context.AfterFunc(ctx, func() { time.AfterFunc(s.cfg.DrainTimeout, stop) })()

	var trimming sync.WaitGroup
	trimming.Go(func() { s.ledger.trimQuarantine(ctx, s.log) })
	defer trimming.Wait()

	router, err := message.NewRouter(message.RouterConfig{CloseTimeout: s.cfg.DrainTimeout + 5*time.Second},
		newQuiet(s.log))
	if err != nil {
		return fmt.Errorf("make router: %w", err)
	}
	handling := context.WithValue(ctx, workKey{}, work)
	deadly := s.deadly.Middleware(suspect.Handlers{PutAway: func(msg *message.Message, cause error) error {
		return s.refuse(handling, msg, event.Refuse(event.Internal, "event", cause.Error()))
	}})
	router.AddMiddleware(sub.Answer, deadly, s.poison(handling), middleware.Recoverer)
	router.AddConsumerHandler("fanout", Stream, sub, func(msg *message.Message) error { return s.handle(handling, msg) })
	if err := router.Run(ctx); err != nil && ctx.Err() == nil {
		return fmt.Errorf("fan out: %w", err)
	}
	return nil
}

// tenantOf returns the tenant that an event's subject names.
func tenantOf(subject string) string {
	_, rest, _ := strings.Cut(subject, ".")
	tenant, _, _ := strings.Cut(rest, ".")
	return tenant
}

// errNotRead says that a message came by another way than the stream.
var errNotRead = errors.New("the message is not from the stream of events")

// handle sees one message through. Returning nil acknowledges it. It and what it calls on the way keep their frames small,
// by leaving preparations and rare work to functions of their own: each event has a goroutine, which begins with
// 4 KiB of stack, and to move it to a larger one costs more than to match the event.
func (s *Stage) handle(ctx context.Context, msg *message.Message) error {
	j, refusal, err := s.take(msg)
	if err == nil && refusal == nil {
		refusal, err = j.traced(ctx)
	}
	if err == nil && refusal != nil {
		err = s.refuse(ctx, msg, refusal)
	}
	return err
}

// take reads the event of a message.
func (s *Stage) take(msg *message.Message) (*job, *event.Refusal, error) {
	from, ok := jetstream.Meta(msg)
	if !ok {
		return nil, nil, errNotRead
	}
	w := received(from, msg)
	e, refusal := event.Decode(w)
	if refusal == nil {
		refusal = s.rules.Admit(w, e)
	}
	if refusal != nil {
		return nil, refusal, nil
	}
	return &job{Stage: s, event: e, suspect: from.Suspect, counted: suspect.Counted(msg), since: s.now()}, nil, nil
}

// refuse puts a message that is no valid event into quarantine.
func (s *Stage) refuse(ctx context.Context, msg *message.Message, r *event.Refusal) error {
	from, _ := jetstream.Meta(msg)
	wire := received(from, msg)
	err := s.persist(ctx, func(work context.Context) error { return s.ledger.Quarantine(work, wire, r) })
	if err != nil {
		return err
	}
	s.metrics.quarantined.WithLabelValues(string(r.Reason)).Inc()
	if now := s.now().Unix(); s.quarantineLogged.Swap(now) != now { // One line a second: a publisher may be wrong in all it sends.
		s.log.Warn("message quarantined", "subject", wire.Subject, "seq", wire.Seq, "reason", r.Reason)
	}
	return nil
}

// received is a message that fan-out consumes.
func received(from jetstream.Delivery, msg *message.Message) event.Wire {
	return event.Wire{
		Subject: from.Subject, Seq: from.Sequence, At: from.Timestamp.UTC(), MsgID: msg.UUID,
		Headers: maps.All(msg.Metadata), Data: msg.Payload,
	}
}
