package deliver_test

import (
	"bytes"
	"context"
	"errors"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/fxamacker/cbor/v2"
	"github.com/google/uuid"
	"github.com/nats-io/nats.go"
	natsjs "github.com/nats-io/nats.go/jetstream"

	"github.com/fanfarehq/fanfare/deliver"
	"github.com/fanfarehq/fanfare/internal/event"
	"github.com/fanfarehq/fanfare/internal/jetstream"
	"github.com/fanfarehq/fanfare/internal/servertest"
)

// outboxOn makes an outbox on a server of its own.
func outboxOn(t *testing.T) (*deliver.Outbox, natsjs.JetStream) {
	t.Helper()
	js := must(natsjs.New(servertest.Connect(t, servertest.NATS(t))))(t)
	if err := jetstream.Apply(t.Context(), js, deliver.Inbox(64<<20), deliver.BacklogInbox(64<<20)); err != nil {
		t.Fatal(err)
	}
	return deliver.NewOutbox(js, must(jetstream.NewPublisher(js, jetstream.PublisherConfig{}))(t)), js
}

// The bounds of a message of tasks. A task counts for at least its share of bytes by its targets.
const (
	mostTasks   = 64
	mostTargets = 256
	mostBytes   = 512 << 10
)

// written is a message of tasks as any reader of CBOR reads it.
type written struct {
	_       struct{} `cbor:",toarray"`
	Version int
	Tasks   []writtenTask
}

type writtenTask struct {
	Event struct {
		ID string `cbor:"2,keyasint"`
	} `cbor:"1,keyasint"`
	Targets []struct {
		Subscription []byte `cbor:"1,keyasint"`
	} `cbor:"2,keyasint"`
}

// messages reads all tasks of both streams, by message.
func messages(t *testing.T, js natsjs.JetStream) (list [][]writtenTask, sizes []int) {
	t.Helper()
	for _, name := range []string{deliver.Stream, deliver.BacklogStream} {
		stream := must(js.Stream(t.Context(), name))(t)
		for seq := uint64(1); seq <= stream.CachedInfo().State.LastSeq; seq++ {
			msg := must(stream.GetMsg(t.Context(), seq))(t)
			var of written
			if err := cbor.Unmarshal(msg.Data, &of); err != nil {
				t.Fatal(err)
			}
			list = append(list, of.Tasks)
			sizes = append(sizes, len(msg.Data))
		}
	}
	return list, sizes
}

func targets(n int) []deliver.Target {
	list := make([]deliver.Target, n)
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
			if err := outbox.Send(t.Context(), deliver.Task{Event: event.Event{Tenant: "acme", ID: "e", Data: bytes.Repeat([]byte("x"), 1024)}, Targets: targets(10)}); err != nil {
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
		if len(tasks) > mostTasks || count > mostTargets || sizes[i] > mostBytes {
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

// A task that waits behind others which the network holds tells workers how long it has waited: another fan-out may have sent it meanwhile.
func TestATaskTellsWhenItWasSent(t *testing.T) {
	t.Parallel()
	server := servertest.NewRestartableNATS(t)
	js := must(natsjs.New(must(nats.Connect(server.URL()))(t)))(t)
	t.Cleanup(js.Conn().Close)
	if err := jetstream.Apply(t.Context(), js, deliver.Inbox(64<<20), deliver.BacklogInbox(64<<20)); err != nil {
		t.Fatal(err)
	}
	outbox := deliver.NewOutbox(js, must(jetstream.NewPublisher(js, jetstream.PublisherConfig{}))(t))
	server.Freeze()
	var sending sync.WaitGroup
	sent := make(chan struct{})
	for _, id := range []string{"first", "second"} { // One waits for the broker, the other one for its turn.
		sending.Go(func() {
			sent <- struct{}{}
			_ = outbox.Send(t.Context(), deliver.Task{Event: event.Event{Tenant: "acme", ID: id}, Targets: targets(1)}) // It may fail by its timeout.
		})
		<-sent
	}
	time.Sleep(500 * time.Millisecond)
	thawed := time.Now()
	server.Thaw()
	sending.Wait()
	stream := must(js.Stream(t.Context(), deliver.Stream))(t)
	last := stream.CachedInfo().State.LastSeq
	if last != 2 {
		t.Errorf("got %d messages, want 2", last)
	}
	for seq := uint64(1); seq <= last; seq++ {
		header := must(stream.GetMsg(t.Context(), seq))(t).Header.Get("Fanfare-Sent") // in milliseconds since 1970
		if at := must(strconv.ParseInt(header, 10, 64))(t); at > thawed.UnixMilli() {
			t.Errorf("message %d says that it was sent %d ms after the broker went on", seq, at-thawed.UnixMilli())
		}
	}
}

func TestALargeTaskGoesAlone(t *testing.T) {
	t.Parallel()
	outbox, js := outboxOn(t)
	big := func() deliver.Task {
		return deliver.Task{Event: event.Event{Tenant: "acme", ID: "big", Data: bytes.Repeat([]byte("x"), mostBytes+1)}, Targets: targets(1)}
	}
	small := deliver.Task{Event: event.Event{Tenant: "acme", ID: "small"}, Targets: targets(1)}
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
	task := func(id string, counted bool) deliver.Task {
		return deliver.Task{Event: event.Event{Tenant: "acme", ID: id}, Targets: targets(1), Counted: counted}
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
	var tasks []deliver.Task
	for range 16 {
		tasks = append(tasks, deliver.Task{Event: event.Event{Tenant: "acme", ID: "wide", Data: []byte("{}")}, Targets: targets(deliver.MaxTargets)})
	}
	if err := outbox.Send(t.Context(), tasks...); err != nil {
		t.Fatal(err)
	}
	list, _ := messages(t, js)
	if len(list) != 4 {
		t.Errorf("1,024 targets went in %d messages, want 4 of %d", len(list), mostTargets)
	}
}

func TestTasksWithoutOrWithTooManyTargetsAreRefused(t *testing.T) {
	t.Parallel()
	outbox, js := outboxOn(t)
	for _, n := range []int{0, deliver.MaxTargets + 1} {
		if err := outbox.Send(t.Context(), deliver.Task{Targets: targets(n)}); err == nil || !strings.Contains(err.Error(), "1 to 64 targets") {
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
	if err := jetstream.Apply(t.Context(), js, deliver.Inbox(64<<10), deliver.BacklogInbox(64<<10)); err != nil {
		t.Fatal(err)
	}
	outbox := deliver.NewOutbox(js, must(jetstream.NewPublisher(js, jetstream.PublisherConfig{}))(t))
	task := deliver.Task{Event: event.Event{Tenant: "acme", Data: bytes.Repeat([]byte("x"), 30<<10)}, Targets: targets(1)}
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
	if err := outbox.Send(ctx, deliver.Task{Targets: targets(1)}); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, want that it was cancelled", err)
	}
}
