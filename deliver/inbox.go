package deliver

import (
	"context"

	"github.com/google/uuid"
	natsjs "github.com/nats-io/nats.go/jetstream"

	"github.com/fanfarehq/fanfare/internal/event"
	"github.com/fanfarehq/fanfare/internal/jetstream"
)

// Task is one event and the subscriptions that it goes to: the inbox of deliver. A message of the stream
// holds one task when it is quiet and many under load; see Outbox.
type Task struct {
	Event   event.Event
	Targets []Target // at most MaxTargets
	// Revision is that of the subscriptions which the event was matched against: the worker must know
	// them at least as well.
	Revision int64
	// Suspect says that the event may have been handed over before, so that the ledger must be asked.
	Suspect bool
	// Counted says that the event's message is counted by internal/suspect, so that the task's is to be counted as well. It is
	// not written.
	Counted bool

	sealed []byte // the event's contents, while they are sealed; empty if they are lost
	lost   bool   // the contents do not open any more: the event cannot be sent
}

// Target is one delivery to make: a subscription and the generation of the delivery (0 unless sent again).
type Target struct {
	Subscription uuid.UUID
	Generation   int
}

// MaxTargets bounds one task; an event that goes to more is handed over as several tasks.
const MaxTargets = 64

// Stream holds the work for now; Durable is the workers' shared place in it.
const (
	Stream  = "TASKS"
	Durable = "deliver"
	subject = "tasks.now"
)

// Inbox is the stream and the durable consumer that hold tasks, for `fanfare topology`.
func Inbox(maxBytes int64) jetstream.Inbox {
	stream := jetstream.StreamOf(Stream, "tasks.>", maxBytes)
	stream.Description = "Deliveries to make now; trimmed to what is done"
	return jetstream.Inbox{
		Stream:    stream,
		Unsynced:  true,
		Consumers: []natsjs.ConsumerConfig{jetstream.ConsumerOf(Durable, "Sends the webhooks", 1024)},
	}
}

// Sender hands tasks over.
type Sender interface {
	// Send returns once all tasks are in their streams. The broker may lose them when it dies; see audit.Recovery.
	Send(ctx context.Context, tasks ...Task) error
}
