package jetstream_test

import (
	"strings"
	"testing"

	"github.com/fanfarehq/fanfare/internal/jetstream"
)

// The messages of a key that fills all its handlers and the room to wait do not keep those of another back.
func TestKeysAreServedInTurn(t *testing.T) {
	t.Parallel()
	js := newBroker(t).connect()
	in := inbox()
	in.Stream.Subjects = []string{"events.>"}
	apply(t, js, in)
	sub := newSubscriber(t, js, jetstream.SubscriberConfig{
		Stream: in.Stream.Name, Durable: in.Consumers[0].Durable, MaxInFlight: 16, Ahead: 100,
		Key: func(subject string) string { return strings.Split(subject, ".")[1] },
	})
	send := func(subject string, n int) {
		for range n {
			if _, err := js.Publish(t.Context(), subject, []byte("x")); err != nil {
				t.Fatal(err)
			}
		}
	}
	send("events.flood.x", 60)
	messages := subscribe(t, sub)
	// A key alone leaves an eighth of the handlers to others.
	for range 14 {
		if d := meta(t, <-messages); d.Subject != "events.flood.x" {
			t.Fatalf("got %s", d.Subject)
		}
	}
	send("events.quiet.x", 2)
	for range 2 {
		msg := <-messages
		if d := meta(t, msg); d.Subject != "events.quiet.x" {
			t.Fatalf("got %s, want the other key's message first", d.Subject)
		}
	}
	select {
	case msg := <-messages:
		t.Errorf("got %s beyond MaxInFlight", meta(t, msg).Subject)
	default:
	}
}
