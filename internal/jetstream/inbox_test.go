package jetstream_test

import (
	"strings"
	"sync"
	"testing"
	"time"

	natsjs "github.com/nats-io/nats.go/jetstream"

	"github.com/fanfarehq/fanfare/internal/jetstream"
)

func TestApplyAndCheck(t *testing.T) {
	t.Parallel()
	js := newBroker(t).connect()
	wrong := func(b jetstream.Inbox) string {
		t.Helper()
		if err := jetstream.Check(t.Context(), js, b); err != nil {
			return err.Error()
		}
		return ""
	}
	const end = `: run "fanfare topology apply"`
	b := inbox()
	if got, want := wrong(b), "stream EVENTS is missing"+end; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	onlyStream := b
	onlyStream.Consumers = nil
	apply(t, js, onlyStream)
	if got, want := wrong(b), "consumer fanout of stream EVENTS is missing"+end; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	apply(t, js, b)
	apply(t, js, b)
	if got := wrong(b); got != "" {
		t.Errorf("after Apply: %s", got)
	}

	b.Stream.MaxAge = time.Hour
	b.Stream.Discard = natsjs.DiscardOld // which is the zero value
	b.Consumers[0].MaxAckPending = 77
	want := "stream EVENTS: Discard is DiscardNew, not DiscardOld; stream EVENTS: MaxAge is 0s, not 1h0m0s; " +
		"consumer fanout of stream EVENTS: MaxAckPending is 4096, not 77" + end
	if got := wrong(b); got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	publish(t, js, "1")
	apply(t, js, b)
	if got := wrong(b); got != "" {
		t.Errorf("after Apply: %s", got)
	}
	if got := len(stored(t, js)); got != 1 {
		t.Errorf("Apply left %d of one message", got)
	}
}

// What an inbox says nothing about is the operator's.
func TestApplyKeepsWhatTheOperatorSet(t *testing.T) {
	t.Parallel()
	js := newBroker(t).connect()
	operators := inbox()
	operators.Stream.MaxMsgSize = 123_456
	operators.Stream.DenyDelete = true
	operators.Consumers[0].MaxWaiting = 99
	apply(t, js, operators)
	ours := inbox()
	ours.Stream.MaxBytes = 1 << 20
	ours.Consumers[0].AckWait = time.Minute
	if err := jetstream.Check(t.Context(), js, inbox()); err != nil {
		t.Errorf("what we leave at zero counts: %v", err)
	}
	apply(t, js, ours)
	operators.Stream.MaxBytes, operators.Consumers[0].AckWait = 1<<20, time.Minute
	if err := jetstream.Check(t.Context(), js, operators); err != nil {
		t.Error(err)
	}
}

func TestApplyRefusals(t *testing.T) {
	t.Parallel()
	js := newBroker(t).connect()
	apply(t, js, inbox())
	b := inbox()
	b.Stream.Storage = natsjs.MemoryStorage
	if err := jetstream.Apply(t.Context(), js, b); err == nil || !strings.Contains(err.Error(), "apply stream EVENTS") {
		t.Errorf("got %v, want that the storage cannot change", err)
	}
}

func TestApplyByManyAtOnce(t *testing.T) {
	t.Parallel()
	b := newBroker(t)
	var wg sync.WaitGroup
	for range 8 {
		js := b.connect()
		wg.Go(func() {
			if err := jetstream.Apply(t.Context(), js, inbox()); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
}
