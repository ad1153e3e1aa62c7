package jetstream

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	natsjs "github.com/nats-io/nats.go/jetstream"
)

// SubscriberConfig says what a Subscriber reads and how.
type SubscriberConfig struct {
	// Stream and Durable name the consumer.
	Stream, Durable string
	// MaxInFlight is how many messages may be handed out and not yet acked; 0 means 256.
	MaxInFlight int
	// Heartbeat is how often the broker hears that a message is still worked on; 0 means AckWait / 3.
	Heartbeat time.Duration
	// NackDelay is after how long a nacked message comes again; 0 means 1 s.
	NackDelay time.Duration
	// DrainTimeout is how long messages in flight may take after the end of the subscription; 0 means 30 s.
	DrainTimeout time.Duration
	// Logger receives what goes wrong and is mended.
	Logger *slog.Logger
}

// Subscriber hands out the messages of a durable consumer.
type Subscriber struct{}

// NewSubscriber makes a Subscriber.
func NewSubscriber(js natsjs.JetStream, cfg SubscriberConfig) (*Subscriber, error) {
	return nil, errors.ErrUnsupported
}

// Subscribe starts to read.
func (s *Subscriber) Subscribe(ctx context.Context, topic string) (<-chan *message.Message, error) {
	return nil, errors.ErrUnsupported
}

// Close ends all subscriptions.
func (s *Subscriber) Close() error { return nil }

// Delivery is where a message comes from.
type Delivery struct {
	Stream, Subject string
	Sequence        uint64
	Timestamp       time.Time
	NumDelivered    uint64
	Suspect         bool
}

// Meta returns where a message of a Subscriber comes from; false for any other message.
func Meta(msg *message.Message) (Delivery, bool) { return Delivery{}, false }
