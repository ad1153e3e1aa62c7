package jetstream_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/ThreeDotsLabs/watermill"
	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/nats-io/nats.go"
	natsjs "github.com/nats-io/nats.go/jetstream"

	"github.com/fanfarehq/fanfare/internal/jetstream"
)

func subscribe(tb testing.TB, s *jetstream.Subscriber) <-chan *message.Message {
	tb.Helper()
	msgs, err := s.Subscribe(tb.Context(), "")
	if err != nil {
		tb.Fatal(err)
	}
	return msgs
}

func publish(tb testing.TB, js natsjs.JetStream, bodies ...string) {
	tb.Helper()
	for _, body := range bodies {
		if _, err := js.Publish(tb.Context(), subject, []byte(body)); err != nil {
			tb.Fatal(err)
		}
	}
}

func meta(tb testing.TB, msg *message.Message) jetstream.Delivery {
	tb.Helper()
	d, ok := jetstream.Meta(msg)
	if !ok {
		tb.Fatal("the message has no delivery")
	}
	return d
}

// answers lets a test see what the broker is told of deliveries.
func answers(tb testing.TB, js natsjs.JetStream) <-chan *nats.Msg {
	tb.Helper()
	in := make(chan *nats.Msg, 4096)
	sub, err := js.Conn().ChanSubscribe("$JS.ACK.>", in)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { _ = sub.Unsubscribe() })
	return in
}

// impatient is an inbox whose messages go to another when nothing is heard of them for a second.
func impatient() jetstream.Inbox {
	b := inbox()
	b.Consumers[0].AckWait = time.Second
	return b
}

func TestDelivery(t *testing.T) {
	t.Parallel()
	js := newBroker(t).connect()
	apply(t, js, inbox())
	publish(t, js, "before")
	msgs := subscribe(t, newSubscriber(t, js, jetstream.SubscriberConfig{}))
	before := <-msgs
	publish(t, js, "after")
	after := <-msgs
	got, want := meta(t, after), jetstream.Delivery{
		Stream: streamName, Subject: subject, Sequence: 2, Timestamp: meta(t, after).Timestamp, NumDelivered: 1,
	}
	if got != want || got.Timestamp.IsZero() {
		t.Errorf("got %+v, want %+v", got, want)
	}
	if !meta(t, before).Suspect {
		t.Error("what was stored before the session began is not suspect")
	}
	after.SetContext(context.WithValue(after.Context(), "key", "value")) //nolint:staticcheck // as Watermill's router does
	if meta(t, after) != want {
		t.Error("the delivery is lost in a context's child")
	}
	if _, ok := jetstream.Meta(message.NewMessage("", nil)); ok {
		t.Error("a message from elsewhere has a delivery")
	}
	if got := string(after.Payload); got != "after" {
		t.Errorf("got payload %q", got)
	}
	before.Ack()
	after.Ack()
}

func TestNackedComesAgain(t *testing.T) {
	t.Parallel()
	js := newBroker(t).connect()
	apply(t, js, inbox())
	msgs := subscribe(t, newSubscriber(t, js, jetstream.SubscriberConfig{NackDelay: time.Millisecond}))
	publish(t, js, "x")
	for n := range uint64(3) {
		msg := <-msgs
		if d := meta(t, msg); d.NumDelivered != n+1 || d.Suspect != (n > 0) {
			t.Errorf("time %d: got %+v", n+1, d)
		}
		msg.Nack()
		<-msg.Context().Done()
	}
	(<-msgs).Ack()
}

// As long as a message is held, nobody else gets it: neither that which a handler works on nor that which waits to
// be handed out.
func TestHeartbeatKeepsMessages(t *testing.T) {
	t.Parallel()
	js := newBroker(t).connect()
	apply(t, js, impatient())
	heard := answers(t, js)
	msgs := subscribe(t, newSubscriber(t, js, jetstream.SubscriberConfig{MaxInFlight: 2}))
	other := subscribe(t, newSubscriber(t, js, jetstream.SubscriberConfig{MaxInFlight: 2}))
	publish(t, js, "1", "2", "3", "4", "5", "6")
	held := []*message.Message{<-msgs, <-msgs, <-other, <-other} // and one or both hold the others ready
	progress := map[string]int{}
	for kept := 0; kept < 6; { // each three times as long as AckWait
		m := <-heard
		if string(m.Data) != "+WPI" {
			t.Fatalf("heard %q of a message that nobody answered", m.Data)
		}
		if progress[m.Subject]++; progress[m.Subject] == 10 {
			kept++
		}
	}
	for _, msg := range held {
		msg.Ack()
	}
	for range 2 {
		var msg *message.Message
		select {
		case msg = <-msgs:
		case msg = <-other:
		}
		if d := meta(t, msg); d.NumDelivered != 1 {
			t.Errorf("a message that was held was given out %d times", d.NumDelivered)
		}
		msg.Ack()
	}
}

func TestInFlightIsBounded(t *testing.T) {
	t.Parallel()
	js := newBroker(t).connect()
	apply(t, js, inbox())
	msgs := subscribe(t, newSubscriber(t, js, jetstream.SubscriberConfig{MaxInFlight: 4}))
	sendAll(t, newPublisher(t, js, jetstream.PublisherConfig{}), numbered("", 100))
	var handed []*message.Message
	for range 4 {
		handed = append(handed, <-msgs)
	}
	for range 96 {
		select {
		case msg := <-msgs:
			t.Fatalf("%d was handed out while four are in flight", meta(t, msg).Sequence)
		default:
		}
		if meta(t, handed[0]).Sequence%24 == 0 {
			waitForConsumer(t, js, func(i *natsjs.ConsumerInfo) bool { return i.NumAckPending <= 6 }) // two are held ready
		}
		handed[0].Ack()
		handed = append(handed[1:], <-msgs)
	}
	for _, msg := range handed {
		msg.Ack()
	}
}

// waitForConsumer waits until what the broker says of the consumer is as wanted.
func waitForConsumer(tb testing.TB, js natsjs.JetStream, wanted func(*natsjs.ConsumerInfo) bool) {
	tb.Helper()
	consumer, err := js.Consumer(tb.Context(), streamName, durableName)
	if err != nil {
		tb.Fatal(err)
	}
	for {
		info, err := consumer.Info(tb.Context())
		if err != nil {
			tb.Fatal(err)
		}
		if wanted(info) {
			return
		}
	}
}

// drains are the two ways to end a subscription.
var drains = map[string]func(s *jetstream.Subscriber, cancel context.CancelFunc){
	"Close":      func(s *jetstream.Subscriber, _ context.CancelFunc) { _ = s.Close() },
	"end of ctx": func(_ *jetstream.Subscriber, cancel context.CancelFunc) { cancel() },
}

// At the end, what is in flight may finish; what was not handed out goes to others at once.
func TestDrain(t *testing.T) {
	t.Parallel()
	for name, end := range drains {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			js := newBroker(t).connect()
			b := inbox()
			b.Consumers[0].AckWait = time.Hour
			apply(t, js, b)
			s := newSubscriber(t, js, jetstream.SubscriberConfig{MaxInFlight: 2})
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			msgs, err := s.Subscribe(ctx, "")
			if err != nil {
				t.Fatal(err)
			}
			heard := answers(t, js)
			publish(t, js, "1", "2", "3")
			first, second := <-msgs, <-msgs
			waitForConsumer(t, js, func(i *natsjs.ConsumerInfo) bool { return i.NumAckPending == 3 })
			go end(s, cancel)
			if _, open := <-msgs; open {
				t.Fatal("a message was handed out after the end")
			}
			third := <-subscribe(t, newSubscriber(t, js, jetstream.SubscriberConfig{}))
			if d := meta(t, third); d.Sequence != 3 || !d.Suspect {
				t.Errorf("the other got %+v", d)
			}
			if err := first.Context().Err(); err != nil {
				t.Errorf("in flight: %v", err)
			}
			first.Ack()
			second.Nack()
			if err := s.Close(); err != nil {
				t.Error(err)
			}
			got, want := said(heard, "1", "2"), map[string]string{"1": "+ACK", "2": `-NAK {"delay":1000000000}`}
			if !maps.Equal(got, want) {
				t.Errorf("the broker heard %s, want %s", got, want)
			}
			if _, err := s.Subscribe(t.Context(), ""); name == "Close" && !errors.Is(err, jetstream.ErrClosed) {
				t.Errorf("after Close: got %v, want %v", err, jetstream.ErrClosed)
			}
			third.Ack()
		})
	}
}

// said waits for the answers to the messages at these places.
func said(heard <-chan *nats.Msg, places ...string) map[string]string {
	answers := map[string]string{}
	for len(answers) < len(places) {
		m := <-heard
		if place := strings.Split(m.Subject, ".")[5]; slices.Contains(places, place) {
			answers[place] = string(m.Data)
		}
	}
	return answers
}

// What takes longer than DrainTimeout is given to others, and its context ends.
func TestDrainTimeout(t *testing.T) {
	t.Parallel()
	js := newBroker(t).connect()
	apply(t, js, inbox())
	s := newSubscriber(t, js, jetstream.SubscriberConfig{DrainTimeout: time.Millisecond})
	msgs := subscribe(t, s)
	publish(t, js, "1")
	msg := <-msgs
	if err := s.Close(); err != nil {
		t.Error(err)
	}
	if msg.Context().Err() == nil {
		t.Error("the context goes on after DrainTimeout")
	}
	again := <-subscribe(t, newSubscriber(t, js, jetstream.SubscriberConfig{}))
	if d := meta(t, again); d.NumDelivered != 2 {
		t.Errorf("the other got %+v", d)
	}
	again.Ack()
}

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

// newRouter is a router without handlers, and a broker with the inbox for them.
func newRouter(t *testing.T) (natsjs.JetStream, *message.Router) {
	t.Helper()
	js := newBroker(t).connect()
	apply(t, js, inbox())
	router, err := message.NewRouter(message.RouterConfig{}, watermill.NopLogger{})
	if err != nil {
		t.Fatal(err)
	}
	return js, router
}

// In Watermill's router, an error of a handler means nack, and Close drains.
func TestRouter(t *testing.T) {
	t.Parallel()
	js, router := newRouter(t)
	done := make(chan uint64, 10)
	router.AddConsumerHandler("h", "", newSubscriber(t, js, jetstream.SubscriberConfig{NackDelay: time.Millisecond}), func(msg *message.Message) error {
		d := meta(t, msg)
		if d.NumDelivered == 1 {
			return fmt.Errorf("not yet")
		}
		done <- d.NumDelivered
		return nil
	})
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	wg.Go(func() {
		if err := router.Run(ctx); err != nil {
			t.Error(err)
		}
	})
	<-router.Running()
	publish(t, js, "1", "2", "3")
	for range 3 {
		if n := <-done; n != 2 {
			t.Errorf("handled at delivery %d, want 2", n)
		}
	}
	cancel()
	wg.Wait()
}

// A router that is told to stop before it has subscribed ends, and leaves no goroutine behind: see TestMain.
func TestRouterStopsAtOnce(t *testing.T) {
	t.Parallel()
	js, router := newRouter(t)
	sub := newSubscriber(t, js, jetstream.SubscriberConfig{})
	router.AddConsumerHandler("h", "", sub, func(*message.Message) error { return nil })
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := router.Run(ctx); err != nil {
		t.Error(err)
	}
	if err := sub.Close(); err != nil {
		t.Error(err)
	}
}
