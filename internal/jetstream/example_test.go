package jetstream_test

import (
	"context"
	"fmt"
	"os"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	natsjs "github.com/nats-io/nats.go/jetstream"

	"github.com/fanfarehq/fanfare/internal/jetstream"
)

// One message on its way through a stream.
func Example() {
	ctx := context.Background()
	dir, err := os.MkdirTemp("", "example")
	if err != nil {
		panic(err)
	}
	defer os.RemoveAll(dir)
	s, err := server.NewServer(&server.Options{JetStream: true, StoreDir: dir, SyncAlways: true, DontListen: true, NoSigs: true})
	if err != nil {
		panic(err)
	}
	s.Start()
	defer s.WaitForShutdown()
	defer s.Shutdown()

	nc, err := jetstream.Config{}.Connect(ctx, nil, nats.InProcessServer(s))
	if err != nil {
		panic(err)
	}
	defer nc.Close()
	js, err := natsjs.New(nc)
	if err != nil {
		panic(err)
	}
	err = jetstream.Apply(ctx, js, jetstream.Inbox{
		Stream:    natsjs.StreamConfig{Name: "EVENTS", Subjects: []string{"events.>"}, AllowAtomicPublish: true},
		Consumers: []natsjs.ConsumerConfig{{Durable: "fanout", AckWait: jetstream.AckWait}},
	})
	if err != nil {
		panic(err)
	}
	pub, err := jetstream.NewPublisher(js, jetstream.PublisherConfig{Dedupe: true})
	if err != nil {
		panic(err)
	}
	defer func() { _ = pub.Close() }()
	sub, err := jetstream.NewSubscriber(js, jetstream.SubscriberConfig{Stream: "EVENTS", Durable: "fanout"})
	if err != nil {
		panic(err)
	}
	defer func() { _ = sub.Close() }()
	msgs, err := sub.Subscribe(ctx, "")
	if err != nil {
		panic(err)
	}

	ack, err := pub.Send(ctx, "events.acme.order.created", message.NewMessage("acme.1", []byte(`{"total":12}`)))
	fmt.Println(ack, err)
	ack, err = pub.Send(ctx, "events.acme.order.created", message.NewMessage("acme.1", []byte(`{"total":12}`)))
	fmt.Println(ack, err)
	msg := <-msgs
	from, _ := jetstream.Meta(msg)
	fmt.Println(from.Stream, from.Sequence, from.Suspect, string(msg.Payload))
	msg.Ack()
	// Output:
	// {1 false} <nil>
	// {1 true} <nil>
	// EVENTS 1 false {"total":12}
}
