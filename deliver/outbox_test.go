package deliver

import (
	"bytes"
	"context"
	"errors"
	"slices"
	"sync"
	"testing"

	"github.com/google/uuid"
	natsjs "github.com/nats-io/nats.go/jetstream"

	"github.com/fanfarehq/fanfare/internal/event"
	"github.com/fanfarehq/fanfare/internal/jetstream"
	"github.com/fanfarehq/fanfare/internal/servertest"
)

// outboxOn makes an outbox on a server of its own.
func outboxOn(t *testing.T) (*Outbox, natsjs.JetStream) {
	t.Helper()
	js := must(natsjs.New(servertest.Connect(t, servertest.NATS(t))))(t)
	if err := jetstream.Apply(t.Context(), js, Inbox(64<<20), BacklogInbox(64<<20)); err != nil {
		t.Fatal(err)
	}
	return NewOutbox(js, must(jetstream.NewPublisher(js, jetstream.PublisherConfig{}))(t)), js
}

// messages reads all tasks of both streams, by message.
func messages(t *testing.T, js natsjs.JetStream) (list [][]Task, sizes []int) {
	t.Helper()
	for _, name := range []string{Stream, BacklogStream} {
		stream := must(js.Stream(t.Context(), name))(t)
		for seq := uint64(1); seq <= stream.CachedInfo().State.LastSeq; seq++ {
			msg := must(stream.GetMsg(t.Context(), seq))(t)
			list = append(list, must(unpackTasks(msg.Data))(t))
			sizes = append(sizes, len(msg.Data))
		}
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
			if err := outbox.Send(t.Context(), Task{Event: event.Event{Tenant: "acme", ID: "e", Data: bytes.Repeat([]byte("x"), 1024)}, Targets: targets(10)}); err != nil {
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
		return Task{Event: event.Event{Tenant: "acme", ID: "big", Data: bytes.Repeat([]byte("x"), maxMessageBytes+1)}, Targets: targets(1)}
	}
	small := Task{Event: event.Event{Tenant: "acme", ID: "small"}, Targets: targets(1)}
	if err := outbox.Send(t.Context(), small, big(), small); err != nil {
		t.Fatal(err)
	}
	list, _ := messages(t, js)
	if len(list) != 3 || len(list[1]) != 1 || list[1][0].Event.ID != "big" {
		t.Errorf("got %d messages, want the large task in one of its own", len(list))
	}
}

// A task that may kill its worker is with nothing but its own event's others.
func TestATaskThatIsCountedGoesAlone(t *testing.T) {
	t.Parallel()
	outbox, js := outboxOn(t)
	task := func(id string, counted bool) Task {
		return Task{Event: event.Event{Tenant: "acme", ID: id}, Targets: targets(1), Counted: counted}
	}
	err := outbox.Send(t.Context(), task("a", false), task("b", false), task("c", true), task("c", true), task("d", true), task("e", false))
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	list, _ := messages(t, js)
	for _, tasks := range list {
		ids := ""
		for _, task := range tasks {
			ids += task.Event.ID
		}
		got = append(got, ids)
	}
	if want := []string{"ab", "cc", "d", "e"}; !slices.Equal(got, want) {
		t.Errorf("got messages of %q, want %q", got, want)
	}
}

func TestTheTasksOfOneEventAreSentTogether(t *testing.T) {
	t.Parallel()
	outbox, js := outboxOn(t)
	var tasks []Task
	for range 16 {
		tasks = append(tasks, Task{Event: event.Event{Tenant: "acme", ID: "wide", Data: []byte("{}")}, Targets: targets(MaxTargets)})
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
	if err := jetstream.Apply(t.Context(), js, Inbox(64<<10), BacklogInbox(64<<10)); err != nil {
		t.Fatal(err)
	}
	outbox := NewOutbox(js, must(jetstream.NewPublisher(js, jetstream.PublisherConfig{}))(t))
	task := Task{Event: event.Event{Tenant: "acme", Data: bytes.Repeat([]byte("x"), 30<<10)}, Targets: targets(1)}
	var err error
	for range 4 {
		err = errors.Join(err, outbox.Send(t.Context(), task))
	}
	if !errors.Is(err, jetstream.ErrFull) {
		t.Errorf("got %v, want that the stream is full", err)
	}
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
