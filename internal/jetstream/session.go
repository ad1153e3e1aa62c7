package jetstream

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/nats-io/nats.go"
	natsjs "github.com/nats-io/nats.go/jetstream"
)

const (
	// pullExpiry is how long the broker remembers a request for messages.
	pullExpiry = 30 * time.Second
	// pullBytes is what the broker sends at once. It cuts off a client with more than 64 MiB to be read.
	pullBytes = 32 << 20

	statusHeartbeat = "100"
	// flushTimeout bounds the last exchange with a broker at an end.
	flushTimeout = 2 * time.Second
	// statusRoom is room for the words that the broker sends beside messages.
	statusRoom = 64

	// pauseEvery is how often a session checks whether its process was stopped (SIGSTOP, a suspended machine) for longer than
	// pauseLost: the broker may have given its messages to others. Messages that were sent to it before are read
	// within staleFor afterwards.
	pauseEvery = time.Second
	pauseLost  = 5 * time.Second
	staleFor   = 5 * time.Second
)

var (
	errConnectionLost = errors.New("connection lost")
	errSilence        = errors.New("the broker fell silent")
)

// session is the time in which a subscription reads from one incarnation of the consumer: until the connection, the
// consumer or its leader is lost.
type session struct {
	*subscription
	in        chan *nats.Msg
	inbox     *nats.Subscription
	requests  string // the subject of requests for messages
	status    chan nats.Status
	suspectTo uint64 // the last message that was stored before the session began
	asked     int    // how many messages the broker was asked for and did not send yet
	// askedBytes is how many bytes they may have, about: the broker counts headers as well.
	askedBytes int
	heard      bool // anything, since the last look
	looked     time.Time
	stale      time.Time // until then, messages may have been sent before the process was stopped
}

// open binds to the consumer.
func (s *subscription) open(ctx context.Context) (*session, error) {
	ctx, cancel := context.WithTimeout(ctx, s.js.Options().DefaultTimeout)
	defer cancel()
	if s.nc.IsClosed() {
		return nil, nats.ErrConnectionClosed
	}
	// From before the look at the stream: whatever breaks after it ends the session.
	status := s.nc.StatusChanged(nats.RECONNECTING, nats.CLOSED)
	o := &session{subscription: s, status: status}
	if err := o.bind(ctx); err != nil {
		s.nc.RemoveStatusListener(status)
		return nil, err
	}
	return o, nil
}

func (o *session) bind(ctx context.Context) error {
	name := o.cfg.Stream
	if name == "" {
		var err error
		if name, err = o.js.StreamNameBySubject(ctx, o.topic); err != nil {
			return missing(err, "stream of subject "+o.topic)
		}
	}
	stream, err := o.js.Stream(ctx, name)
	if err != nil {
		return missing(err, "stream "+name)
	}
	consumer, err := stream.Consumer(ctx, o.cfg.Durable)
	if err != nil {
		return missing(err, "consumer "+o.cfg.Durable+" of stream "+name)
	}
	cfg := consumer.CachedInfo().Config
	if cfg.AckPolicy != natsjs.AckExplicitPolicy {
		return fmt.Errorf("consumer %s of stream %s does not demand explicit acks; %s", o.cfg.Durable, name, remedy)
	}
	if o.interval = cfg.AckWait / 3; o.cfg.Heartbeat > 0 {
		o.interval = min(o.interval, o.cfg.Heartbeat)
	}
	o.suspectTo = stream.CachedInfo().State.LastSeq
	o.requests = apiPrefix(o.js) + "CONSUMER.MSG.NEXT." + name + "." + o.cfg.Durable
	o.in = make(chan *nats.Msg, o.room+statusRoom)
	o.inbox, err = o.nc.ChanSubscribe(o.nc.NewInbox(), o.in)
	return err
}

func missing(err error, what string) error {
	if errors.Is(err, natsjs.ErrStreamNotFound) || errors.Is(err, natsjs.ErrConsumerNotFound) {
		return fmt.Errorf("%s is missing; %s: %w", what, remedy, err)
	}
	return fmt.Errorf("look up %s: %w", what, Classify(err))
}

// run reads until ctx ends, which is no error, or until the session does.
func (o *session) run(ctx context.Context) error {
	pulse, pause := time.NewTicker(o.cfg.silence), time.NewTicker(pauseEvery)
	defer pulse.Stop()
	defer pause.Stop()
	o.looked = time.Now()
	for {
		o.look()
		if err := o.ask(); err != nil {
			return err
		}
		var out chan<- *message.Message
		var next *message.Message
		d := o.ready.next()
		if d != nil {
			out, next = o.out, d.msg
		}
		select {
		case m := <-o.in:
			o.look()
			if err := o.hear(ctx, m); err != nil {
				return err
			}
			o.offer()
		case out <- next:
			o.handedOut(d)
		case <-o.freed:
		case <-pause.C:
		case <-pulse.C:
			if o.asked > 0 && !o.heard {
				return errSilence
			}
			o.heard = false
		case <-o.status:
			return errConnectionLost
		case <-ctx.Done():
			return nil
		}
	}
}

// look notices that the process was stopped for a while.
func (o *session) look() {
	now := time.Now()
	if now.Sub(o.looked) > pauseLost {
		o.cfg.Logger.Warn("process was stopped", "consumer", o.cfg.Durable, "for", now.Sub(o.looked))
		o.held.doubt()
		o.stale = now.Add(staleFor)
	}
	o.looked = now
}

// ask asks the broker for as many messages as there is room for. It waits until that is worth a request: there is
// always room for those that handlers could take.
func (o *session) ask() error {
	if o.asked == 0 {
		o.askedBytes = 0
	}
	held, heldBytes := o.held.size()
	room, bytes := o.room-held-o.asked, o.cfg.MaxBytes-heldBytes-o.askedBytes
	// A request that is smaller than the next message would be refused, again and again.
	if room < max(1, min(o.cfg.Ahead, 256)/2) || bytes < o.cfg.MaxBytes/4 {
		return nil
	}
	bytes = min(bytes, pullBytes)
	request, err := json.Marshal(pull{Batch: room, MaxBytes: bytes, Expires: pullExpiry, Heartbeat: o.cfg.silence / 2})
	if err != nil {
		return fmt.Errorf("encode request: %w", err)
	}
	if err := o.nc.PublishRequest(o.requests, o.inbox.Subject, request); err != nil {
		return fmt.Errorf("ask for messages: %w", err)
	}
	o.asked += room
	o.askedBytes += bytes
	o.heard = true // It was not asked before, and so need not have said anything.
	return nil
}

// pull is the request for messages.
type pull struct {
	Batch     int           `json:"batch"`
	MaxBytes  int           `json:"max_bytes"`
	Expires   time.Duration `json:"expires"`
	Heartbeat time.Duration `json:"idle_heartbeat"`
}

// hear takes what the broker sent: a message, or a word about a request.
func (o *session) hear(ctx context.Context, m *nats.Msg) error {
	o.heard = true
	if m.Reply != "" {
		o.asked--
		o.askedBytes -= len(m.Data)
		o.receive(ctx, m, o.suspectTo, o.looked.Before(o.stale))
		return nil
	}
	status := m.Header.Get("Status")
	if status == statusHeartbeat {
		return nil
	}
	if left, err := strconv.Atoi(m.Header.Get("Nats-Pending-Messages")); err == nil {
		o.asked -= left // A request ended, by its age or its bytes, with so many messages not sent.
		if left, err := strconv.Atoi(m.Header.Get("Nats-Pending-Bytes")); err == nil {
			o.askedBytes -= left
		}
		return nil
	}
	return fmt.Errorf("the broker ended a request: %s %s", status, m.Header.Get("Description"))
}

// close ends the session, whose last messages stay held: they come before those of the next session, which may bring
// them again.
func (o *session) close(ctx context.Context) {
	o.nc.RemoveStatusListener(o.status)
	if o.nc.IsConnected() {
		// Once the broker knows, nothing more is sent. What was is here after the flush, or goes to others at once, when the
		// broker finds that nobody listens.
		_ = o.inbox.Drain()
		_ = o.nc.FlushTimeout(flushTimeout)
	} else {
		_ = o.inbox.Unsubscribe()
	}
	for {
		select {
		case m := <-o.in:
			_ = o.hear(ctx, m)
		default:
			o.held.doubt()
			return
		}
	}
}

// apiPrefix returns the subject of JetStream's API, up to the dot.
func apiPrefix(js natsjs.JetStream) string {
	switch opts := js.Options(); {
	case opts.Domain != "":
		return "$JS." + opts.Domain + ".API."
	case opts.APIPrefix != "":
		return opts.APIPrefix + "."
	default:
		return natsjs.DefaultAPIPrefix
	}
}
