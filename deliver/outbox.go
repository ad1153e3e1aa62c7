package deliver

import (
	"context"
	"errors"
	"fmt"

	"github.com/ThreeDotsLabs/watermill/message"

	"github.com/fanfarehq/fanfare/internal/group"
	"github.com/fanfarehq/fanfare/internal/jetstream"
)

// The bounds of one message of tasks. One task that is larger goes alone.
const (
	maxMessageTasks   = 64
	maxMessageTargets = 256
	maxMessageBytes   = 512 << 10
	// bytesPerTarget lets one bound on bytes hold the targets as well.
	bytesPerTarget = maxMessageBytes / maxMessageTargets
)

var errTargets = errors.New("a task has 1 to 64 targets")

// Outbox hands tasks over: it packs those that come at the same time into messages of the TASKS stream, so
// that a task costs a share of a message, of an fsync and of an acknowledgement.
type Outbox struct {
	to    *jetstream.Publisher
	group *group.Committer[parcel]
}

// parcel is what one call of Send holds.
type parcel struct {
	tasks []Task
	size  int // the sum of their weights
}

// weight is the larger of a task's bytes and what its targets count as.
func (t *Task) weight() int { return max(t.room(), len(t.Targets)*bytesPerTarget) }

// NewOutbox makes an Outbox.
func NewOutbox(to *jetstream.Publisher) *Outbox {
	o := &Outbox{to: to}
	o.group = group.New(group.Limits{Count: maxMessageTasks, Bytes: maxMessageBytes}, func(p parcel) int { return p.size }, o.commit)
	return o
}

// Send returns once the tasks are on disk. If it fails, some may be: whoever sends them again marks them as
// Suspect. It fails with the errors of internal/jetstream and with those of ctx. Nothing of the tasks may be changed
// afterwards, whatever the outcome: they are written by whoever leads their group.
func (o *Outbox) Send(ctx context.Context, tasks ...Task) error {
	if len(tasks) == 0 {
		return nil
	}
	p := parcel{tasks: tasks}
	for i := range tasks {
		t := &tasks[i]
		if len(t.Targets) == 0 || len(t.Targets) > MaxTargets {
			return fmt.Errorf("send event %s to %d targets: %w", t.Event.ID, len(t.Targets), errTargets)
		}
		p.size += t.weight()
	}
	if err := o.group.Do(ctx, p); err != nil {
		return fmt.Errorf("send %d tasks: %w", len(tasks), err)
	}
	return nil
}

// commit packs a group into as few messages as the bounds allow and puts them on disk together.
func (o *Outbox) commit(ctx context.Context, parcels []parcel) error {
	var messages []*message.Message
	var next []*Task
	weight := 0
	flush := func() {
		messages = append(messages, &message.Message{Payload: packTasks(next)})
		next, weight = next[:0], 0
	}
	for _, p := range parcels {
		for i := range p.tasks {
			t := &p.tasks[i]
			w := t.weight()
			if len(next) > 0 && (len(next) == maxMessageTasks || weight+w > maxMessageBytes) {
				flush()
			}
			next, weight = append(next, t), weight+w
		}
	}
	flush()
	if len(messages) == 1 {
		_, err := o.to.Send(ctx, subject, messages[0])
		return err
	}
	return o.to.Publish(subject, messages...)
}
