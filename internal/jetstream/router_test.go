package jetstream_test

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/ThreeDotsLabs/watermill"
	"github.com/ThreeDotsLabs/watermill/message"
	natsjs "github.com/nats-io/nats.go/jetstream"

	"github.com/fanfarehq/fanfare/internal/jetstream"
)

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
