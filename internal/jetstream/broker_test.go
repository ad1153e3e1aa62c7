package jetstream_test

import (
	"net"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	natsjs "github.com/nats-io/nats.go/jetstream"

	"github.com/fanfarehq/fanfare/internal/jetstream"
)

// broker is a NATS server that syncs every write, reached without a socket, and that can be restarted under its
// connections.
type broker struct {
	tb  testing.TB
	dir string

	mu     sync.Mutex
	server *server.Server
}

func newBroker(tb testing.TB) *broker {
	tb.Helper()
	b := &broker{tb: tb, dir: tb.TempDir()}
	b.start()
	tb.Cleanup(b.stop)
	return b
}

func (b *broker) start() {
	b.tb.Helper()
	s, err := server.NewServer(&server.Options{
		ServerName: "test",
		JetStream:  true,
		StoreDir:   b.dir,
		SyncAlways: true,
		DontListen: true,
		NoSigs:     true,
	})
	if err != nil {
		b.tb.Fatal(err)
	}
	s.Start()
	if !s.ReadyForConnections(2 * time.Minute) {
		b.tb.Fatal("the server is not ready")
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.server = s
}

func (b *broker) stop() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.server.Shutdown()
	b.server.WaitForShutdown()
}

// InProcessConn implements nats.InProcessConnProvider: a connection that comes back comes to the server of that time.
func (b *broker) InProcessConn() (net.Conn, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.server.InProcessConn()
}

// connect returns a JetStream on a connection of its own.
func (b *broker) connect(opts ...nats.Option) natsjs.JetStream {
	b.tb.Helper()
	quiet := func(o *nats.Options) error {
		o.AsyncErrorCB = func(*nats.Conn, *nats.Subscription, error) {}
		o.ReconnectWait = 10 * time.Millisecond
		return nil
	}
	nc, err := jetstream.Config{}.Connect(b.tb.Context(), nil, append([]nats.Option{nats.InProcessServer(b), quiet}, opts...)...)
	if err != nil {
		b.tb.Fatal(err)
	}
	b.tb.Cleanup(nc.Close)
	js, err := natsjs.New(nc)
	if err != nil {
		b.tb.Fatal(err)
	}
	return js
}

const (
	streamName  = "EVENTS"
	durableName = "fanout"
	subject     = "events.acme.order.created"
)

// inbox is a stream of events and its consumer.
func inbox() jetstream.Inbox {
	return jetstream.Inbox{
		Stream: natsjs.StreamConfig{
			Name:               streamName,
			Subjects:           []string{"events.>"},
			Storage:            natsjs.FileStorage,
			Discard:            natsjs.DiscardNew,
			Duplicates:         jetstream.DuplicateWindow,
			AllowAtomicPublish: true,
			AllowDirect:        true,
		},
		Consumers: []natsjs.ConsumerConfig{{
			Durable:       durableName,
			AckPolicy:     natsjs.AckExplicitPolicy,
			AckWait:       jetstream.AckWait,
			MaxDeliver:    -1,
			MaxAckPending: 4096,
		}},
	}
}

func apply(tb testing.TB, js natsjs.JetStream, inboxes ...jetstream.Inbox) {
	tb.Helper()
	if err := jetstream.Apply(tb.Context(), js, inboxes...); err != nil {
		tb.Fatal(err)
	}
}

func newPublisher(tb testing.TB, js natsjs.JetStream, cfg jetstream.PublisherConfig) *jetstream.Publisher {
	tb.Helper()
	if cfg.Timeout == 0 {
		cfg.Timeout = time.Minute // Machines that test are busy.
	}
	p, err := jetstream.NewPublisher(js, cfg)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		if err := p.Close(); err != nil {
			tb.Error(err)
		}
	})
	return p
}

func newSubscriber(tb testing.TB, js natsjs.JetStream, cfg jetstream.SubscriberConfig) *jetstream.Subscriber {
	tb.Helper()
	if cfg.Stream == "" {
		cfg.Stream = streamName
	}
	if cfg.Durable == "" {
		cfg.Durable = durableName
	}
	if cfg.DrainTimeout == 0 {
		cfg.DrainTimeout = time.Minute
	}
	s, err := jetstream.NewSubscriber(js, cfg)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		if err := s.Close(); err != nil {
			tb.Error(err)
		}
	})
	return s
}
