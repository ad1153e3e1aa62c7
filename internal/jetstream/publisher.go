package jetstream

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	natsjs "github.com/nats-io/nats.go/jetstream"
)

// PublisherConfig says how a Publisher sends.
type PublisherConfig struct {
	// Dedupe makes a message's UUID its Nats-Msg-Id, so that its stream keeps it once within DuplicateWindow.
	// Otherwise the UUID is a header like any other.
	Dedupe bool
	// MaxBatch is how many messages one commit takes at most; 0 means 1,000, which is also the most.
	MaxBatch int
	// Timeout bounds one commit, and so how long a send waits for a broker that is away; 0 means 5 s.
	Timeout time.Duration
	// Room is asked before anything is sent: its error refuses the messages, as ErrNoRoom. It may wait, to slow senders down.
	// nil means that there always is room.
	Room func(context.Context) error
}

// Ack is a message's place in its stream.
type Ack struct {
	Sequence  uint64
	Duplicate bool // the stream had a message of this id already, at Sequence
}

// Publisher puts messages into streams, those of concurrent callers together. It implements Watermill's
// message.Publisher.
type Publisher struct {
	js  natsjs.JetStream
	cfg PublisherConfig

	routes *routes
	failed atomic.Pointer[failure] // the last send failed

	stopping sync.RWMutex
	closed   bool
	sends    sync.WaitGroup
}

var _ message.Publisher = (*Publisher)(nil)

// NewPublisher makes a Publisher on the connection of js.
func NewPublisher(js natsjs.JetStream, cfg PublisherConfig) (*Publisher, error) {
	if cfg.MaxBatch <= 0 || cfg.MaxBatch > maxBatch {
		cfg.MaxBatch = maxBatch
	}
	if cfg.Timeout <= 0 {
		cfg.Timeout = 5 * time.Second
	}
	// A context of our own: its timeout lets go of messages that the broker never answers, and its bound of
	// those is never met, since each lane has one group on its way.
	own, err := withOptions(js, natsjs.WithPublishAsyncTimeout(cfg.Timeout), natsjs.WithPublishAsyncMaxPending(1<<20))
	if err != nil {
		return nil, fmt.Errorf("configure publisher: %w", err)
	}
	return &Publisher{js: own, cfg: cfg, routes: newRoutes(own, cfg)}, nil
}

// withOptions returns a JetStream like js, with these options.
func withOptions(js natsjs.JetStream, opts ...natsjs.JetStreamOpt) (natsjs.JetStream, error) {
	switch have := js.Options(); {
	case have.Domain != "":
		return natsjs.NewWithDomain(js.Conn(), have.Domain, opts...)
	case have.APIPrefix != "":
		return natsjs.NewWithAPIPrefix(js.Conn(), have.APIPrefix, opts...)
	default:
		return natsjs.New(js.Conn(), opts...)
	}
}

// Send puts one message into the stream of its subject and returns its place there. The error is one of ErrUnavailable,
// ErrFull, ErrTooLarge or ErrClosed, or the cause of ctx: then, as with ErrUnavailable, the message may have been
// stored. Neither message nor payload may be changed afterwards, whatever the outcome.
func (p *Publisher) Send(ctx context.Context, subject string, msg *message.Message) (Ack, error) {
	out := []Outgoing{{Subject: subject, Message: msg}}
	p.SendAll(ctx, out)
	return out[0].Ack, out[0].Err
}

// Publish puts messages into the stream of a subject, in this order, and returns once all are there. If it fails, some of them
// may be; the error is that of the first that is not. The context is that of the first message.
func (p *Publisher) Publish(topic string, msgs ...*message.Message) error {
	if len(msgs) == 0 {
		return nil
	}
	out := make([]Outgoing, len(msgs))
	for i, msg := range msgs {
		out[i] = Outgoing{Subject: topic, Message: msg}
	}
	p.SendAll(msgs[0].Context(), out)
	for i := range out {
		if err := out[i].Err; err != nil {
			return fmt.Errorf("message %d of %d: %w", i+1, len(out), err)
		}
	}
	return nil
}

// Outgoing is one message of SendAll, and then what became of it.
type Outgoing struct {
	Subject string
	Message *message.Message

	Ack Ack
	Err error
}

// SendAll is Send for several messages at once, of subjects of their own. Messages of one stream are stored in their
// order, and go into as few commits as they would from as many callers; but each has an outcome of its own.
func (p *Publisher) SendAll(ctx context.Context, out []Outgoing) {
	if !p.begin() {
		for i := range out {
			out[i].Err = ErrClosed
		}
		return
	}
	defer p.sends.Done()
	if p.cfg.Room != nil {
		if err := p.cfg.Room(ctx); err != nil {
			for i := range out {
				out[i].Err = fmt.Errorf("publish to %s: %w: %w", out[i].Subject, ErrNoRoom, err)
			}
			return
		}
	}
	var next parcel
	var away error // why none of the rest can be sent: not each is to wait for as long again
	for i := range out {
		if out[i].Err = away; away != nil {
			continue
		}
		x, to, err := p.address(ctx, out[i].Subject, out[i].Message)
		if err != nil {
			out[i].Err = fmt.Errorf("publish to %s: %w", out[i].Subject, err)
			if errors.Is(err, ErrUnavailable) {
				away = out[i].Err
			}
			continue
		}
		if next.to != to {
			p.send(ctx, next)
			next = newParcel(to, len(out)-i)
		}
		next.letters, next.of = append(next.letters, x), append(next.of, &out[i])
	}
	p.send(ctx, next)
}

// parcel holds letters for one lane.
type parcel struct {
	to      *lane
	letters []letter
	of      []*Outgoing // whose the letters are
}

func newParcel(to *lane, size int) parcel {
	return parcel{to: to, letters: make([]letter, 0, size), of: make([]*Outgoing, 0, size)}
}

// address makes the letter of a message and finds its lane.
func (p *Publisher) address(ctx context.Context, subject string, msg *message.Message) (letter, *lane, error) {
	x, err := encode(subject, msg, p.cfg.Dedupe)
	if err != nil {
		return letter{}, nil, err
	}
	if largest := int(p.js.Conn().MaxPayload()) - batchRoom; x.size > largest {
		return letter{}, nil, fmt.Errorf("%w: %d bytes, of at most %d", ErrTooLarge, x.size, largest)
	}
	to, err := p.routes.of(ctx, subject)
	return x, to, err
}

// send sends a parcel and tells whose the letters are what became of them.
func (p *Publisher) send(ctx context.Context, sent parcel) {
	if len(sent.letters) == 0 {
		return
	}
	gone := false
	var failed error
	left := sent.to.committer.Do(ctx, sent.letters)
	for i, o := range sent.of {
		err := left // If the caller left, the commit may be writing to the letters still.
		if left == nil {
			o.Ack, err = sent.letters[i].ack, sent.letters[i].err
		}
		if err != nil {
			o.Err = fmt.Errorf("publish to %s: %w", o.Subject, unanswered(err))
			failed = o.Err
		}
		gone = gone || errors.Is(err, natsjs.ErrNoStreamResponse)
	}
	if gone { // Its subjects may be another stream's by now.
		p.routes.forget(sent.to)
	}
	p.note(failed)
}

// failure is a send that failed, and when.
type failure struct {
	err error
	at  time.Time
}

// troubled is how long a failure counts: a process that is not ready gets nothing to send, so it cannot show that sending works
// again.
const troubled = 15 * time.Second

// note remembers how the last send ended.
func (p *Publisher) note(err error) {
	switch {
	case errors.Is(err, ErrUnavailable), errors.Is(err, ErrFull):
		p.failed.Store(&failure{err, time.Now()})
	case err == nil && p.failed.Load() != nil:
		p.failed.Store(nil)
	}
}

// Trouble returns why the last send failed, if that was within the last 15 s.
func (p *Publisher) Trouble() error {
	if f := p.failed.Load(); f != nil && time.Since(f.at) < troubled {
		return f.err
	}
	return nil
}

// unanswered says of a caller's deadline that it is the broker who did not answer.
func unanswered(err error) error {
	if errors.Is(err, context.DeadlineExceeded) && !errors.Is(err, ErrUnavailable) {
		return fmt.Errorf("%w: %w", ErrUnavailable, err)
	}
	return err
}

func (p *Publisher) begin() bool {
	p.stopping.RLock()
	defer p.stopping.RUnlock()
	if p.closed {
		return false
	}
	p.sends.Add(1)
	return true
}

// Close waits for the sends that are under way; later ones fail with ErrClosed. The connection stays open.
func (p *Publisher) Close() error {
	p.stopping.Lock()
	p.closed = true
	p.stopping.Unlock()
	p.sends.Wait()
	p.js.CleanupPublisher()
	return nil
}
