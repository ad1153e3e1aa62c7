// Package router runs a Router of Watermill: messages of durable consumers come in, and each goes to one handler, which
// acknowledges by returning nil. A message that panics, or that kills the process, again and again is put away.
//
// It promises that a message is handed back unless its handler succeeded or it was put away. Messages wait while NATS is
// away. Run ends with its context: it takes no more messages and waits for the handlers, but not for ever.
package router

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/ThreeDotsLabs/watermill"
	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/ThreeDotsLabs/watermill/message/router/middleware"
	natsjs "github.com/nats-io/nats.go/jetstream"

	"github.com/fanfarehq/fanfare/internal/jetstream"
	"github.com/fanfarehq/fanfare/internal/suspect"
)

// Route names the consumers and what handles their messages.
type Route struct {
	Name        string
	Handle      message.NoPublishHandlerFunc
	PutAway     func(meta jetstream.Delivery, cause error, data []byte) error // quarantines a message
	Last        message.NoPublishHandlerFunc                                  // ends what a quarantined message asks for
	About       func(msg *message.Message) []suspect.Subject
	Guard       *suspect.Guard
	JS          natsjs.JetStream
	Metrics     *Metrics
	Drain       time.Duration // how long the messages in flight may take at the end
	Logger      *slog.Logger
	Subscribers []jetstream.SubscriberConfig
}

// New makes the Router of a Route.
func New(ctx context.Context, r Route) (*message.Router, error) {
	router, err := message.NewRouter(message.RouterConfig{CloseTimeout: r.Drain}, routerLogger(r.Logger))
	if err != nil {
		return nil, fmt.Errorf("make router of %s: %w", r.Name, err)
	}
	guard := r.Guard.Middleware(suspect.Handlers{About: r.About, PutAway: r.quarantine, Last: r.Last})
	router.AddMiddleware(handBack, r.Metrics.middleware(r.Name), guard, r.poison, middleware.Recoverer)
	for _, cfg := range r.Subscribers {
		cfg.DrainTimeout, cfg.Logger = r.Drain, r.Logger
		if err := r.bind(ctx, router, cfg); err != nil {
			return nil, err
		}
	}
	return router, nil
}

// bind adds a consumer to a Router.
func (r Route) bind(ctx context.Context, router *message.Router, cfg jetstream.SubscriberConfig) error {
	// A Router whose first subscription fails leaves a goroutine behind for ever, so this is looked at before. A broker that is
	// away does not make it fail.
	_, err := r.JS.Consumer(ctx, cfg.Stream, cfg.Durable)
	if errors.Is(err, natsjs.ErrConsumerNotFound) || errors.Is(err, natsjs.ErrStreamNotFound) {
		return fmt.Errorf("bind to consumer %s of %s (\"fanfare topology apply\" makes it): %w", cfg.Durable, cfg.Stream, err)
	}
	subscriber, err := jetstream.NewSubscriber(r.JS, cfg)
	if err != nil {
		return fmt.Errorf("subscribe to %s: %w", cfg.Stream, err)
	}
	router.AddConsumerHandler(cfg.Durable, cfg.Stream, subscriber, r.Handle)
	return nil
}

// poison quarantines a message whose handler panics whenever it comes. It is outside of Recoverer, which makes an error of the
// panic.
func (r Route) poison(next message.HandlerFunc) message.HandlerFunc {
	return func(msg *message.Message) ([]*message.Message, error) {
		out, err := next(msg)
		panicked, ok := errors.AsType[middleware.RecoveredPanicError](err)
		if !ok {
			return out, err
		}
		meta, _ := jetstream.Meta(msg)
		r.Metrics.Panics.Inc()
		r.Logger.Error("message panicked", "seq", meta.Sequence, "error", panicked.Error(), "stack", panicked.Stacktrace)
		if meta.NumDelivered < MaxPanics {
			return out, err
		}
		return nil, r.PutAway(meta, panicked, msg.Payload)
	}
}

// quarantine quarantines a message that kills every process that handles it.
func (r Route) quarantine(msg *message.Message, cause error) error {
	meta, _ := jetstream.Meta(msg)
	return r.PutAway(meta, fmt.Errorf("%w: %w", ErrDeadly, cause), msg.Payload)
}

// MaxPanics is how often handling a message may panic before it is put away.
const MaxPanics = 3

// ErrStopping ends waiting when its process stops: the message is handed back.
var ErrStopping = errors.New("the worker stops")

// ErrDeadly marks why a message is quarantined that kills processes.
var ErrDeadly = errors.New("handling it kills the process")

// handBack hands a message back that the end of the work came before. To the Router that is no error, which it would log.
func handBack(next message.HandlerFunc) message.HandlerFunc {
	return func(msg *message.Message) ([]*message.Message, error) {
		out, err := next(msg)
		if errors.Is(err, ErrStopping) {
			msg.Nack()
			return out, nil
		}
		return out, err
	}
}

// routerLogger tells Watermill's news one level lower than it thinks they deserve.
func routerLogger(log *slog.Logger) watermill.LoggerAdapter {
	return watermill.NewSlogLoggerWithLevelMapping(log, map[slog.Level]slog.Level{slog.LevelInfo: slog.LevelDebug})
}

// Run runs a Router until ctx ends; then it calls stop and waits for the handlers, but not for ever. It is an error if
// the router ends before.
func Run(ctx context.Context, router *message.Router, stop func()) error {
	ended := make(chan error, 1)
	go func() { ended <- router.Run(context.WithoutCancel(ctx)) }()
	select {
	case err := <-ended:
		stop()
		if err == nil {
			err = errors.New("the subscription ended")
		}
		return err
	case <-ctx.Done():
	}
	stop()
	if err := router.Close(); err != nil {
		// Their messages come again, to another.
		router.Logger().Error("Handlers do not end", err, nil)
	}
	return <-ended
}
