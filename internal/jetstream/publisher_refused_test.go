package jetstream_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/ThreeDotsLabs/watermill/message"

	"github.com/fanfarehq/fanfare/internal/jetstream"
)

func TestFullStream(t *testing.T) {
	t.Parallel()
	for _, batches := range []bool{true, false} {
		t.Run(fmt.Sprintf("batches %t", batches), func(t *testing.T) {
			t.Parallel()
			js := newBroker(t).connect()
			b := inbox()
			b.Stream.MaxBytes = 512 << 10
			b.Stream.AllowAtomicPublish = batches
			apply(t, js, b)
			p := newPublisher(t, js, jetstream.PublisherConfig{})
			var ok, full atomic.Int64
			var wg sync.WaitGroup
			for range 1000 {
				wg.Go(func() {
					switch _, err := p.Send(t.Context(), subject, kilobyte("")); {
					case err == nil:
						ok.Add(1)
					case errors.Is(err, jetstream.ErrFull):
						full.Add(1)
					default:
						t.Error(err)
					}
				})
			}
			wg.Wait()
			if got := int64(len(stored(t, js))); got != ok.Load() || full.Load() == 0 {
				t.Errorf("%d stored, %d sends said so, %d said full", got, ok.Load(), full.Load())
			}
		})
	}
}

func TestTooLarge(t *testing.T) {
	t.Parallel()
	js := newBroker(t).connect()
	b := inbox()
	b.Stream.MaxMsgSize = 512 << 10
	apply(t, js, b)
	p := newPublisher(t, js, jetstream.PublisherConfig{})
	tests := []struct {
		name string
		msg  *message.Message
	}{
		{"for the broker", text("", strings.Repeat("x", 1<<20))},
		{"for the stream", text("", strings.Repeat("x", 600<<10))},
		{"its headers", &message.Message{Metadata: message.Metadata{"k": strings.Repeat("x", 1<<16)}}},
	}
	for _, tt := range tests {
		if _, err := p.Send(t.Context(), subject, tt.msg); !errors.Is(err, jetstream.ErrTooLarge) {
			t.Errorf("%s: got %v, want %v", tt.name, err, jetstream.ErrTooLarge)
		}
	}
	if err := p.Publish(subject, text("", "a"), tests[1].msg, text("", "b")); !errors.Is(err, jetstream.ErrTooLarge) {
		t.Errorf("among others: got %v, want %v", err, jetstream.ErrTooLarge)
	}
	for _, place := range []int{0, 150, 299} { // in a batch
		out := make([]jetstream.Outgoing, 300)
		for i := range out {
			out[i] = jetstream.Outgoing{Subject: subject, Message: text("", "")}
		}
		out[place].Message = tests[1].msg
		p.SendAll(t.Context(), out)
		for i := range out {
			if err := out[i].Err; (i == place) != errors.Is(err, jetstream.ErrTooLarge) || i != place && err != nil {
				t.Errorf("%d of 300, with the large one at %d: got %v", i, place, err)
			}
		}
	}
	if got, want := len(stored(t, js)), 2+3*299; got != want {
		t.Errorf("got %d messages, want %d", got, want)
	}
}

func TestNoStream(t *testing.T) {
	t.Parallel()
	p := newPublisher(t, newBroker(t).connect(), jetstream.PublisherConfig{})
	_, err := p.Send(t.Context(), "nowhere", text("", ""))
	if err == nil || errors.Is(err, jetstream.ErrUnavailable) || !strings.Contains(err.Error(), "fanfare topology apply") {
		t.Errorf("got %v, want an error that says what to do", err)
	}
}

// A publisher without room sends nothing, and says why.
func TestAPublisherWithoutRoomRefuses(t *testing.T) {
	t.Parallel()
	js := newBroker(t).connect()
	apply(t, js, inbox())
	full := errors.New("the disk is full")
	room := full
	p, err := jetstream.NewPublisher(js, jetstream.PublisherConfig{Room: func(context.Context) error { return room }})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = p.Close() }()
	_, err = p.Send(t.Context(), "events.a", message.NewMessage("1", nil))
	if !errors.Is(err, jetstream.ErrNoRoom) || !errors.Is(err, jetstream.ErrFull) || !errors.Is(err, full) {
		t.Errorf("got %v", err)
	}
	room = nil
	if _, err := p.Send(t.Context(), "events.a", message.NewMessage("1", nil)); err != nil || p.Trouble() != nil {
		t.Errorf("with room: got %v, trouble %v", err, p.Trouble())
	}
	if got := len(stored(t, js)); got != 1 {
		t.Errorf("%d messages are stored, want the one that there was room for", got)
	}
}

// CanPublish tells whether a message would be stored, and stores none.
func TestCanPublish(t *testing.T) {
	t.Parallel()
	js := newBroker(t).connect()
	b := inbox()
	b.Stream.MaxBytes = 3 << 20
	apply(t, js, b)
	if err := jetstream.CanPublish(t.Context(), js, "EVENTS", "events.a"); err != nil {
		t.Errorf("got %v", err)
	}
	if got := len(stored(t, js)); got != 0 {
		t.Errorf("%d messages are stored", got)
	}
	for range 3 {
		if _, err := js.Publish(t.Context(), "events.a", make([]byte, 900<<10)); err != nil {
			t.Fatal(err)
		}
	}
	if err := jetstream.CanPublish(t.Context(), js, "EVENTS", "events.a"); err == nil || !strings.Contains(err.Error(), "is full") {
		t.Errorf("of a full stream: got %v", err)
	}
}
