package jetstream

import (
	"context"
	"errors"
	"time"

	natsjs "github.com/nats-io/nats.go/jetstream"
)

const (
	// DuplicateWindow is how long a stream remembers the ids of its messages.
	DuplicateWindow = 2 * time.Minute
	// AckWait is how long a message may be unacknowledged, without a word of progress, before another gets it.
	AckWait = 15 * time.Second
)

// Inbox is a stream and the durable consumers that read it: what a stage needs of the broker.
type Inbox struct {
	Stream    natsjs.StreamConfig
	Consumers []natsjs.ConsumerConfig
}

// Apply creates the streams and consumers that are missing and updates those that differ.
func Apply(ctx context.Context, js natsjs.JetStream, inboxes ...Inbox) error {
	return errors.ErrUnsupported
}

// Check says which stream or consumer is missing or differs.
func Check(ctx context.Context, js natsjs.JetStream, inboxes ...Inbox) error {
	return errors.ErrUnsupported
}
