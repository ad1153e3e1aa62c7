package jetstream_test

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/ThreeDotsLabs/watermill/pubsub/tests"
	natsjs "github.com/nats-io/nats.go/jetstream"

	"github.com/fanfarehq/fanfare/internal/jetstream"
)

// suite makes the streams and consumers that Watermill's suite expects to be made by the first who needs them.
type suite struct {
	*jetstream.Subscriber
	js       natsjs.JetStream
	durable  string
	inFlight int
}

// SubscribeInitialize implements message.SubscribeInitializer.
func (s suite) SubscribeInitialize(topic string) error {
	b := inbox()
	b.Stream.Name = strings.ToUpper(topic)
	b.Stream.Subjects = []string{topic}
	b.Consumers[0].Durable = s.durable
	if s.inFlight == 1 {
		b.Consumers[0].MaxAckPending = 1
	}
	return jetstream.Apply(context.Background(), s.js, b)
}

func (b *broker) suite(inFlight int) tests.ConsumerGroupPubSubConstructor {
	return func(t *testing.T, durable string) (message.Publisher, message.Subscriber) {
		js := b.connect()
		sub, err := jetstream.NewSubscriber(js, jetstream.SubscriberConfig{
			Durable:      durable,
			MaxInFlight:  inFlight,
			NackDelay:    10 * time.Millisecond,
			DrainTimeout: 100 * time.Millisecond,
		})
		if err != nil {
			t.Fatal(err)
		}
		return newPublisher(t, js, jetstream.PublisherConfig{Dedupe: true}), suite{sub, js, durable, inFlight}
	}
}

func (b *broker) suiteOfOne(inFlight int) tests.PubSubConstructor {
	return func(t *testing.T) (message.Publisher, message.Subscriber) { return b.suite(inFlight)(t, "suite") }
}

// Many messages in flight, and so no order: how all stages run.
func TestPubSub(t *testing.T) {
	t.Parallel()
	b := newBroker(t)
	tests.TestPubSub(t, tests.Features{
		ConsumerGroups: true,
		Persistent:     true,
	}, b.suiteOfOne(256), b.suite(256))
}

// One message in flight, and so in order.
func TestPubSubInOrder(t *testing.T) {
	t.Parallel()
	b := newBroker(t)
	tests.TestPubSub(t, tests.Features{
		ConsumerGroups:                      true,
		Persistent:                          true,
		GuaranteedOrder:                     true,
		GuaranteedOrderWithSingleSubscriber: true,
	}, b.suiteOfOne(1), b.suite(1))
}

func TestPubSubStress(t *testing.T) {
	t.Parallel()
	b := newBroker(t)
	tests.TestPubSubStressTest(t, tests.Features{
		ConsumerGroups: true,
		Persistent:     true,
	}, b.suiteOfOne(256), b.suite(256))
}
