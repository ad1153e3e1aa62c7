package jetstream

import (
	"context"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/nats-io/nats.go"
)

// Delivery is where a message comes from.
type Delivery struct {
	Stream, Subject string
	Sequence        uint64    // its place in the stream
	Timestamp       time.Time // when the stream stored it
	NumDelivered    uint64    // how often the broker knows to have handed it out, this time included

	// Suspect says that the message may have been handed out before, or to another process since: the broker says so, it was in
	// the stream already when this session began, or it was held while the connection was lost or this process was stopped. A
	// broker that crashes forgets up to 100 ms of acks, and hands those messages out as if for the first time. Meta has to be
	// asked again after a wait: the answer may have changed.
	Suspect bool
}

// Meta returns where a message of a Subscriber comes from; false for a message from elsewhere.
func Meta(msg *message.Message) (Delivery, bool) {
	d, ok := deliveryOf(msg)
	if !ok {
		return Delivery{}, false
	}
	from := d.Delivery
	from.Suspect = d.suspect.Load()
	return from, true
}

func deliveryOf(msg *message.Message) (*delivery, bool) {
	d, ok := msg.Context().Value(deliveryKey{}).(*delivery)
	return d, ok
}

type deliveryKey struct{}

// delivery is a message that the broker gave to us and waits for an answer to. The message's context has it as a value, so
// that Meta finds it.
type delivery struct {
	Delivery

	of       *subscription
	key      string // of its queue, while it waits for a handler
	size     int    // of its payload
	msg      *message.Message
	cancel   context.CancelFunc // ends the message's context
	answered atomic.Bool
	suspect  atomic.Bool

	// Guarded by held:
	reply string // where the broker awaits the answer
	seen  bool   // by the last heartbeat
}

// newDelivery makes the delivery of a message that a pull brought. The message's context does not end with ctx.
func newDelivery(ctx context.Context, of *subscription, m *nats.Msg) (*delivery, error) {
	meta, err := m.Metadata()
	if err != nil {
		return nil, fmt.Errorf("read metadata of a message on %s: %w", m.Subject, err)
	}
	d := &delivery{
		Delivery: Delivery{
			Stream:       meta.Stream,
			Subject:      m.Subject,
			Sequence:     meta.Sequence.Stream,
			Timestamp:    meta.Timestamp,
			NumDelivered: meta.NumDelivered,
		},
		of:    of,
		size:  len(m.Data),
		msg:   decode(m),
		reply: m.Reply,
	}
	ctx = context.WithValue(context.WithoutCancel(ctx), deliveryKey{}, d)
	ctx, d.cancel = context.WithCancel(ctx)
	d.msg.SetContext(ctx)
	return d, nil
}
