package jetstream_test

import (
	"context"
	"errors"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

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
