package deliver

import (
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"os"
	"reflect"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/fxamacker/cbor/v2"
	"github.com/google/uuid"
	natsjs "github.com/nats-io/nats.go/jetstream"

	"github.com/fanfarehq/fanfare/internal/jetstream"
	"github.com/fanfarehq/fanfare/internal/servertest"
)

// outboxOn makes an outbox on a server of its own.
func outboxOn(t *testing.T) (*Outbox, natsjs.JetStream) {
	t.Helper()
	js := must(natsjs.New(servertest.Connect(t, servertest.NATS(t))))(t)
	if err := jetstream.Apply(t.Context(), js, Inbox(64<<20)); err != nil {
		t.Fatal(err)
	}
	return must(NewOutbox(must(jetstream.NewPublisher(js, jetstream.PublisherConfig{}))(t)))(t), js
}

// messages reads all tasks of the stream, by message.
func messages(t *testing.T, js natsjs.JetStream) (list [][]Task, sizes []int) {
	t.Helper()
	stream := must(js.Stream(t.Context(), Stream))(t)
	c := must(newCodec())(t)
	for seq := uint64(1); seq <= stream.CachedInfo().State.LastSeq; seq++ {
		msg := must(stream.GetMsg(t.Context(), seq))(t)
		list = append(list, must(unpack[Task](c, msg.Data))(t))
		sizes = append(sizes, len(msg.Data))
	}
	return list, sizes
}

func targets(n int) []Target {
	list := make([]Target, n)
	for i := range list {
		list[i].Subscription = uuid.New()
	}
	return list
}

func TestTasksThatComeTogetherShareMessages(t *testing.T) {
	t.Parallel()
	outbox, js := outboxOn(t)
	const n = 500
	var wg sync.WaitGroup
	for range n {
		wg.Go(func() {
			if err := outbox.Send(t.Context(), Task{Event: Event{ID: "e", Data: bytes.Repeat([]byte("x"), 1024)}, Targets: targets(10)}); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	list, sizes := messages(t, js)
	total := 0
	for i, tasks := range list {
		total += len(tasks)
		count := 0
		for _, task := range tasks {
			count += len(task.Targets)
		}
		if len(tasks) > maxMessageTasks || count > maxMessageTargets || sizes[i] > maxMessageBytes {
			t.Errorf("a message has %d tasks, %d targets and %d bytes", len(tasks), count, sizes[i])
		}
	}
	if total != n {
		t.Errorf("got %d tasks, want %d", total, n)
	}
	if len(list) > n/4 {
		t.Errorf("%d tasks went in %d messages: they share none", n, len(list))
	}
}

func TestALargeTaskGoesAlone(t *testing.T) {
	t.Parallel()
	outbox, js := outboxOn(t)
	big := func() Task {
		return Task{Event: Event{ID: "big", Data: bytes.Repeat([]byte("x"), maxMessageBytes+1)}, Targets: targets(1)}
	}
	small := Task{Event: Event{ID: "small"}, Targets: targets(1)}
	if err := outbox.Send(t.Context(), small, big(), small); err != nil {
		t.Fatal(err)
	}
	list, _ := messages(t, js)
	if len(list) != 3 || len(list[1]) != 1 || list[1][0].Event.ID != "big" {
		t.Errorf("got %d messages, want the large task in one of its own", len(list))
	}
}

func TestTheTasksOfOneEventAreSentTogether(t *testing.T) {
	t.Parallel()
	outbox, js := outboxOn(t)
	var tasks []Task
	for range 16 {
		tasks = append(tasks, Task{Event: Event{ID: "wide", Data: []byte("{}")}, Targets: targets(MaxTargets)})
	}
	if err := outbox.Send(t.Context(), tasks...); err != nil {
		t.Fatal(err)
	}
	list, _ := messages(t, js)
	if len(list) != 4 {
		t.Errorf("1,024 targets went in %d messages, want 4 of %d", len(list), maxMessageTargets)
	}
}

func TestTasksWithoutOrWithTooManyTargetsAreRefused(t *testing.T) {
	t.Parallel()
	outbox, js := outboxOn(t)
	for _, n := range []int{0, MaxTargets + 1} {
		if err := outbox.Send(t.Context(), Task{Targets: targets(n)}); !errors.Is(err, errTargets) {
			t.Errorf("%d targets: got %v, want an error", n, err)
		}
	}
	if list, _ := messages(t, js); len(list) != 0 {
		t.Errorf("%d messages were sent", len(list))
	}
}

func TestSendFailsWhenTheStreamIsFull(t *testing.T) {
	t.Parallel()
	js := must(natsjs.New(servertest.Connect(t, servertest.NATS(t))))(t)
	if err := jetstream.Apply(t.Context(), js, Inbox(64<<10)); err != nil {
		t.Fatal(err)
	}
	outbox := must(NewOutbox(must(jetstream.NewPublisher(js, jetstream.PublisherConfig{}))(t)))(t)
	task := Task{Event: Event{Data: bytes.Repeat([]byte("x"), 30<<10)}, Targets: targets(1)}
	var err error
	for range 4 {
		err = errors.Join(err, outbox.Send(t.Context(), task))
	}
	if !errors.Is(err, jetstream.ErrFull) {
		t.Errorf("got %v, want that the stream is full", err)
	}
}

// goldenTasks and goldenRecords hold one of everything. Their bytes are on disks and in streams: they change
// only with wireVersion, and what was written by older versions must stay readable.
func goldenTasks() []Task {
	at := time.Date(2026, 11, 20, 10, 0, 0, 123456789, time.UTC)
	id := uuid.MustParse("01980000-0000-7000-8000-000000000001")
	return []Task{{
		Event: Event{
			UID: id, ID: "evt_17", Tenant: "acme", Type: "order.created", Time: at, Data: []byte(`{"total":12.50}`), ObjectID: "o_17",
			ResourceIDs: []string{"123"}, Changed: []string{"status"}, TraceParent: "00-1-2-01", Seq: 42, AcceptedAt: at.Add(time.Second), Test: true,
		},
		Targets:  []Target{{Subscription: id}, {Subscription: id, Generation: 3}},
		Revision: 7, Suspect: true,
	}, {Event: Event{UID: id, ID: "e", Time: at, AcceptedAt: at}, Targets: []Target{{Subscription: id}}}}
}

func goldenRecords() []Record {
	at := time.Date(2026, 11, 20, 10, 0, 0, 123456000, time.UTC)
	id := uuid.MustParse("01980000-0000-7000-8000-000000000001")
	return []Record{{
		Delivery: id, EventUID: id, EventID: "evt_17", EventType: "order.created", Tenant: "acme", Seq: 42, Subscription: id, Generation: 1,
		Step: 2, Outcome: OutcomeLater, Reason: ReasonRetryAfter, Attempts: 1, CreatedAt: at, At: at.Add(time.Hour), Held: true, Test: true,
		Attempt: &Made{Number: 1, StartedAt: at, Micros: 1500, Status: 503, Error: "e", Response: []byte("oops"), Reason: ReasonServer},
		Event:   []byte{1, 2, 3},
	}, {Delivery: id, EventUID: id, Subscription: id, Step: 1, Outcome: OutcomeCancelled, Reason: ReasonDeleted, CreatedAt: at, At: at}}
}

func TestGoldenMessages(t *testing.T) {
	t.Parallel()
	c := must(newCodec())(t)
	golden(t, c, "testdata/tasks_v1.hex", goldenTasks())
}

func TestGoldenOutcomes(t *testing.T) {
	t.Parallel()
	const file = "testdata/attempts_v1.hex"
	var raw []byte
	for _, r := range goldenRecords() {
		raw = r.append(raw)
	}
	got := packRecords(len(goldenRecords()), raw)
	want := readHex(t, file)
	if !bytes.Equal(got, want) {
		t.Errorf("%s: the wire format changed; got\n%x", file, got)
	}
	for i, r := range must(unpackRecords(want))(t) {
		if want := goldenRecords()[i]; !reflect.DeepEqual(*r, want) {
			t.Errorf("record %d: got %+v, want %+v", i, *r, want)
		}
	}
	// Any tool can read it.
	var shown any
	if err := cbor.Unmarshal(want, &shown); err != nil {
		t.Error(err)
	}
}

// What a later version appends to a record is skipped.
func TestOutcomesOfTheFuture(t *testing.T) {
	t.Parallel()
	r := goldenRecords()[1]
	raw := r.append(nil)
	w := cborWriter{}
	w.array(recordFields + 3)
	w.buf = append(w.buf, raw[1:]...)
	w.array(2)
	w.text("something")
	w.int(-5)
	w.null()
	w.bytes([]byte("new"))
	got := must(unpackRecords(packRecords(2, w.buf, raw)))(t)
	for _, g := range got {
		if !reflect.DeepEqual(*g, r) {
			t.Errorf("got %+v, want %+v", *g, r)
		}
	}
}

func readHex(t *testing.T, file string) []byte {
	t.Helper()
	text := must(os.ReadFile(file))(t)
	return must(hex.DecodeString(strings.Join(strings.Fields(string(text)), "")))(t)
}

func golden[T any](t *testing.T, c codec, file string, items []T) {
	t.Helper()
	var raw []cbor.RawMessage
	for _, item := range items {
		raw = append(raw, must(c.enc.Marshal(item))(t))
	}
	got := must(c.pack(raw))(t)
	want := readHex(t, file)
	if !bytes.Equal(got, want) {
		t.Errorf("%s: the wire format changed; got\n%x", file, got)
	}
	read := must(unpack[T](c, want))(t)
	var again []cbor.RawMessage
	for _, item := range read {
		again = append(again, must(c.enc.Marshal(item))(t))
	}
	if !bytes.Equal(must(c.pack(again))(t), want) {
		t.Errorf("%s: read as %+v", file, read)
	}
}

func TestUnreadableMessages(t *testing.T) {
	t.Parallel()
	c := must(newCodec())(t)
	future := must(c.enc.Marshal(packed{Version: 2, Items: []cbor.RawMessage{{0xa0}}}))(t)
	for name, data := range map[string][]byte{
		"empty": nil, "text": []byte("hello"), "json": []byte(`{"a":1}`), "no items": must(c.pack(nil))(t), "of the future": future,
		"a list that says it has 4 billion items": {0x82, 0x01, 0x9a, 0xff, 0xff, 0xff, 0xff},
	} {
		if tasks, err := unpack[Task](c, data); err == nil {
			t.Errorf("%s: got %v, want an error", name, tasks)
		}
	}
}

func FuzzUnpack(f *testing.F) {
	c, err := newCodec()
	if err != nil {
		f.Fatal(err)
	}
	for _, task := range goldenTasks() {
		raw, err := c.enc.Marshal(task)
		if err != nil {
			f.Fatal(err)
		}
		data, err := c.pack([]cbor.RawMessage{raw})
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
	}
	for _, r := range goldenRecords() {
		f.Add(packRecords(1, r.append(nil)))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		if tasks, err := unpack[Task](c, data); err == nil && len(tasks) == 0 {
			t.Error("no error and no tasks")
		}
		if records, err := unpackRecords(data); err == nil && len(records) == 0 {
			t.Error("no error and no records")
		}
	})
}

func TestSendEndsWithItsContext(t *testing.T) {
	t.Parallel()
	outbox, _ := outboxOn(t)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := outbox.Send(ctx, Task{Targets: targets(1)}); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, want that it was cancelled", err)
	}
}
