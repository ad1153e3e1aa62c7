package jetstream

import (
	"context"
	"errors"
	"fmt"
	"slices"
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

	routes   atomic.Pointer[[]route]
	lookUp   chan struct{} // holds one token, for the right to change routes
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
	p := &Publisher{js: own, cfg: cfg, lookUp: make(chan struct{}, 1)}
	p.routes.Store(new([]route))
	return p, nil
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
	letters := make([]letter, 1)
	if err := p.send(ctx, subject, letters, msg); err != nil {
		return Ack{}, fmt.Errorf("publish to %s: %w", subject, err)
	}
	return letters[0].ack, nil
}

// Publish puts messages into the stream of a subject and returns once all are there, in this order. If it fails, some
// of them may be; the error is that of the first that is not. The context is that of the first message.
func (p *Publisher) Publish(topic string, msgs ...*message.Message) error {
	if len(msgs) == 0 {
		return nil
	}
	if err := p.send(msgs[0].Context(), topic, make([]letter, len(msgs)), msgs...); err != nil {
		return fmt.Errorf("publish %d messages to %s: %w", len(msgs), topic, err)
	}
	return nil
}

// send fills letters with the messages and sends them. It returns the first error.
func (p *Publisher) send(ctx context.Context, subject string, letters []letter, msgs ...*message.Message) (err error) {
	if !p.begin() {
		return ErrClosed
	}
	defer p.sends.Done()
	largest := int(p.js.Conn().MaxPayload()) - batchRoom
	for i, msg := range msgs {
		if letters[i], err = encode(subject, msg, p.cfg.Dedupe); err != nil {
			return err
		}
		if letters[i].size > largest {
			return fmt.Errorf("%w: %d bytes, of at most %d", ErrTooLarge, letters[i].size, largest)
		}
	}
	lane, err := p.laneOf(ctx, subject)
	if err != nil {
		return err
	}
	if err := lane.committer.Do(ctx, letters); err != nil {
		return unanswered(err)
	}
	for i := range letters {
		if err := letters[i].err; err != nil {
			p.reconsider(lane, err)
			return err
		}
	}
	return nil
}

// unanswered says of a caller's deadline that it is the broker who did not answer.
func unanswered(err error) error {
	if errors.Is(err, context.DeadlineExceeded) {
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

// route says which lane takes the subjects of a filter.
type route struct {
	filter string
	lane   *lane
}

// laneOf returns the lane of a subject's stream. No two streams of an account take the same subject, so what matches
// the filter of a known stream needs no look-up.
func (p *Publisher) laneOf(ctx context.Context, subject string) (*lane, error) {
	if l := p.known(subject); l != nil {
		return l, nil
	}
	select {
	case p.lookUp <- struct{}{}:
		defer func() { <-p.lookUp }()
	case <-ctx.Done():
		return nil, unanswered(context.Cause(ctx))
	}
	if l := p.known(subject); l != nil { // by whom we waited for
		return l, nil
	}
	return p.find(ctx, subject)
}

func (p *Publisher) known(subject string) *lane {
	for _, r := range *p.routes.Load() {
		if matches(r.filter, subject) {
			return r.lane
		}
	}
	return nil
}

// find asks the broker for the stream of a subject and makes its lane.
func (p *Publisher) find(ctx context.Context, subject string) (*lane, error) {
	ctx, cancel := context.WithTimeout(ctx, p.cfg.Timeout)
	defer cancel()
	name, err := p.js.StreamNameBySubject(ctx, subject)
	if errors.Is(err, natsjs.ErrStreamNotFound) {
		return nil, fmt.Errorf("no stream takes this subject; %s: %w", remedy, err)
	}
	if err != nil {
		return nil, classify(err)
	}
	stream, err := p.js.Stream(ctx, name)
	if err != nil {
		return nil, classify(err)
	}
	cfg := stream.CachedInfo().Config
	routes := slices.DeleteFunc(slices.Clone(*p.routes.Load()), func(r route) bool { return r.lane.stream == name })
	l := newLane(p.js, cfg, p.cfg)
	for _, filter := range cfg.Subjects {
		routes = append(routes, route{filter, l})
	}
	p.routes.Store(&routes)
	return l, nil
}

// reconsider forgets the lane of a stream that nobody answers for: it may have been deleted, and its subjects be another's.
func (p *Publisher) reconsider(gone *lane, err error) {
	if !errors.Is(err, natsjs.ErrNoStreamResponse) {
		return
	}
	p.lookUp <- struct{}{}
	defer func() { <-p.lookUp }()
	routes := slices.DeleteFunc(slices.Clone(*p.routes.Load()), func(r route) bool { return r.lane == gone })
	p.routes.Store(&routes)
}
