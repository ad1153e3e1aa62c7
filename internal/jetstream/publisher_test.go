package jetstream_test

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/ThreeDotsLabs/watermill/message"
	natsjs "github.com/nats-io/nats.go/jetstream"

	"github.com/fanfarehq/fanfare/internal/jetstream"
)

func text(id, body string) *message.Message {
	return &message.Message{UUID: id, Payload: []byte(body)}
}

// stored returns the messages of the stream by their place.
func stored(tb testing.TB, js natsjs.JetStream) map[uint64]*natsjs.RawStreamMsg {
	tb.Helper()
	stream, err := js.Stream(tb.Context(), streamName)
	if err != nil {
		tb.Fatal(err)
	}
	state := stream.CachedInfo().State
	msgs := make(map[uint64]*natsjs.RawStreamMsg, state.Msgs)
	for seq := state.FirstSeq; seq <= state.LastSeq && state.Msgs > 0; seq++ {
		m, err := stream.GetMsg(tb.Context(), seq)
		if err != nil {
			tb.Fatalf("message %d: %v", seq, err)
		}
		msgs[seq] = m
	}
	return msgs
}

// inBatches counts the messages that came in an atomic batch: the broker keeps the header.
func inBatches(msgs map[uint64]*natsjs.RawStreamMsg) (n int) {
	for _, m := range msgs {
		if m.Header.Get("Nats-Batch-Id") != "" {
			n++
		}
	}
	return n
}

// sendAll sends n messages at once, with these ids, and returns their acks.
func sendAll(t *testing.T, p *jetstream.Publisher, ids []string) []jetstream.Ack {
	t.Helper()
	acks := make([]jetstream.Ack, len(ids))
	var wg sync.WaitGroup
	for i, id := range ids {
		wg.Go(func() {
			var err error
			if acks[i], err = p.Send(t.Context(), subject, text(id, "body of "+id)); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	return acks
}

func numbered(prefix string, n int) []string {
	ids := make([]string, n)
	for i := range ids {
		ids[i] = prefix + strconv.Itoa(i)
	}
	return ids
}

func TestEachSendGetsItsPlace(t *testing.T) {
	t.Parallel()
	js := newBroker(t).connect()
	apply(t, js, inbox())
	p := newPublisher(t, js, jetstream.PublisherConfig{Dedupe: true})
	ids := numbered("id-", 3000)
	acks := sendAll(t, p, ids)
	msgs := stored(t, js)
	if len(msgs) != len(ids) {
		t.Errorf("got %d messages, want %d", len(msgs), len(ids))
	}
	for i, ack := range acks {
		m := msgs[ack.Sequence]
		if m == nil || ack.Duplicate || string(m.Data) != "body of "+ids[i] || m.Header.Get("Nats-Msg-Id") != ids[i] {
			t.Fatalf("%s: ack %+v, stored there: %v", ids[i], ack, m)
		}
	}
	if got := inBatches(msgs); got == 0 {
		t.Error("of 3,000 messages sent at once, none came in a batch")
	}
}

func TestOrderIsKept(t *testing.T) {
	t.Parallel()
	js := newBroker(t).connect()
	apply(t, js, inbox())
	p := newPublisher(t, js, jetstream.PublisherConfig{MaxBatch: 100})
	var wg sync.WaitGroup
	for caller := range 16 { // each sends one after the other
		wg.Go(func() {
			last := uint64(0)
			for i := range 20 {
				ack, err := p.Send(t.Context(), subject, text("", fmt.Sprintf("%d %d", caller, i)))
				if err != nil || ack.Sequence <= last {
					t.Errorf("caller %d: got %+v, %v after %d", caller, ack, err, last)
				}
				last = ack.Sequence
			}
		})
	}
	wg.Go(func() { // and one sends many, more than fit into one batch
		many := make([]*message.Message, 1234)
		for i := range many {
			many[i] = text("", fmt.Sprintf("many %04d", i))
		}
		if err := p.Publish(subject, many...); err != nil {
			t.Error(err)
		}
	})
	wg.Wait()
	msgs := stored(t, js)
	var got []string
	for seq := uint64(1); seq <= uint64(len(msgs)); seq++ {
		if body := string(msgs[seq].Data); strings.HasPrefix(body, "many") {
			got = append(got, body)
		}
	}
	if len(got) != 1234 || !slices.IsSorted(got) {
		t.Errorf("got %d messages, in order: %t", len(got), slices.IsSorted(got))
	}
}

func TestDuplicatesAreIsolated(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name string
		seen func(i int) bool // which of the ids were sent before
	}{
		{"one", func(i int) bool { return i == 411 }},
		{"the first and the last", func(i int) bool { return i == 0 || i == 799 }},
		{"some", func(i int) bool { return i%97 == 0 }},
		{"half", func(i int) bool { return i%2 == 0 }},
		{"all", func(int) bool { return true }},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			js := newBroker(t).connect()
			apply(t, js, inbox())
			p := newPublisher(t, js, jetstream.PublisherConfig{Dedupe: true})
			ids := numbered("id-", 800)
			var before []string
			first := map[string]uint64{}
			for i, id := range ids {
				if tt.seen(i) {
					before = append(before, id)
				}
			}
			for i, ack := range sendAll(t, p, before) {
				first[before[i]] = ack.Sequence
			}
			for i, ack := range sendAll(t, p, ids) {
				place, duplicate := first[ids[i]]
				if ack.Duplicate != duplicate || duplicate && ack.Sequence != place {
					t.Errorf("%s: got %+v, want duplicate %t of %d", ids[i], ack, duplicate, place)
				}
			}
			if got := len(stored(t, js)); got != len(ids) {
				t.Errorf("got %d messages, want %d", got, len(ids))
			}
		})
	}
}

// Two who send the same id at the same time: the stream keeps one, and both learn where.
func TestDuplicatesWithinAGroup(t *testing.T) {
	t.Parallel()
	js := newBroker(t).connect()
	apply(t, js, inbox())
	p := newPublisher(t, js, jetstream.PublisherConfig{Dedupe: true})
	ids := numbered("id-", 300)
	acks := sendAll(t, p, append(ids, ids...))
	for i := range ids {
		a, b := acks[i], acks[i+len(ids)]
		if a.Sequence != b.Sequence || a.Duplicate == b.Duplicate {
			t.Errorf("%s: got %+v and %+v", ids[i], a, b)
		}
	}
	if got := len(stored(t, js)); got != len(ids) {
		t.Errorf("got %d messages, want %d", got, len(ids))
	}
}

func TestStreamsWithoutBatches(t *testing.T) {
	t.Parallel()
	js := newBroker(t).connect()
	b := inbox()
	b.Stream.AllowAtomicPublish = false
	apply(t, js, b)
	p := newPublisher(t, js, jetstream.PublisherConfig{})
	sendAll(t, p, numbered("a", 400))
	if got := inBatches(stored(t, js)); got != 0 {
		t.Errorf("got %d messages in batches, want none", got)
	}
}

// A stream may stop to take batches while a publisher has it in use.
func TestBatchesForbiddenLater(t *testing.T) {
	t.Parallel()
	js := newBroker(t).connect()
	apply(t, js, inbox())
	p := newPublisher(t, js, jetstream.PublisherConfig{})
	sendAll(t, p, numbered("a", 400))
	b := inbox()
	b.Stream.AllowAtomicPublish = false
	if _, err := js.UpdateStream(t.Context(), b.Stream); err != nil {
		t.Fatal(err)
	}
	sendAll(t, p, numbered("b", 400))
	if got := len(stored(t, js)); got != 800 {
		t.Errorf("got %d messages, want 800", got)
	}
}

func TestCloseWaitsForSends(t *testing.T) {
	t.Parallel()
	js := newBroker(t).connect()
	apply(t, js, inbox())
	p := newPublisher(t, js, jetstream.PublisherConfig{})
	var wg sync.WaitGroup
	var ok atomic.Int64
	began := make(chan struct{}, 500)
	for range 500 {
		wg.Go(func() {
			began <- struct{}{}
			switch _, err := p.Send(t.Context(), subject, text("", "")); {
			case err == nil:
				ok.Add(1)
			case !errors.Is(err, jetstream.ErrClosed):
				t.Error(err)
			}
		})
	}
	for range 100 {
		<-began
	}
	if err := p.Close(); err != nil {
		t.Error(err)
	}
	inStream := int64(len(stored(t, js)))
	wg.Wait()
	if inStream != ok.Load() {
		t.Errorf("%d messages were stored when Close returned, but %d sends succeeded", inStream, ok.Load())
	}
	if err := p.Publish(subject, text("", "")); !errors.Is(err, jetstream.ErrClosed) {
		t.Errorf("after Close: got %v, want %v", err, jetstream.ErrClosed)
	}
}

// Several streams are sent to side by side, each in groups of its own.
func TestManyStreams(t *testing.T) {
	t.Parallel()
	js := newBroker(t).connect()
	for i := range 5 {
		b := inbox()
		b.Stream.Name = "S" + strconv.Itoa(i)
		b.Stream.Subjects = []string{fmt.Sprintf("s.%d.>", i), fmt.Sprintf("t.*.%d", i)}
		apply(t, js, b)
	}
	p := newPublisher(t, js, jetstream.PublisherConfig{})
	var wg sync.WaitGroup
	for i := range 5 {
		for n := range 40 {
			wg.Go(func() {
				to := fmt.Sprintf("s.%d.x.%d", i, n)
				if n%2 == 0 {
					to = fmt.Sprintf("t.x%d.%d", n, i)
				}
				if _, err := p.Send(t.Context(), to, text("", "")); err != nil {
					t.Error(err)
				}
			})
		}
	}
	wg.Wait()
	for i := range 5 {
		stream, err := js.Stream(t.Context(), "S"+strconv.Itoa(i))
		if err != nil {
			t.Fatal(err)
		}
		if got := stream.CachedInfo().State.Msgs; got != 40 {
			t.Errorf("stream %d: got %d messages, want 40", i, got)
		}
	}
}

// Many messages at once each have an outcome of their own.
func TestSendAll(t *testing.T) {
	t.Parallel()
	js := newBroker(t).connect()
	other := inbox()
	other.Stream.Name, other.Stream.Subjects = "OTHER", []string{"other.*"}
	apply(t, js, inbox(), other)
	p := newPublisher(t, js, jetstream.PublisherConfig{Dedupe: true})
	if _, err := p.Send(t.Context(), subject, text("known", "")); err != nil {
		t.Fatal(err)
	}
	out := []jetstream.Outgoing{
		{Subject: subject, Message: text("a", "")},
		{Subject: "other.x", Message: text("a", "")},
		{Subject: subject, Message: text("known", "")},
		{Subject: "nowhere", Message: text("b", "")},
		{Subject: "events.acme.other", Message: text("c", "")},
		{Subject: subject, Message: text("d", strings.Repeat("x", 1<<20))},
		{Subject: subject, Message: &message.Message{Metadata: message.Metadata{"a b": ""}}},
		{Subject: subject, Message: text("e", "")},
	}
	p.SendAll(t.Context(), out)
	want := []struct {
		ack jetstream.Ack
		err string
	}{
		{ack: jetstream.Ack{Sequence: 2}},
		{ack: jetstream.Ack{Sequence: 1}},
		{ack: jetstream.Ack{Sequence: 1, Duplicate: true}},
		{err: "no stream takes this subject"},
		{ack: jetstream.Ack{Sequence: 3}},
		{err: jetstream.ErrTooLarge.Error()},
		{err: `metadata "a b" cannot be a header`},
		{ack: jetstream.Ack{Sequence: 4}},
	}
	for i, w := range want {
		if out[i].Ack != w.ack || (w.err == "") != (out[i].Err == nil) || w.err != "" && !strings.Contains(out[i].Err.Error(), w.err) {
			t.Errorf("message %d: got %+v, %v, want %+v, %s", i, out[i].Ack, out[i].Err, w.ack, w.err)
		}
	}
	if err := p.Close(); err != nil {
		t.Error(err)
	}
	if p.SendAll(t.Context(), out[:1]); !errors.Is(out[0].Err, jetstream.ErrClosed) {
		t.Errorf("after Close: got %v", out[0].Err)
	}
}
