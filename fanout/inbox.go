package fanout

import (
	"context"
	"fmt"
	"time"

	natsjs "github.com/nats-io/nats.go/jetstream"

	"github.com/fanfarehq/fanfare/internal/event"
	"github.com/fanfarehq/fanfare/internal/jetstream"
)

// Stream holds the accepted events, with their bytes; Durable is fan-out's place in it.
const (
	Stream  = "EVENTS"
	Durable = "fanout"
)

const (
	// maxAckPending bounds the events that all processes hold.
	maxAckPending = 16384
	// maxInFlight bounds the events that one process may be set to match at once.
	maxInFlight = 4096
	// readAhead and readAheadBytes bound the events that one process holds beside those. Among them it looks for the
	// tenants whose events are matched next, so that one tenant's flood does not delay the others'.
	readAhead      = 8192
	readAheadBytes = 64 << 20
)

// Inbox is the stream and the durable consumer that hold events for fan-out, for `fanfare topology`.
// maxAge is how long events are kept, maxBytes how many bytes; when full, publishing fails.
func Inbox(maxAge time.Duration, maxBytes int64) jetstream.Inbox {
	stream := jetstream.StreamOf(Stream, event.SubjectPrefix+">", maxBytes)
	stream.Description = "Every accepted event, with its bytes"
	stream.Compression, stream.MaxAge = natsjs.S2Compression, maxAge
	return jetstream.Inbox{
		Stream:    stream,
		Consumers: []natsjs.ConsumerConfig{jetstream.ConsumerOf(Durable, "Matches events against subscriptions", maxAckPending)},
	}
}

// Send puts the event on disk and returns its place in the stream. Duplicate means that the stream has seen
// this tenant and id within its window; seq is then the first one's.
func Send(ctx context.Context, to *jetstream.Publisher, e *event.Event) (seq uint64, duplicate bool, err error) {
	ack, err := to.Send(ctx, e.Subject(), e.Encode())
	if err != nil {
		return 0, false, fmt.Errorf("publish event %s: %w", e.ID, err)
	}
	return ack.Sequence, ack.Duplicate, nil
}

// SendRenewed is Send with a message id that the stream has not seen.
func SendRenewed(ctx context.Context, to *jetstream.Publisher, e *event.Event) Sent {
	msg := e.Encode()
	e.Renew(msg)
	ack, err := to.Send(ctx, e.Subject(), msg)
	if err != nil {
		return Sent{Err: fmt.Errorf("publish event %s: %w", e.ID, err)}
	}
	return Sent{Seq: ack.Sequence, Duplicate: ack.Duplicate}
}

// Sent is what became of one event of SendAll.
type Sent struct {
	Seq       uint64
	Duplicate bool
	Err       error
}

// SendAll is Send for several events at once. They are stored in their order.
func SendAll(ctx context.Context, to *jetstream.Publisher, events []*event.Event) []Sent {
	out := make([]jetstream.Outgoing, len(events))
	for i, e := range events {
		out[i] = jetstream.Outgoing{Subject: e.Subject(), Message: e.Encode()}
	}
	to.SendAll(ctx, out)
	all := make([]Sent, len(events))
	for i, o := range out {
		all[i] = Sent{Seq: o.Ack.Sequence, Duplicate: o.Ack.Duplicate}
		if o.Err != nil {
			all[i].Err = fmt.Errorf("publish event %s: %w", events[i].ID, o.Err)
		}
	}
	return all
}
