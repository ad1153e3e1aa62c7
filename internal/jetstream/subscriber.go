package jetstream

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	natsjs "github.com/nats-io/nats.go/jetstream"
)

// SubscriberConfig says what a Subscriber reads, and how.
type SubscriberConfig struct {
	// Stream is the stream to read; empty means that of the topic, as a subject.
	Stream string
	// Durable names the consumer, which must exist and demand explicit acks. Its subscribers share the messages.
	Durable string
	// MaxInFlight is how many messages of one subscription may be handed out and not yet acked or nacked; 0
	// means 256. With 1, and a consumer whose MaxAckPending
	// is 1, messages are handled in the order of the stream.
	MaxInFlight int
	// Ahead is how many messages a subscription holds that wait for a handler; 0 means half of MaxInFlight, up to 256.
	Ahead int
	// MaxBytes bounds the bytes of all messages that a subscription holds, by no more than one message; 0 means 256 MiB.
	MaxBytes int
	// Key returns the key of a message by its subject. The messages of each key are handed out in their order, the keys
	// in turn, and no key takes all handlers. Nil: all messages are handed out in their order.
	Key func(subject string) string
	// Heartbeat is how often the broker hears that a message is still held; 0 means a third of the consumer's AckWait,
	// which is also the most.
	Heartbeat time.Duration
	// NackDelay is how long a nacked message waits until it is handed out again; 0 means 1 s.
	NackDelay time.Duration
	// DrainTimeout is how long the messages in flight may take once the subscription ends; 0 means 30 s.
	DrainTimeout time.Duration
	// Logger hears what goes wrong and is mended; nil: nobody does.
	Logger *slog.Logger

	// silence is how long the broker may say nothing to a request; 0 means 10 s.
	silence time.Duration
}

func (c SubscriberConfig) withDefaults() (SubscriberConfig, error) {
	if c.Durable == "" {
		return c, errors.New("no durable consumer is named")
	}
	if c.MaxInFlight <= 0 {
		c.MaxInFlight = 256
	}
	if c.Ahead <= 0 {
		c.Ahead = min(c.MaxInFlight/2, 256)
	}
	if c.MaxBytes <= 0 {
		c.MaxBytes = 256 << 20
	}
	if c.NackDelay <= 0 {
		c.NackDelay = time.Second
	}
	if c.DrainTimeout <= 0 {
		c.DrainTimeout = 30 * time.Second
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	if c.silence <= 0 {
		c.silence = 10 * time.Second
	}
	return c, nil
}

// Subscriber hands out the messages of a durable consumer. It implements Watermill's message.Subscriber.
type Subscriber struct {
	js     natsjs.JetStream
	cfg    SubscriberConfig
	prompt atomic.Bool // messages pass through Answer

	mu      sync.Mutex
	closed  bool
	running sync.WaitGroup
	cancels map[*subscription]context.CancelFunc
}

var _ message.Subscriber = (*Subscriber)(nil)

// NewSubscriber makes a Subscriber on the connection of js.
func NewSubscriber(js natsjs.JetStream, cfg SubscriberConfig) (*Subscriber, error) {
	cfg, err := cfg.withDefaults()
	if err != nil {
		return nil, fmt.Errorf("configure subscriber: %w", err)
	}
	return &Subscriber{js: js, cfg: cfg, cancels: make(map[*subscription]context.CancelFunc)}, nil
}

// Subscribe begins to read, until ctx ends or Close is called; then the channel is closed, and the messages in flight
// are waited for. The topic counts only if no stream is configured. An error says that the consumer is missing; later,
// that does not end the subscription. A broker that is away is waited for. Where ctx has ended the channel is closed at once:
// that is no error, at which Watermill's Router would leave a goroutine behind for ever.
//
// A message's context carries the values of ctx. It ends when the message is acked or nacked, or when DrainTimeout is over.
func (s *Subscriber) Subscribe(ctx context.Context, topic string) (<-chan *message.Message, error) {
	sub := newSubscription(s.js, s.cfg, topic)
	sub.prompt = &s.prompt
	ctx, cancel := context.WithCancel(ctx)
	if !s.begin(sub, cancel) {
		cancel()
		return nil, fmt.Errorf("subscribe to %s: %w", s.cfg.Durable, ErrClosed)
	}
	first, err := sub.open(ctx)
	if err != nil && ctx.Err() == nil && !errors.Is(err, ErrUnavailable) {
		s.end(sub)
		return nil, fmt.Errorf("subscribe to %s: %w", s.cfg.Durable, err)
	}
	go func() {
		defer s.end(sub)
		sub.run(ctx, first)
	}()
	return sub.out, nil
}

// Answer is a middleware for Watermill's Router that answers each message in the goroutine of its handler, as soon as that
// returns: acked if there was no error, nacked otherwise. Without it every message has a goroutine that waits for its ack, which
// is what a quick handler's message costs. It comes before all other middleware, and then all messages of the Subscriber are
// to come through it. Those for which a handler produces others are answered by the Router, once it has published them.
func (s *Subscriber) Answer(next message.HandlerFunc) message.HandlerFunc {
	s.prompt.Store(true)
	return func(msg *message.Message) (produced []*message.Message, err error) {
		d, ok := deliveryOf(msg)
		if !ok {
			return next(msg)
		}
		returned := false
		defer func() {
			switch {
			case err != nil || !returned: // It panics.
				d.of.nacked(d, d.of.nack)
			case len(produced) > 0:
				go d.of.watch(d)
			default:
				d.of.acked(d)
			}
		}()
		produced, err = next(msg)
		returned = true
		return produced, err
	}
}

func (s *Subscriber) begin(sub *subscription, cancel context.CancelFunc) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return false
	}
	s.cancels[sub] = cancel
	s.running.Add(1)
	return true
}

func (s *Subscriber) end(sub *subscription) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.cancels[sub]()
	delete(s.cancels, sub)
	s.running.Done()
}

// Close ends all subscriptions and returns once their messages in flight are answered or handed back, which takes at
// most DrainTimeout. The connection stays open.
func (s *Subscriber) Close() error {
	s.mu.Lock()
	s.closed = true
	for _, cancel := range s.cancels {
		cancel()
	}
	s.mu.Unlock()
	s.running.Wait()
	return nil
}
