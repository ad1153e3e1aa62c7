package jetstream

import (
	"context"
	"errors"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	natsjs "github.com/nats-io/nats.go/jetstream"
)

// PublisherConfig says how a Publisher sends.
type PublisherConfig struct {
	// Dedupe makes a message's UUID its Nats-Msg-Id, so that the stream keeps it once.
	Dedupe bool
	// MaxBatch is how many messages one commit takes at most; 0 means 1,000, which is also the most.
	MaxBatch int
	// Timeout bounds one commit; 0 means 5 s.
	Timeout time.Duration
}

// Publisher puts messages on disk, many in one commit.
type Publisher struct{}

// Ack is a message's place in its stream.
type Ack struct {
	Sequence  uint64
	Duplicate bool // the stream had the message already, at Sequence
}

// NewPublisher makes a Publisher.
func NewPublisher(js natsjs.JetStream, cfg PublisherConfig) (*Publisher, error) {
	return nil, errors.ErrUnsupported
}

// Publish puts messages on disk.
func (p *Publisher) Publish(topic string, msgs ...*message.Message) error {
	return errors.ErrUnsupported
}

// Send puts a message on disk and returns its place.
func (p *Publisher) Send(ctx context.Context, subject string, msg *message.Message) (Ack, error) {
	return Ack{}, errors.ErrUnsupported
}

// Close waits for what is being sent.
func (p *Publisher) Close() error { return nil }
