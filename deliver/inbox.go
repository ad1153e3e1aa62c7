package deliver

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"time"

	"github.com/google/uuid"
	natsjs "github.com/nats-io/nats.go/jetstream"

	"github.com/fanfarehq/fanfare/internal/event"
	"github.com/fanfarehq/fanfare/internal/jetstream"
)

// Task is one event and the subscriptions that it goes to: the inbox of deliver. A message of the stream
// holds one task when it is quiet and many under load; see Outbox.
type Task struct {
	Event   Event
	Targets []Target // at most MaxTargets
	// Revision is that of the subscriptions which the event was matched against: the worker must know
	// them at least as well.
	Revision int64
	// Suspect says that the event may have been handed over before, so that the ledger must be asked.
	Suspect bool

	sealed []byte // the event's contents, while they are sealed; empty if they are lost
	lost   bool   // the contents do not open any more: the event cannot be sent
}

// Event is what a delivery needs to know of an event.
type Event = event.Event

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
	return jetstream.Inbox{
		Stream: natsjs.StreamConfig{
			Name:               Stream,
			Description:        "Deliveries to make now; trimmed to what is done",
			Subjects:           []string{"tasks.>"},
			Retention:          natsjs.LimitsPolicy,
			Storage:            natsjs.FileStorage,
			Discard:            natsjs.DiscardNew,
			MaxBytes:           maxBytes,
			Duplicates:         jetstream.DuplicateWindow,
			AllowAtomicPublish: true,
			AllowDirect:        true,
		},
		Consumers: []natsjs.ConsumerConfig{{
			Durable:       Durable,
			Description:   "Sends the webhooks",
			AckPolicy:     natsjs.AckExplicitPolicy,
			AckWait:       jetstream.AckWait,
			MaxDeliver:    -1,
			MaxAckPending: 1024,
		}},
	}
}

// Sender hands tasks over.
type Sender interface {
	// Send returns once the tasks are on disk, all or none of them.
	Send(ctx context.Context, tasks ...Task) error
}

// ID is the delivery's id: a UUIDv7 that is the same whenever it is computed, so that the ledger's one key
// holds a delivery once. Of a later generation, at is when that was asked for; of generation 0, the event's acceptance.
func ID(eventUID, subscription uuid.UUID, generation int, at time.Time) uuid.UUID {
	var buf [36]byte
	copy(buf[:16], eventUID[:])
	copy(buf[16:32], subscription[:])
	binary.BigEndian.PutUint32(buf[32:], uint32(generation))
	sum := sha256.Sum256(buf[:])
	return event.Derive(at, sum[:])
}
