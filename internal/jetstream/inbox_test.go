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

// Only a new stream is made unsynced: NATS cannot change the mode of one that exists.
func TestApplyUnsynced(t *testing.T) {
	t.Parallel()
	js := newBroker(t).connect()
	made := func(b jetstream.Inbox) natsjs.StreamConfig {
		t.Helper()
		apply(t, js, b)
		apply(t, js, b)
		if err := jetstream.Check(t.Context(), js, b); err != nil {
			t.Error(err)
		}
		stream, err := js.Stream(t.Context(), b.Stream.Name)
		if err != nil {
			t.Fatal(err)
		}
		return stream.CachedInfo().Config
	}
	b := inbox()
	b.Unsynced = true
	if got := made(b); got.PersistMode != natsjs.AsyncPersistMode || got.AllowAtomicPublish {
		t.Errorf("a new stream is %+v, want it asynchronous, without batches", got)
	}
	b.Stream.Replicas = 3
	if err := jetstream.Apply(t.Context(), js, b); err == nil || !strings.Contains(err.Error(), "nats stream rm EVENTS") {
		t.Errorf("got %v, want how an asynchronous stream becomes replicated", err)
	}
	if err := js.DeleteStream(t.Context(), streamName); err != nil {
		t.Fatal(err)
	}
	made(inbox())
	b.Stream.Replicas = 0
	if got := made(b); got.PersistMode != natsjs.DefaultPersistMode || !got.AllowAtomicPublish {
		t.Errorf("the stream of an earlier build became %+v", got)
	}

	// A process that has NATS to itself replaces it, once its messages are done.
	replace := func() natsjs.StreamConfig {
		t.Helper()
		if err := jetstream.Replace(t.Context(), js, b); err != nil {
			t.Fatal(err)
		}
		return made(b)
	}
	publish(t, js, "1")
	if got := replace(); got.PersistMode != natsjs.DefaultPersistMode {
		t.Errorf("a stream was replaced that had a message: %+v", got)
	}
	consumer, err := js.Consumer(t.Context(), streamName, durableName)
	if err != nil {
		t.Fatal(err)
	}
	msg, err := consumer.Next()
	if err != nil {
		t.Fatal(err)
	}
	if err := msg.DoubleAck(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := replace(); got.PersistMode != natsjs.AsyncPersistMode {
		t.Errorf("a stream whose messages are done became %+v", got)
	}
	publish(t, js, "2")
	replace()
	if got := len(stored(t, js)); got != 1 {
		t.Errorf("the new stream holds %d messages, want one", got)
	}
}

// A stream can be made again at once after it was deleted, while NATS still removes its files.
func TestApplyAfterDeletion(t *testing.T) {
	t.Parallel()
	js := newBroker(t).connect()
	for range 20 {
		apply(t, js, inbox())
		publish(t, js, "1")
		if err := js.DeleteStream(t.Context(), streamName); err != nil {
			t.Fatal(err)
		}
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

// What a killed process had in hand is handed out again at once by a start that has NATS to itself, without a wait for
// AckWait; what it acknowledged below that is not.
func TestTakeBack(t *testing.T) {
	t.Parallel()
	js := newBroker(t).connect()
	b := inbox()
	b.Consumers[0].AckWait = time.Hour
	apply(t, js, b)
	publish(t, js, "1", "2", "3")
	consumer, err := js.Consumer(t.Context(), b.Stream.Name, b.Consumers[0].Durable)
	if err != nil {
		t.Fatal(err)
	}
	fetch := func() (bodies []string) {
		batch, err := consumer.FetchNoWait(10)
		if err != nil {
			t.Fatal(err)
		}
		for m := range batch.Messages() {
			if bodies = append(bodies, string(m.Data())); string(m.Data()) == "1" {
				if err := m.DoubleAck(t.Context()); err != nil {
					t.Error(err)
				}
			}
		}
		return bodies
	}
	if got := strings.Join(fetch(), " "); got != "1 2 3" {
		t.Fatalf("got %q", got)
	}
	if got := fetch(); len(got) != 0 {
		t.Fatalf("got %q while they are in hand", got)
	}
	if err := jetstream.TakeBack(t.Context(), js, b); err != nil {
		t.Fatal(err)
	}
	if got := strings.Join(fetch(), " "); got != "2 3" {
		t.Errorf("got %q after TakeBack, want what was not acknowledged", got)
	}
}
