package deliver

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

// route says what a Router of Watermill does: it hands the messages of consumers to a handler.
type route struct {
	name        string
	handle      message.NoPublishHandlerFunc
	putAway     func(meta jetstream.Delivery, cause error, data []byte) error // quarantines a message
	last        message.NoPublishHandlerFunc                                  // ends what a quarantined message asks for
	about       func(msg *message.Message) []suspect.Subject
	guard       *suspect.Guard
	js          natsjs.JetStream
	metrics     *Metrics
	drain       time.Duration // how long the messages in flight may take at the end
	log         *slog.Logger
	subscribers []jetstream.SubscriberConfig
}

// newRouter makes the Router of a route.
func newRouter(ctx context.Context, r route) (*message.Router, error) {
	router, err := message.NewRouter(message.RouterConfig{CloseTimeout: r.drain}, routerLogger(r.log))
	if err != nil {
		return nil, fmt.Errorf("make router of %s: %w", r.name, err)
	}
	guard := r.guard.Middleware(suspect.Handlers{About: r.about, PutAway: r.quarantine, Last: r.last})
	router.AddMiddleware(handBack, r.metrics.middleware(r.name), guard, r.poison, middleware.Recoverer)
	for _, cfg := range r.subscribers {
		cfg.DrainTimeout, cfg.Logger = r.drain, r.log
		if err := r.bind(ctx, router, cfg); err != nil {
			return nil, err
		}
	}
	return router, nil
}

// bind adds a consumer to a Router.
func (r route) bind(ctx context.Context, router *message.Router, cfg jetstream.SubscriberConfig) error {
	// A Router whose first subscription fails leaves a goroutine behind for ever, so this is looked at before. A broker that is
	// away does not make it fail.
	_, err := r.js.Consumer(ctx, cfg.Stream, cfg.Durable)
	if errors.Is(err, natsjs.ErrConsumerNotFound) || errors.Is(err, natsjs.ErrStreamNotFound) {
		return fmt.Errorf("bind to consumer %s of %s (\"fanfare topology apply\" makes it): %w", cfg.Durable, cfg.Stream, err)
	}
	subscriber, err := jetstream.NewSubscriber(r.js, cfg)
	if err != nil {
		return fmt.Errorf("subscribe to %s: %w", cfg.Stream, err)
	}
	router.AddConsumerHandler(cfg.Durable, cfg.Stream, subscriber, r.handle)
	return nil
}

// poison quarantines a message whose handler panics whenever it comes. It is outside of Recoverer, which makes an error of the
// panic.
func (r route) poison(next message.HandlerFunc) message.HandlerFunc {
	return func(msg *message.Message) ([]*message.Message, error) {
		out, err := next(msg)
		panicked, ok := errors.AsType[middleware.RecoveredPanicError](err)
		if !ok {
			return out, err
		}
		meta, _ := jetstream.Meta(msg)
		r.metrics.panics.Inc()
		r.log.Error("message panicked", "seq", meta.Sequence, "error", panicked.Error(), "stack", panicked.Stacktrace)
		if meta.NumDelivered < maxPanics {
			return out, err
		}
		return nil, r.putAway(meta, panicked, msg.Payload)
	}
}

// quarantine quarantines a message that kills every process that handles it.
func (r route) quarantine(msg *message.Message, cause error) error {
	meta, _ := jetstream.Meta(msg)
	return r.putAway(meta, fmt.Errorf("%w: %w", errDeadly, cause), msg.Payload)
}

// errDeadly marks why a message is quarantined that kills processes.
var errDeadly = errors.New("handling it kills the process")

// handBack hands a message back that the end of the work came before. To the Router that is no error, which it would log.
func handBack(next message.HandlerFunc) message.HandlerFunc {
	return func(msg *message.Message) ([]*message.Message, error) {
		out, err := next(msg)
		if errors.Is(err, errStopping) {
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

// runRouter runs a router until ctx ends; then it calls stop and waits for the handlers, but not for ever. It is an error if
// the router ends before.
func runRouter(ctx context.Context, router *message.Router, stop func()) error {
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
