package jetstream_test

import (
	"context"
	"errors"
	"maps"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/nats-io/nats.go"
	natsjs "github.com/nats-io/nats.go/jetstream"

	"github.com/fanfarehq/fanfare/internal/jetstream"
)

// told collects what the broker is told until the consumer is done with n messages: by message, the answers in their order.
func told(t *testing.T, js natsjs.JetStream, heard <-chan *nats.Msg, n uint64) map[string]string {
	t.Helper()
	waitForConsumer(t, js, func(info *natsjs.ConsumerInfo) bool { return info.AckFloor.Stream == n && info.NumAckPending == 0 })
	if err := js.Conn().Flush(); err != nil {
		t.Fatal(err)
	}
	all := map[string]string{}
	for len(heard) > 0 {
		m := <-heard
		answer, _, _ := strings.Cut(string(m.Data), " ")
		all[strings.Split(m.Subject, ".")[5]] += answer
	}
	return all
}

// badOnce publishes nothing the first time.
type badOnce struct {
	message.Publisher
	tried sync.Map
}

func (p *badOnce) Publish(topic string, msgs ...*message.Message) error {
	if _, again := p.tried.LoadOrStore(msgs[0].UUID, true); !again {
		return errors.New("not yet")
	}
	return p.Publisher.Publish(topic, msgs...)
}

// With Answer each message is answered once, by what its handler returned or by what became of what it produced.
func TestAnswer(t *testing.T) {
	t.Parallel()
	js, router := newRouter(t)
	b := inbox()
	b.Stream.Name, b.Stream.Subjects, b.Consumers = "OTHER", []string{"other"}, nil
	apply(t, js, b)
	heard := answers(t, js)
	s := newSubscriber(t, js, jetstream.SubscriberConfig{NackDelay: time.Millisecond})
	router.AddMiddleware(s.Answer)
	to := &badOnce{Publisher: newPublisher(t, js, jetstream.PublisherConfig{})}
	router.AddHandler("h", "", s, "other", to, func(msg *message.Message) ([]*message.Message, error) {
		again := meta(t, msg).NumDelivered > 1
		switch string(msg.Payload) {
		case "fails":
			if !again {
				return nil, errors.New("not yet")
			}
		case "panics":
			if !again {
				panic("not yet")
			}
		case "produces":
			return []*message.Message{message.NewMessage("produced", nil)}, nil
		}
		return nil, nil
	})
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	wg.Go(func() {
		if err := router.Run(ctx); err != nil {
			t.Error(err)
		}
	})
	<-router.Running()
	publish(t, js, "works", "fails", "panics", "produces")
	got := told(t, js, heard, 4)
	if want := map[string]string{"1": "+ACK", "2": "-NAK+ACK", "3": "-NAK+ACK", "4": "-NAK+ACK"}; !maps.Equal(got, want) {
		t.Errorf("the broker was told %v, want %v", got, want)
	}
	cancel()
	wg.Wait()
}

// What a handler returns after its message went back is not told any more.
func TestAnswerThatComesTooLate(t *testing.T) {
	t.Parallel()
	js := newBroker(t).connect()
	apply(t, js, inbox())
	heard := answers(t, js)
	s := newSubscriber(t, js, jetstream.SubscriberConfig{DrainTimeout: time.Millisecond})
	goOn := make(chan struct{})
	handle := s.Answer(func(*message.Message) ([]*message.Message, error) {
		<-goOn
		return nil, nil
	})
	msgs := subscribe(t, s)
	publish(t, js, "slow")
	msg := <-msgs
	var wg sync.WaitGroup
	wg.Go(func() {
		if _, err := handle(msg); err != nil {
			t.Error(err)
		}
	})
	if err := s.Close(); err != nil {
		t.Error(err)
	}
	if msg.Context().Err() == nil {
		t.Error("the context goes on after DrainTimeout")
	}
	close(goOn)
	wg.Wait()
	next := newSubscriber(t, js, jetstream.SubscriberConfig{})
	again := <-subscribe(t, next)
	again.Ack()
	if got, want := told(t, js, heard, 1), "-NAK+ACK"; got["1"] != want {
		t.Errorf("the broker was told %v, want %s", got, want)
	}
}

// Without a Subscriber's delivery there is nothing to answer.
func TestAnswerToAnotherMessage(t *testing.T) {
	t.Parallel()
	s := newSubscriber(t, newBroker(t).connect(), jetstream.SubscriberConfig{})
	want := errors.New("as it was")
	if _, err := s.Answer(func(*message.Message) ([]*message.Message, error) { return nil, want })(message.NewMessage("", nil)); !errors.Is(err, want) {
		t.Errorf("got %v, want %v", err, want)
	}
}
