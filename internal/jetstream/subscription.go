package jetstream

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/nats-io/nats.go"
	natsjs "github.com/nats-io/nats.go/jetstream"
)

// The answers to a delivery.
var (
	answerAck      = []byte("+ACK")
	answerNak      = []byte("-NAK")
	answerProgress = []byte("+WPI")
)

// subscription is one call of Subscribe. It outlives its sessions: a message in flight when the broker goes away stays
// in flight, and is answered when it is back.
//
// It pulls by itself instead of through Consume. That asks for more as soon as its callback returns, and what its
// callback has no room for waits where no heartbeat reaches it: handlers that take longer than AckWait would be given
// messages that others have already. Here nothing is asked for that there is no room for, and all that came is kept alive.
type subscription struct {
	cfg   SubscriberConfig
	js    natsjs.JetStream
	nc    *nats.Conn
	topic string
	out   chan *message.Message
	nack  []byte // the answer to a nacked message

	held  *held
	room  int           // how many messages may be held
	freed chan struct{} // holds a token when a message was answered

	ready     *ready // held, to be handed out
	interval  time.Duration
	prompt    *atomic.Bool  // handlers answer by themselves; see Subscriber.Answer
	abandoned chan struct{} // closed when nobody waits for handlers any more
}

func newSubscription(js natsjs.JetStream, cfg SubscriberConfig, topic string) *subscription {
	room := cfg.MaxInFlight + cfg.Ahead
	return &subscription{
		cfg:       cfg,
		js:        js,
		nc:        js.Conn(),
		topic:     topic,
		out:       make(chan *message.Message),
		nack:      fmt.Appendf(nil, `-NAK {"delay":%d}`, cfg.NackDelay.Nanoseconds()),
		held:      newHeld(),
		ready:     newReady(cfg.MaxInFlight, cfg.Key),
		room:      room,
		freed:     make(chan struct{}, 1),
		abandoned: make(chan struct{}),
	}
}

// run reads session after session until ctx ends, and then drains. The first one is nil if the broker was away.
func (s *subscription) run(ctx context.Context, open *session) {
	if open == nil {
		if open = s.reopen(ctx); open == nil {
			close(s.out)
			return
		}
	}
	stop := make(chan struct{})
	var heart sync.WaitGroup
	interval := s.interval
	heart.Go(func() { s.beat(interval, stop) })
	for open != nil {
		err := open.run(ctx)
		open.close(ctx)
		if err == nil {
			break
		}
		s.cfg.Logger.Warn("subscription interrupted", "consumer", s.cfg.Durable, "error", err)
		open = s.reopen(ctx)
	}
	s.drain()
	close(stop)
	heart.Wait()
}

// reopen opens the next session, however long that takes. It returns nil if ctx ended or the connection was closed.
func (s *subscription) reopen(ctx context.Context) *session {
	for pause := (backOff{}); pause.wait(ctx); {
		next, err := s.open(ctx)
		switch {
		case err == nil:
			s.cfg.Logger.Info("subscription resumed", "consumer", s.cfg.Durable)
			return next
		case errors.Is(err, nats.ErrConnectionClosed):
			s.cfg.Logger.Error("subscription ended", "consumer", s.cfg.Durable, "error", err)
			return nil
		case ctx.Err() == nil:
			s.cfg.Logger.Warn("subscription waits", "consumer", s.cfg.Durable, "error", err)
		}
	}
	return nil
}

// receive takes a message that a pull brought.
func (s *subscription) receive(ctx context.Context, m *nats.Msg, suspectTo uint64, stale bool) {
	d, err := newDelivery(ctx, s, m)
	if err != nil {
		s.cfg.Logger.Warn("message dropped", "error", err)
		return
	}
	if !s.held.take(d) {
		return
	}
	d.suspect.Store(stale || d.NumDelivered > 1 || d.Sequence <= suspectTo)
	s.ready.add(d)
}

// offer hands out the messages that are wanted at once.
func (s *subscription) offer() {
	for d := s.ready.next(); d != nil; d = s.ready.next() {
		select {
		case s.out <- d.msg:
			s.handedOut(d)
		default:
			return
		}
	}
}

// handedOut is called when a handler has the message that was next.
func (s *subscription) handedOut(d *delivery) {
	s.ready.take()
	if !s.prompt.Load() {
		go s.watch(d)
	}
}

// watch answers a message as it is acked or nacked. Watermill's messages tell by closing a channel, so it takes a goroutine
// for each; see Subscriber.Answer.
func (s *subscription) watch(d *delivery) {
	select {
	case <-d.msg.Acked():
		s.acked(d)
	case <-d.msg.Nacked():
		s.nacked(d, s.nack)
	case <-s.abandoned:
	}
}

// acked answers a message that was handed out, unless it is answered already.
func (s *subscription) acked(d *delivery) {
	if !d.answered.Swap(true) {
		s.ack(d)
		s.free(d)
	}
}

// nacked is acked for a message that is to come again.
func (s *subscription) nacked(d *delivery, answer []byte) {
	if !d.answered.Swap(true) {
		s.handBack(d, answer)
		s.free(d)
	}
}

// free makes the room of a message that was handed out another's.
func (s *subscription) free(d *delivery) {
	s.ready.done(d)
	select {
	case s.freed <- struct{}{}:
	default:
	}
}

// ack tells the broker that a message is done, and then lets go of it: should the broker just be giving it out again, that
// is not handed out.
func (s *subscription) ack(d *delivery) {
	s.tell(s.held.replyOf(d), answerAck, d)
	s.held.release(d)
	d.cancel()
}

// handBack lets go of a message and then tells the broker, which may give it out again at once, maybe to us.
func (s *subscription) handBack(d *delivery, answer []byte) {
	reply := s.held.replyOf(d)
	s.held.release(d)
	d.cancel()
	s.tell(reply, answer, d)
}

func (s *subscription) tell(reply string, answer []byte, d *delivery) {
	if err := s.nc.Publish(reply, answer); err != nil {
		// It is given out again when its AckWait is over.
		s.cfg.Logger.Debug("answer not sent", "consumer", s.cfg.Durable, "seq", d.Sequence, "error", err)
	}
}

// beat tells the broker of each message that is held for long that it is. One ticker serves all.
func (s *subscription) beat(interval time.Duration, stop <-chan struct{}) {
	ticker := time.NewTicker(interval)
	defer ticker.Stop()
	for {
		select {
		case <-ticker.C:
			if !s.nc.IsConnected() {
				continue // What is published now is kept for later, and the room for that is for acks.
			}
			for _, reply := range s.held.slow() {
				if err := s.nc.Publish(reply, answerProgress); err != nil {
					s.cfg.Logger.Debug("progress not told", "consumer", s.cfg.Durable, "error", err)
					break
				}
			}
		case <-stop:
			return
		}
	}
}

// drain hands back waiting messages, waits for those handed out, and hands back those that take too long.
func (s *subscription) drain() {
	close(s.out)
	for _, d := range s.ready.all() {
		s.handBack(d, answerNak)
	}
	done := s.ready.allDone()
	timer := time.NewTimer(s.cfg.DrainTimeout)
	defer timer.Stop()
	select {
	case <-done:
	case <-timer.C:
		s.cfg.Logger.Warn("messages in flight handed back", "consumer", s.cfg.Durable, "count", len(s.held.all()))
		s.abandon()
		<-done
	}
	// Those who wait for this subscription's end may close the connection next.
	if err := s.nc.FlushTimeout(flushTimeout); err != nil {
		s.cfg.Logger.Debug("last answers not sent", "consumer", s.cfg.Durable, "error", err)
	}
}

// abandon hands back what handlers still have.
func (s *subscription) abandon() {
	for _, d := range s.held.all() {
		select {
		case <-d.msg.Acked(): // in the last moment
			s.acked(d)
		default:
			s.nacked(d, answerNak)
		}
	}
	close(s.abandoned)
}
