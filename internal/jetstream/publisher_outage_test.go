package jetstream_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/fanfarehq/fanfare/internal/jetstream"
)

// A stream that was replaced by another with the same subjects is found again.
func TestStreamReplaced(t *testing.T) {
	t.Parallel()
	js := newBroker(t).connect()
	apply(t, js, inbox())
	p := newPublisher(t, js, jetstream.PublisherConfig{})
	sendAll(t, p, numbered("a", 10))
	if err := js.DeleteStream(t.Context(), streamName); err != nil {
		t.Fatal(err)
	}
	if _, err := p.Send(t.Context(), subject, text("", "")); !errors.Is(err, jetstream.ErrUnavailable) {
		t.Errorf("without a stream: got %v, want %v", err, jetstream.ErrUnavailable)
	}
	other := inbox()
	other.Stream.Name = "OTHER"
	apply(t, js, other)
	if ack, err := p.Send(t.Context(), subject, text("", "")); err != nil || ack.Sequence != 1 {
		t.Errorf("got %+v, %v, want place 1", ack, err)
	}
}

func TestBrokerAway(t *testing.T) {
	t.Parallel()
	b := newBroker(t)
	js := b.connect()
	apply(t, js, inbox())
	sendAll(t, newPublisher(t, js, jetstream.PublisherConfig{Dedupe: true}), numbered("before-", 10))
	b.stop()
	p := newPublisher(t, js, jetstream.PublisherConfig{Dedupe: true, Timeout: 50 * time.Millisecond})
	var wg sync.WaitGroup
	for _, id := range numbered("during-", 200) {
		wg.Go(func() {
			if _, err := p.Send(t.Context(), subject, text(id, "")); !errors.Is(err, jetstream.ErrUnavailable) {
				t.Errorf("got %v, want %v", err, jetstream.ErrUnavailable)
			}
		})
	}
	wg.Wait()
	out := make([]jetstream.Outgoing, 10_000) // one after the other they would wait for minutes
	for i := range out {
		out[i] = jetstream.Outgoing{Subject: subject, Message: text("", "")}
	}
	p.SendAll(t.Context(), out)
	if err := out[len(out)-1].Err; !errors.Is(err, jetstream.ErrUnavailable) {
		t.Errorf("of many: got %v, want %v", err, jetstream.ErrUnavailable)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
	defer cancel()
	if _, err := p.Send(ctx, subject, text("", "")); !errors.Is(err, jetstream.ErrUnavailable) {
		t.Errorf("at the caller's deadline: got %v, want %v", err, jetstream.ErrUnavailable)
	}
	b.start()
	p = newPublisher(t, js, jetstream.PublisherConfig{Dedupe: true})
	for _, id := range numbered("during-", 200) {
		for {
			if _, err := p.Send(t.Context(), subject, text(id, "")); err == nil {
				break
			} else if !errors.Is(err, jetstream.ErrUnavailable) {
				t.Fatal(err)
			}
		}
	}
}

// While the broker restarts under load, each send is answered: with a place that holds, or as unknown.
func TestRestartUnderLoad(t *testing.T) {
	t.Parallel()
	b := newBroker(t)
	js := b.connect()
	apply(t, js, inbox())
	p := newPublisher(t, js, jetstream.PublisherConfig{Dedupe: true, Timeout: time.Second})
	const callers, each = 200, 30
	var wg sync.WaitGroup
	var places sync.Map
	var unknown atomic.Int64
	restart := make(chan struct{}, callers)
	for c := range callers {
		wg.Go(func() {
			for i := range each {
				id := fmt.Sprintf("%d-%d", c, i)
				for {
					ack, err := p.Send(t.Context(), subject, text(id, id))
					if err == nil {
						places.Store(id, ack.Sequence)
						break
					}
					if !errors.Is(err, jetstream.ErrUnavailable) {
						t.Error(err)
						return
					}
					unknown.Add(1)
				}
				if i == each/3 || i == 2*each/3 {
					restart <- struct{}{}
				}
			}
		})
	}
	for range 2 {
		for range callers {
			<-restart
		}
		b.stop()
		b.start()
	}
	wg.Wait()
	msgs := stored(t, js)
	for c := range callers {
		for i := range each {
			id := fmt.Sprintf("%d-%d", c, i)
			place, _ := places.Load(id)
			if m := msgs[place.(uint64)]; m == nil || !bytes.Equal(m.Data, []byte(id)) {
				t.Fatalf("%s is not at its place %d", id, place)
			}
		}
	}
	t.Logf("%d messages stored for %d sends, %d answers were unknown", len(msgs), callers*each, unknown.Load())
}

// Of a connection that was closed, nobody waits for the return.
func TestSendOnClosedConnection(t *testing.T) {
	t.Parallel()
	b := newBroker(t)
	js := b.connect()
	apply(t, js, inbox())
	p := newPublisher(t, js, jetstream.PublisherConfig{Timeout: time.Hour})
	sendAll(t, p, numbered("", 2))
	js.Conn().Close()
	if _, err := p.Send(t.Context(), subject, text("", "")); !errors.Is(err, jetstream.ErrUnavailable) {
		t.Errorf("got %v, want %v", err, jetstream.ErrUnavailable)
	}
}

func TestCallerGone(t *testing.T) {
	t.Parallel()
	js := newBroker(t).connect()
	apply(t, js, inbox())
	p := newPublisher(t, js, jetstream.PublisherConfig{})
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := p.Send(ctx, subject, text("", "")); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, want %v", err, context.Canceled)
	}
}
