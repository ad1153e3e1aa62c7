package deliver

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	natsjs "github.com/nats-io/nats.go/jetstream"

	"github.com/fanfarehq/fanfare/internal/group"
	"github.com/fanfarehq/fanfare/internal/jetstream"
	"github.com/fanfarehq/fanfare/internal/suspect"
	"github.com/fanfarehq/fanfare/internal/tenantkeys"
)

// The bounds of one message of tasks. One task that is larger goes alone.
const (
	maxMessageTasks   = 64
	maxMessageTargets = 256
	maxMessageBytes   = 512 << 10
	// bytesPerTarget lets one bound on bytes hold the targets as well.
	bytesPerTarget = maxMessageBytes / maxMessageTargets
	// backlogCommit bounds what one commit puts into the backlog: messages enough to be worth a sync.
	backlogCommit = 16 * maxMessageBytes
)

var errTargets = errors.New("a task has 1 to 64 targets")

// Outbox hands tasks over: it packs those that come at the same time into messages, so that a task costs a share
// of a message, of an fsync and of an acknowledgement.
//
// Tasks within their tenant's allowance go to TASKS, those of many tenants in one message. What exceeds it
// goes to the tenant's own subject in BACKLOG: so TASKS stays short, and a tenant's backlog delays nobody else.
type Outbox struct {
	to        *jetstream.Publisher
	allowance *allowance
	shared    *group.Committer[parcel]
	backlog   [backlogLanes]*group.Committer[parcel]
	room      *backlogRoom
	keys      *tenantkeys.Keys // nil: contents are stored in the clear
}

// parcel is what one call of Send holds for one tenant.
type parcel struct {
	tenant string
	tasks  []Task
	size   int       // the sum of their weights
	sent   time.Time // when Send was called; it may wait long for its turn
}

// weight is the larger of a task's bytes and what its targets count as.
func (t *Task) weight() int { return max(t.room(), len(t.Targets)*bytesPerTarget) }

// NewOutbox makes an Outbox that publishes with to, which is a Publisher on the connection of js.
func NewOutbox(js natsjs.JetStream, to *jetstream.Publisher) *Outbox {
	o := &Outbox{to: to, allowance: newAllowance(time.Now), room: &backlogRoom{js: js}}
	size := func(p parcel) int { return p.size }
	o.shared = group.New(group.Limits{Count: maxMessageTasks, Bytes: maxMessageBytes}, size, o.commitShared)
	for i := range o.backlog {
		o.backlog[i] = group.New(group.Limits{Bytes: backlogCommit}, size, o.commitBacklog)
	}
	return o
}

// SealWith has the contents of tasks sealed with the keys of their tenants. It is called before the first Send.
func (o *Outbox) SealWith(keys *tenantkeys.Keys) { o.keys = keys }

// Send returns once the tasks are in their streams, which are not synced. If it fails, some may be: whoever sends them again marks them as
// Suspect. It fails with the errors of internal/jetstream and with those of ctx. ErrFull may be meant for the tenant
// alone, whose backlog has its share of the room. Nothing of the tasks may be changed afterwards, whatever the
// outcome: they are written by whoever leads their group.
func (o *Outbox) Send(ctx context.Context, tasks ...Task) error {
	tasks, err := sealTasks(ctx, o.keys, tasks)
	if err != nil {
		return fmt.Errorf("send %d tasks: %w", len(tasks), err)
	}
	for rest := tasks; len(rest) > 0; {
		n := 1
		for n < len(rest) && rest[n].Event.Tenant == rest[0].Event.Tenant {
			n++
		}
		if err := o.send(ctx, rest[:n]); err != nil {
			return fmt.Errorf("send %d tasks: %w", len(tasks), err)
		}
		rest = rest[n:]
	}
	return nil
}

// send hands over tasks of one tenant.
func (o *Outbox) send(ctx context.Context, tasks []Task) error {
	p := parcel{tenant: tasks[0].Event.Tenant, tasks: tasks, sent: time.Now()}
	targets := 0
	for i := range tasks {
		t := &tasks[i]
		if len(t.Targets) == 0 || len(t.Targets) > MaxTargets {
			return fmt.Errorf("event %s to %d targets: %w", t.Event.ID, len(t.Targets), errTargets)
		}
		targets += len(t.Targets)
		p.size += t.weight()
	}
	if o.allowance.take(p.tenant, targets) {
		return o.shared.Do(ctx, p)
	}
	if err := o.room.has(ctx, p.tenant); err != nil {
		return err
	}
	return o.backlog[laneOf(p.tenant)].Do(ctx, p)
}

// commitShared puts a group into TASKS.
func (o *Outbox) commitShared(ctx context.Context, parcels []parcel) error {
	return o.publish(ctx, outgoing(nil, subject, parcels))
}

// commitBacklog puts a group into BACKLOG, the parcels of each tenant into messages of its own.
func (o *Outbox) commitBacklog(ctx context.Context, parcels []parcel) error {
	slices.SortStableFunc(parcels, func(a, b parcel) int { return strings.Compare(a.tenant, b.tenant) })
	var list []jetstream.Outgoing
	for len(parcels) > 0 {
		n := 1
		for n < len(parcels) && parcels[n].tenant == parcels[0].tenant {
			n++
		}
		before := len(list)
		list = outgoing(list, backlogSubject(parcels[0].tenant), parcels[:n])
		bytes := 0
		for _, x := range list[before:] {
			bytes += len(x.Message.Payload)
		}
		o.room.put(parcels[0].tenant, len(list)-before, bytes)
		parcels = parcels[n:]
	}
	return o.publish(ctx, list)
}

// outgoing packs parcels into as few messages as the bounds allow. A task that may kill its worker shares its message with no task of
// another event, which would go to quarantine with it.
func outgoing(list []jetstream.Outgoing, subject string, parcels []parcel) []jetstream.Outgoing {
	var next []*Task
	var sent time.Time // the first of them
	weight := 0
	flush := func() {
		msg := &message.Message{Payload: packTasks(next)}
		stamp(msg, sent)
		if next[0].Counted {
			suspect.Mark(msg)
		}
		list = append(list, jetstream.Outgoing{Subject: subject, Message: msg})
		next, weight = next[:0], 0
	}
	for _, p := range parcels {
		for i := range p.tasks {
			t := &p.tasks[i]
			w := t.weight()
			if len(next) > 0 && (len(next) == maxMessageTasks || weight+w > maxMessageBytes || apart(next[0], t)) {
				flush()
			}
			if len(next) == 0 || p.sent.Before(sent) {
				sent = p.sent
			}
			next, weight = append(next, t), weight+w
		}
	}
	flush()
	return list
}

// apart reports whether two tasks must not share a message.
func apart(a, b *Task) bool {
	return a.Counted != b.Counted || a.Counted && (a.Event.Tenant != b.Event.Tenant || a.Event.ID != b.Event.ID)
}

// publish sends messages together. The error is that of the first that is not stored.
func (o *Outbox) publish(ctx context.Context, list []jetstream.Outgoing) error {
	o.to.SendAll(ctx, list)
	for i := range list {
		if err := list[i].Err; err != nil {
			return fmt.Errorf("message %d of %d: %w", i+1, len(list), err)
		}
	}
	return nil
}
