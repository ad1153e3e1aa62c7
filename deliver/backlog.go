package deliver

import (
	"context"
	"fmt"
	"hash/fnv"
	"strconv"

	natsjs "github.com/nats-io/nats.go/jetstream"

	"github.com/fanfarehq/fanfare/internal/jetstream"
)

// BacklogStream holds the tasks of tenants that hand over more than their allowance, so that they wait
// behind no task but their own. See Outbox for the choice.
const BacklogStream = "BACKLOG"

// backlogLanes is how many consumers share the backlog. A tenant is in one lane; tenants of the same lane
// wait for each other, with what exceeds their allowances.
const backlogLanes = 16

// BacklogInbox is the stream and the durable consumers that hold the backlog, for `fanfare topology`.
func BacklogInbox(maxBytes int64) jetstream.Inbox {
	inbox := jetstream.Inbox{Unsynced: true, Stream: jetstream.StreamOf(BacklogStream, "backlog.>", maxBytes)}
	inbox.Stream.Description = "Deliveries to make now of tenants that have many; trimmed to what is done"
	for _, l := range taskQueues() {
		if l.stream == BacklogStream {
			lane := jetstream.ConsumerOf(l.durable, "Sends the webhooks of a lane of the backlog", 1024)
			lane.FilterSubject = l.filter
			inbox.Consumers = append(inbox.Consumers, lane)
		}
	}
	return inbox
}

// taskQueue is a durable consumer of tasks.
type taskQueue struct {
	stream, durable string
	filter          string // the subjects of its messages
}

// taskQueues returns all consumers of tasks.
func taskQueues() []taskQueue {
	list := []taskQueue{{stream: Stream, durable: Durable, filter: "tasks.>"}}
	for i := range backlogLanes {
		n := strconv.Itoa(i)
		list = append(list, taskQueue{stream: BacklogStream, durable: "deliver-" + n, filter: "backlog." + n + ".*"})
	}
	return list
}

// laneOf returns the lane of the backlog that a tenant is in.
func laneOf(tenant string) int {
	h := fnv.New32a()
	_, _ = h.Write([]byte(tenant))
	return int(h.Sum32() % backlogLanes)
}

// backlogSubject is where tasks of a tenant go that wait in the backlog.
func backlogSubject(tenant string) string {
	return "backlog." + strconv.Itoa(laneOf(tenant)) + "." + tenant
}

// queuePlace says how far the workers are with one consumer of tasks.
type queuePlace struct {
	taskQueue
	done    uint64 // all messages of the consumer up to this place of the stream are acknowledged
	pending uint64 // messages that are not
}

// queuePlaces returns the places of the consumers of a stream of tasks, whose state must have been looked at just before.
func queuePlaces(ctx context.Context, stream natsjs.Stream) (list []queuePlace, err error) {
	info := stream.CachedInfo()
	for _, q := range taskQueues() {
		if q.stream != info.Config.Name {
			continue
		}
		consumer, err := stream.Consumer(ctx, q.durable)
		if err != nil {
			return nil, fmt.Errorf("look at consumer %s: %w", q.durable, err)
		}
		at := consumer.CachedInfo()
		p := queuePlace{taskQueue: q, done: at.AckFloor.Stream, pending: at.NumPending + uint64(at.NumAckPending)}
		if p.pending == 0 {
			// Its last message may be far back, and purged messages move no floor.
			p.done = max(p.done, info.State.LastSeq)
		}
		list = append(list, p)
	}
	return list, nil
}
