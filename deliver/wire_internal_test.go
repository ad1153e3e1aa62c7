package deliver

import (
	"bytes"
	"encoding/hex"
	"maps"
	"math"
	"os"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	library "github.com/fxamacker/cbor/v2"
	"github.com/google/uuid"
	"pgregory.net/rapid"

	"github.com/fanfarehq/fanfare/internal/cbor"
	"github.com/fanfarehq/fanfare/internal/event"
)

// This file needs the inside: what is written to a stream and read from it is tried with thousands of random and of broken messages,
// each of which would take a stream and a worker.

// must fails the test on an error.
func must[T any](v T, err error) func(testing.TB) T {
	return func(t testing.TB) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

// goldenTasks and goldenRecords hold one of everything. Their bytes are on disks and in streams: they change
// only with Version, and what was written by older versions must stay readable.
func goldenTasks() []Task {
	at := time.Date(2026, 11, 20, 10, 0, 0, 123456789, time.UTC)
	id := uuid.MustParse("01980000-0000-7000-8000-000000000001")
	return []Task{{
		Event: event.Event{
			UID: id, ID: "evt_17", Tenant: "acme", Type: "order.created", Time: at, Data: []byte(`{"total":12.50}`), ObjectID: "o_17",
			ResourceIDs: []string{"123"}, Changed: []string{"status"}, TraceParent: "00-1-2-01", Seq: 42, AcceptedAt: at.Add(time.Second), Test: true,
		},
		Targets:  []Target{{Subscription: id}, {Subscription: id, Generation: 3}},
		Revision: 7, Suspect: true,
	}, {Event: event.Event{UID: id, ID: "e", Time: at, AcceptedAt: at}, Targets: []Target{{Subscription: id}}}}
}

func TestGoldenTasks(t *testing.T) {
	t.Parallel()
	const file = "testdata/tasks_v1.hex"
	got, want := wrapTasks(goldenTasks()...), readHex(t, file)
	if !bytes.Equal(got, want) {
		t.Errorf("%s: the wire format changed; got\n%x", file, got)
	}
	if read := must(unpackTasks(want))(t); !reflect.DeepEqual(read, goldenTasks()) {
		t.Errorf("got %+v, want %+v", read, goldenTasks())
	}
}

// wrapTasks makes a message of tasks.
func wrapTasks(tasks ...Task) []byte {
	var list []*Task
	for i := range tasks {
		list = append(list, &tasks[i])
	}
	return packTasks(list)
}

// What is written is what a library would write that knows the numbers of the fields.
func TestTasksAreDeterministicCBOR(t *testing.T) {
	t.Parallel()
	enc := must(library.CoreDetEncOptions().EncMode())(t)
	rapid.Check(t, func(t *rapid.T) {
		data := wrapTasks(anyTask(t))
		var shown any
		if err := library.Unmarshal(data, &shown); err != nil {
			t.Fatal(err)
		}
		again, err := enc.Marshal(shown)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(again, data) {
			t.Errorf("got\n%x, want\n%x", data, again)
		}
	})
}

func TestTasksComeBackAsTheyWere(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		// Two of them, as the second shares texts with the first.
		tasks := []Task{anyTask(t), anyTask(t)}
		read, err := unpackTasks(wrapTasks(tasks...))
		if err != nil {
			t.Fatal(err)
		}
		if !reflect.DeepEqual(read, tasks) {
			t.Errorf("got %+v, want %+v", read, tasks)
		}
		event, _, err := event.Unpack(event.Pack(&tasks[0].Event, nil))
		if err != nil {
			t.Fatal(err)
		}
		if !reflect.DeepEqual(*event, tasks[0].Event) {
			t.Errorf("got %+v, want %+v", *event, tasks[0].Event)
		}
	})
}

// anyTask draws a task.
func anyTask(t *rapid.T) Task {
	text := rapid.OneOf(rapid.Just(""), rapid.SampledFrom([]string{"acme", "order.created"}), rapid.String())
	at := rapid.Custom(func(t *rapid.T) time.Time {
		return time.Unix(rapid.Int64Range(0, 250e9).Draw(t, "seconds"), rapid.Int64Range(0, 999999999).Draw(t, "nanos")).UTC()
	})
	id := rapid.Custom(func(t *rapid.T) uuid.UUID {
		return uuid.UUID(rapid.SliceOfN(rapid.Byte(), 16, 16).Draw(t, "id"))
	})
	attributes := rapid.OneOf(rapid.Just([]string(nil)), rapid.SliceOfN(text, 1, 30))
	target := rapid.Custom(func(t *rapid.T) Target {
		return Target{Subscription: id.Draw(t, "subscription"), Generation: rapid.IntRange(0, 1<<31-1).Draw(t, "generation")}
	})
	return Task{
		Event: event.Event{
			UID: id.Draw(t, "uid"), ID: text.Draw(t, "event"), Tenant: text.Draw(t, "tenant"), Type: text.Draw(t, "type"),
			Time: at.Draw(t, "time"), AcceptedAt: at.Draw(t, "accepted"), Data: rapid.SliceOf(rapid.Byte()).Draw(t, "data"),
			ObjectID: text.Draw(t, "object"), ResourceIDs: attributes.Draw(t, "resources"), Changed: attributes.Draw(t, "changed"),
			TraceParent: text.Draw(t, "trace"), Seq: rapid.Uint64().Draw(t, "seq"), Test: rapid.Bool().Draw(t, "test"),
			ContentType: text.Draw(t, "media"), Cloud: anyCloud(t, text),
		},
		Targets: rapid.SliceOfN(target, 1, MaxTargets).Draw(t, "targets"), Revision: rapid.Int64().Draw(t, "revision"), Suspect: rapid.Bool().Draw(t, "suspect"),
	}
}

// anyCloud draws what a CloudEvent says of itself, or nothing.
func anyCloud(t *rapid.T, text *rapid.Generator[string]) *event.Cloud {
	if !rapid.Bool().Draw(t, "cloud") {
		return nil
	}
	c := &event.Cloud{ID: text.Draw(t, "id"), Source: text.Draw(t, "source"), Subject: text.Draw(t, "subject"), DataSchema: text.Draw(t, "schema")}
	for range rapid.IntRange(0, 3).Draw(t, "extensions") {
		c.Extensions = append(c.Extensions, event.Extension{
			Name: text.Draw(t, "name"), Value: text.Draw(t, "value"), Literal: rapid.Bool().Draw(t, "literal"),
		})
	}
	return c
}

// Fields that a later version adds to tasks, events and targets are skipped.
func TestTasksOfTheFuture(t *testing.T) {
	t.Parallel()
	later := map[int]any{
		19: true, 20: map[string]any{"a": []any{1.5, nil, "b"}, "c": []byte("d")}, 21: -7, 1000: []any{map[int]any{1: false}},
	}
	id := uuid.New()
	with := func(fields map[int]any) map[int]any {
		maps.Copy(fields, later)
		return fields
	}
	task := with(map[int]any{
		1: with(map[int]any{1: id[:], 2: "evt_17"}), 2: []any{with(map[int]any{1: id[:], 2: 3})}, 3: 7,
	})
	data := must(must(library.CoreDetEncOptions().EncMode())(t).Marshal([]any{1, []any{task, task}}))(t)
	want := Task{Event: event.Event{UID: id, ID: "evt_17"}, Targets: []Target{{Subscription: id, Generation: 3}}, Revision: 7}
	if got := must(unpackTasks(data))(t); !reflect.DeepEqual(got, []Task{want, want}) {
		t.Errorf("got %+v, want twice %+v", got, want)
	}
}

func readHex(t *testing.T, file string) []byte {
	t.Helper()
	text := must(os.ReadFile(file))(t)
	return must(hex.DecodeString(strings.Join(strings.Fields(string(text)), "")))(t)
}

func TestUnreadableMessages(t *testing.T) {
	t.Parallel()
	whole := wrapTasks(goldenTasks()[0])
	future := bytes.Clone(whole)
	future[1] = cbor.SealedVersion + 1
	for name, data := range map[string][]byte{
		"empty": nil, "text": []byte("hello"), "json": []byte(`{"a":1}`), "no items": cbor.Wrap(0), "of the future": future,
		"a list that says it has 4 billion items": {0x82, 0x01, 0x9a, 0xff, 0xff, 0xff, 0xff},
		"cut off":                                     whole[:len(whole)-1],
		"more than a message":                         append(bytes.Clone(whole), 0),
		"a task that is a list":                       {0x82, 0x01, 0x81, 0x80},
		"a key twice":                                 {0x82, 0x01, 0x81, 0xa2, 0x03, 0x01, 0x03, 0x01},
		"an unknown list of 2^63 pairs":               {0x82, 0x01, 0x81, 0xa1, 0x18, 0x63, 0xbb, 0x80, 0, 0, 0, 0, 0, 0, 0},
		"an unknown field that goes too deep":         append([]byte{0x82, 0x01, 0x81, 0xa1, 0x18, 0x63}, bytes.Repeat([]byte{0x81}, 1000)...),
		"a text that is no UTF-8":                     {0x82, 0x01, 0x81, 0xa1, 0x01, 0xa1, 0x02, 0x61, 0xff},
		"an id of 15 bytes":                           {0x82, 0x01, 0x81, 0xa1, 0x01, 0xa1, 0x01, 0x4f, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15},
		"a time that is none":                         {0x82, 0x01, 0x81, 0xa1, 0x01, 0xa1, 0x05, 0x61, 'x'},
		"a flag that is a number":                     {0x82, 0x01, 0x81, 0xa1, 0x04, 0x01},
		"a byte string without an end, as a stream's": {0x82, 0x01, 0x81, 0xa1, 0x01, 0xa1, 0x06, 0x5f},
	} {
		if tasks, err := unpackTasks(data); err == nil {
			t.Errorf("%s: got %v, want an error", name, tasks)
		}
	}
}

func FuzzUnpack(f *testing.F) {
	f.Add(wrapTasks(goldenTasks()...))
	f.Fuzz(func(t *testing.T, data []byte) {
		tasks, err := unpackTasks(data)
		if err == nil && len(tasks) == 0 {
			t.Error("no error and no tasks")
		}
		if err == nil {
			again, err := unpackTasks(wrapTasks(tasks...))
			if err != nil || len(again) != len(tasks) {
				t.Errorf("what was read cannot be written: %v", err)
			}
		}
	})
}

// What is packed by its room must fit into a message.
func TestATaskTakesNoMoreThanItsRoom(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("x", 256)
	largest := Task{
		Event: event.Event{
			UID: uuid.Max, ID: long, Tenant: long, Type: long, Time: time.Unix(1<<40, 999999999), Data: make([]byte, 1<<20), ObjectID: long,
			ResourceIDs: slices.Repeat([]string{long}, 100), Changed: slices.Repeat([]string{long}, 100), TraceParent: long,
			Seq: math.MaxUint64, AcceptedAt: time.Unix(1<<40, 999999999), Test: true,
		},
		Targets: slices.Repeat([]Target{{Subscription: uuid.Max, Generation: math.MaxInt64}}, MaxTargets), Revision: math.MinInt64, Suspect: true,
	}
	for _, task := range append(goldenTasks(), largest, Task{}) {
		var w cbor.Writer
		if task.write(&w); len(w.Buf) > task.room() {
			t.Errorf("task of event %.20s: %d bytes, which are more than %d", task.Event.ID, len(w.Buf), task.room())
		}
	}
}

// BenchmarkTask writes and reads an event of 1 KiB with one target.
func BenchmarkTask(b *testing.B) {
	task := goldenTasks()[1]
	task.Event.Tenant, task.Event.Type, task.Event.Data = "acme", "order.created", bytes.Repeat([]byte("x"), 1024)
	data := wrapTasks(task)
	b.Run("write", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			packTasks([]*Task{&task})
		}
	})
	b.Run("read", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if _, err := unpackTasks(data); err != nil {
				b.Fatal(err)
			}
		}
	})
}
