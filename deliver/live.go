package deliver

import (
	"context"
	"fmt"

	"github.com/google/uuid"
	natsjs "github.com/nats-io/nats.go/jetstream"
	"github.com/synadia-io/orbit.go/jetstreamext"

	"github.com/fanfarehq/fanfare/internal/jetstream"
)

// Live returns the events that are in tasks which no worker has acknowledged, with their targets: their deliveries
// are on their way.
func Live(ctx context.Context, js natsjs.JetStream) (map[uuid.UUID]map[uuid.UUID]bool, error) {
	live := map[uuid.UUID]map[uuid.UUID]bool{}
	for _, name := range []string{Stream, BacklogStream} {
		stream, err := js.Stream(ctx, name)
		if err != nil {
			return nil, fmt.Errorf("look at stream %s: %w", name, err)
		}
		places, err := queuePlaces(ctx, stream)
		if err != nil {
			return nil, err
		}
		for _, p := range places {
			if err := liveOf(ctx, js, p, stream.CachedInfo().State.LastSeq, live); err != nil {
				return nil, fmt.Errorf("read tasks of %s: %w", name, err)
			}
		}
	}
	return live, nil
}

// liveOf reads the messages of one consumer that are not acknowledged, up to a place of its stream.
func liveOf(ctx context.Context, js natsjs.JetStream, p queuePlace, last uint64, live map[uuid.UUID]map[uuid.UUID]bool) error {
	for seq := p.done + 1; seq <= last; {
		next, err := liveBatch(ctx, js, p.taskQueue, seq, live)
		if next == 0 || err != nil {
			return err
		}
		seq = next
	}
	return nil
}

// liveBatch reads some messages of tasks and returns where the next ones begin, 0 at the end.
func liveBatch(
	ctx context.Context, js natsjs.JetStream, q taskQueue, seq uint64, live map[uuid.UUID]map[uuid.UUID]bool,
) (next uint64, err error) {
	messages := jetstream.Stored(ctx, js, q.stream, 100,
		jetstreamext.GetBatchSeq(seq), jetstreamext.GetBatchSubject(q.filter), jetstreamext.GetBatchMaxBytes(8<<20))
	for raw, err := range messages {
		if err != nil {
			return 0, err
		}
		next = raw.Sequence + 1
		tasks, err := unpackTasks(raw.Data)
		if err != nil {
			continue // It will be in quarantine.
		}
		for _, t := range tasks {
			if live[t.Event.UID] == nil {
				live[t.Event.UID] = map[uuid.UUID]bool{}
			}
			for _, target := range t.Targets {
				live[t.Event.UID][target.Subscription] = true
			}
		}
	}
	return next, nil
}

// TasksPlace is a moment of the streams of tasks: the last message of each.
type TasksPlace [2]uint64

// Before reports whether a stream of tasks ends earlier here than there.
func (p TasksPlace) Before(other TasksPlace) bool { return p[0] < other[0] || p[1] < other[1] }

// TasksEnd returns the place after all tasks that are on disk now.
func TasksEnd(ctx context.Context, js natsjs.JetStream) (place TasksPlace, err error) {
	for i, name := range []string{Stream, BacklogStream} {
		stream, err := js.Stream(ctx, name)
		if err != nil {
			return place, fmt.Errorf("look at stream %s: %w", name, err)
		}
		place[i] = stream.CachedInfo().State.LastSeq
	}
	return place, nil
}

// TasksPlaces returns the end of all tasks that are on disk, and the place up to which all are acknowledged.
func TasksPlaces(ctx context.Context, js natsjs.JetStream) (end, done TasksPlace, err error) {
	for i, name := range []string{Stream, BacklogStream} {
		stream, err := js.Stream(ctx, name)
		if err != nil {
			return end, done, fmt.Errorf("look at stream %s: %w", name, err)
		}
		end[i] = stream.CachedInfo().State.LastSeq
		done[i] = end[i]
		places, err := queuePlaces(ctx, stream)
		if err != nil {
			return end, done, err
		}
		for _, p := range places {
			done[i] = min(done[i], p.done)
		}
	}
	return end, done, nil
}

// TasksDone reports whether all tasks up to a place are acknowledged: their outcomes are on disk.
func TasksDone(ctx context.Context, js natsjs.JetStream, place TasksPlace) (bool, error) {
	for i, name := range []string{Stream, BacklogStream} {
		stream, err := js.Stream(ctx, name)
		if err != nil {
			return false, fmt.Errorf("look at stream %s: %w", name, err)
		}
		places, err := queuePlaces(ctx, stream)
		if err != nil {
			return false, err
		}
		for _, p := range places {
			if p.done < place[i] && p.pending > 0 {
				return false, nil
			}
		}
	}
	return true, nil
}
