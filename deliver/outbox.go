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
	// targetRoom is how many bytes a target takes, unless it is sent again.
	targetRoom = 19
)

var errTargets = errors.New("a task has 1 to 64 targets")

// Outbox hands tasks over: it packs those that come at the same time into messages of the TASKS stream, so
// that a task costs a share of a message, of an fsync and of an acknowledgement.
type Outbox struct {
	to    *jetstream.Publisher
	group *group.Committer[parcel]
}

// parcel is what one call of Send holds, encoded by its caller.
type parcel []encodedTask

type encodedTask struct {
	raw  []byte
	size int // the larger of its bytes and what its targets count as
}

// NewOutbox makes an Outbox.
func NewOutbox(to *jetstream.Publisher) *Outbox {
	o := &Outbox{to: to}
	o.group = group.New(group.Limits{Count: maxMessageTasks, Bytes: maxMessageBytes}, parcel.size, o.commit)
	return o
}

// Send returns once the tasks are on disk. If it fails, some may be: whoever sends them again marks them as
// Suspect. It fails with the errors of internal/jetstream and with those of ctx.
func (o *Outbox) Send(ctx context.Context, tasks ...Task) error {
	p := make(parcel, 0, len(tasks))
	for i := range tasks {
		t := &tasks[i]
		if len(t.Targets) == 0 || len(t.Targets) > MaxTargets {
			return fmt.Errorf("send event %s to %d targets: %w", t.Event.ID, len(t.Targets), errTargets)
		}
		raw := t.append(make([]byte, 0, t.Event.room()+len(t.Targets)*targetRoom))
		p = append(p, encodedTask{raw: raw, size: max(len(raw), len(t.Targets)*bytesPerTarget)})
	}
	if len(p) == 0 {
		return nil
	}
	if err := o.group.Do(ctx, p); err != nil {
		return fmt.Errorf("send %d tasks: %w", len(tasks), err)
	}
	return nil
}

func (p parcel) size() int {
	n := 0
	for _, t := range p {
		n += t.size
	}
	return n
}

// commit packs a group into as few messages as the bounds allow and puts them on disk together.
func (o *Outbox) commit(ctx context.Context, parcels []parcel) error {
	var messages []*message.Message
	var items [][]byte
	bytes := 0
	flush := func() {
		messages = append(messages, &message.Message{Payload: wrap(len(items), items...)})
		items, bytes = items[:0], 0
	}
	for _, p := range parcels {
		for _, t := range p {
			if len(items) > 0 && (len(items) == maxMessageTasks || bytes+t.size > maxMessageBytes) {
				flush()
			}
			items = append(items, t.raw)
			bytes += t.size
		}
	}
	flush()
	if len(messages) == 1 {
		_, err := o.to.Send(ctx, subject, messages[0])
		return err
	}
	return o.to.Publish(subject, messages...)
}
