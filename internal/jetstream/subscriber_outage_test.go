package jetstream_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	natsjs "github.com/nats-io/nats.go/jetstream"

	"github.com/fanfarehq/fanfare/internal/jetstream"
)

func TestMissingConsumer(t *testing.T) {
	t.Parallel()
	js := newBroker(t).connect()
	s := newSubscriber(t, js, jetstream.SubscriberConfig{})
	check := func(what string) {
		t.Helper()
		if _, err := s.Subscribe(t.Context(), ""); err == nil || !strings.Contains(err.Error(), what+" is missing; run \"fanfare topology apply\"") {
			t.Errorf("got %v, want that the %s is missing", err, what)
		}
	}
	check("stream EVENTS")
	b := inbox()
	b.Consumers = nil
	apply(t, js, b)
	check("consumer fanout of stream EVENTS")
	if _, err := jetstream.NewSubscriber(js, jetstream.SubscriberConfig{Stream: streamName}); err == nil {
		t.Error("a subscriber without a consumer was made")
	}
}

// Who begins while the broker is away waits for it, and ends if nobody waits any more.
func TestSubscribeBeforeTheBrokerIsThere(t *testing.T) {
	t.Parallel()
	b := newBroker(t)
	apply(t, b.connect(), inbox())
	js, err := natsjs.New(b.connect().Conn(), natsjs.WithDefaultTimeout(time.Second))
	if err != nil {
		t.Fatal(err)
	}
	b.stop()
	log := newSignals()
	gone, cancel := context.WithCancel(t.Context())
	ended, err := newSubscriber(t, js, jetstream.SubscriberConfig{}).Subscribe(gone, "")
	if err != nil {
		t.Fatal(err)
	}
	cancel()
	if _, more := <-ended; more {
		t.Error("got a message of a broker that is away")
	}
	msgs := subscribe(t, newSubscriber(t, js, jetstream.SubscriberConfig{Logger: log.logger()}))
	log.wait("subscription waits")
	b.start()
	log.wait("subscription resumed")
	publish(t, js, "1")
	msg := <-msgs
	msg.Ack()
	if string(msg.Payload) != "1" {
		t.Errorf("got %q", msg.Payload)
	}
}

// A subscription survives whatever happens to its consumer, and is never the one that makes it anew.
func TestConsumerLost(t *testing.T) {
	t.Parallel()
	tests := map[string]func(context.Context, natsjs.JetStream) error{
		"consumer": func(ctx context.Context, js natsjs.JetStream) error {
			return js.DeleteConsumer(ctx, streamName, durableName)
		},
		"stream": func(ctx context.Context, js natsjs.JetStream) error { return js.DeleteStream(ctx, streamName) },
	}
	for name, lose := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			js := newBroker(t).connect()
			apply(t, js, inbox())
			log := newSignals()
			msgs := subscribe(t, newSubscriber(t, js, jetstream.SubscriberConfig{Logger: log.logger()}))
			publish(t, js, "1")
			inFlight := <-msgs
			if err := lose(t.Context(), js); err != nil {
				t.Fatal(err)
			}
			log.wait("subscription waits")
			if err := jetstream.Check(t.Context(), js, inbox()); err == nil {
				t.Fatalf("the %s was made anew", name)
			}
			apply(t, js, inbox())
			log.wait("subscription resumed")
			publish(t, js, "2")
			for {
				msg := <-msgs
				if string(msg.Payload) == "2" {
					msg.Ack()
					break
				}
				if !meta(t, msg).Suspect { // The new consumer begins at the first message.
					t.Error("a message that was handed out before is not suspect")
				}
				msg.Ack()
			}
			inFlight.Ack()
		})
	}
}

// A consumer that says nothing is asked anew.
func TestSilence(t *testing.T) {
	t.Parallel()
	b := newBroker(t)
	js := b.connect()
	apply(t, js, inbox())
	requests, err := js.Conn().SubscribeSync("mute.CONSUMER.MSG.NEXT.>")
	if err != nil {
		t.Fatal(err)
	}
	forward, err := js.Conn().Subscribe("mute.STREAM.>", forwarder(js.Conn()))
	if err != nil {
		t.Fatal(err)
	}
	info, err := js.Conn().Subscribe("mute.CONSUMER.INFO.>", forwarder(js.Conn()))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _, _, _ = requests.Unsubscribe(), forward.Unsubscribe(), info.Unsubscribe() }()
	mute, err := natsjs.NewWithAPIPrefix(js.Conn(), "mute")
	if err != nil {
		t.Fatal(err)
	}
	msgs := subscribe(t, newSubscriber(t, mute, jetstream.SubscriberConfig{}.WithSilence(20*time.Millisecond)))
	for range 2 {
		if _, err := requests.NextMsgWithContext(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	publish(t, js, "x")
	m, err := requests.NextMsgWithContext(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if err := js.Conn().PublishRequest("$JS.API."+strings.TrimPrefix(m.Subject, "mute."), m.Reply, m.Data); err != nil {
		t.Fatal(err)
	}
	(<-msgs).Ack()
}

// forwarder passes requests of another prefix to JetStream.
func forwarder(nc *nats.Conn) nats.MsgHandler {
	return func(m *nats.Msg) {
		_ = nc.PublishRequest("$JS.API."+strings.TrimPrefix(m.Subject, "mute."), m.Reply, m.Data)
	}
}

// After the broker came back, what it stored before is suspect, and what is new is not.
func TestSuspectAfterRestart(t *testing.T) {
	t.Parallel()
	b := newBroker(t)
	js := b.connect()
	apply(t, js, inbox())
	log := newSignals()
	msgs := subscribe(t, newSubscriber(t, js, jetstream.SubscriberConfig{Logger: log.logger()}))
	publish(t, js, "1", "2")
	for range 2 {
		msg := <-msgs
		if meta(t, msg).Suspect {
			t.Error("a new message is suspect")
		}
		msg.Ack()
	}
	if err := js.Conn().Flush(); err != nil {
		t.Fatal(err)
	}
	publish(t, js, "held")
	held := <-msgs
	if meta(t, held).Suspect {
		t.Error("a new message is suspect")
	}
	// As after a crash: the broker forgot what was acked, and even what was handed out.
	b.stop()
	forgotten, err := filepath.Glob(filepath.Join(b.dir, "jetstream", "*", "streams", streamName, "obs", durableName, "o.dat"))
	if err != nil || len(forgotten) != 1 {
		t.Fatalf("the consumer's state: %v, %v", forgotten, err)
	}
	if err := os.Remove(forgotten[0]); err != nil {
		t.Fatal(err)
	}
	b.start()
	log.wait("subscription resumed")
	if !meta(t, held).Suspect {
		t.Error("a message that was held while the connection was lost is not suspect")
	}
	publish(t, js, "4")
	for _, suspect := range []bool{true, true, false} { // The one that is held does not come again.
		msg := <-msgs
		if d := meta(t, msg); d.Suspect != suspect || d.NumDelivered != 1 {
			t.Errorf("got %+v, want suspect %t", d, suspect)
		}
		msg.Ack()
	}
	held.Ack()
}

// While the broker restarts under load, nothing is lost, and in the end nothing is left.
func TestSubscribeWhileBrokerRestarts(t *testing.T) {
	t.Parallel()
	b := newBroker(t)
	js := b.connect()
	apply(t, js, impatient())
	p := newPublisher(t, js, jetstream.PublisherConfig{Dedupe: true})
	const n = 4000
	var seen sync.Map
	var wg sync.WaitGroup
	halves := make(chan struct{}, n)
	for range 2 {
		msgs := subscribe(t, newSubscriber(t, b.connect(), jetstream.SubscriberConfig{NackDelay: time.Millisecond}))
		go func() {
			for msg := range msgs {
				if d := meta(t, msg); d.Sequence%7 == 0 && d.NumDelivered == 1 {
					msg.Nack()
					continue
				}
				if _, again := seen.LoadOrStore(msg.UUID, true); !again {
					halves <- struct{}{}
				}
				msg.Ack()
			}
		}()
	}
	wg.Go(func() {
		for _, id := range numbered("", n) {
			for {
				_, err := p.Send(t.Context(), subject, text(id, ""))
				if err == nil {
					break
				}
				if !errors.Is(err, jetstream.ErrUnavailable) {
					t.Error(err)
					return
				}
			}
		}
	})
	for i := range n {
		<-halves
		if i == n/3 || i == 2*n/3 {
			b.stop()
			b.start()
		}
	}
	wg.Wait()
	waitForConsumer(t, js, func(i *natsjs.ConsumerInfo) bool { return i.NumAckPending == 0 && i.NumPending == 0 })
}

// The end of the connection is the end of its subscriptions.
func TestConnectionClosed(t *testing.T) {
	t.Parallel()
	b := newBroker(t)
	apply(t, b.connect(), inbox())
	js := b.connect()
	s := newSubscriber(t, js, jetstream.SubscriberConfig{})
	msgs := subscribe(t, s)
	js.Conn().Close()
	if _, open := <-msgs; open {
		t.Error("got a message of a closed connection")
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
}
