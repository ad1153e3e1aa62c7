package deliver

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	natsjs "github.com/nats-io/nats.go/jetstream"

	"github.com/fanfarehq/fanfare/deliver/outcome"
	"github.com/fanfarehq/fanfare/internal/cbor"
	"github.com/fanfarehq/fanfare/internal/group"
	"github.com/fanfarehq/fanfare/internal/jetstream"
	"github.com/fanfarehq/fanfare/internal/suspect"
)

// AttemptsStream holds outcomes on their way to the ledger; RecorderDurable is the recorders' shared place in it.
const (
	AttemptsStream  = "ATTEMPTS"
	RecorderDurable = "recorder"
	attemptsSubject = "attempts.made"
)

// AttemptsInbox is the stream and the durable consumer that hold outcomes, for `fanfare topology`. Nothing ages out
// of it: what is not yet in the ledger must stay, however long Postgres is away; see Trimmer.
func AttemptsInbox(maxBytes int64) jetstream.Inbox {
	return jetstream.Inbox{
		Stream: natsjs.StreamConfig{
			Name:               AttemptsStream,
			Description:        "Outcomes on their way to the ledger; trimmed to what is recorded",
			Subjects:           []string{"attempts.>"},
			Retention:          natsjs.LimitsPolicy,
			Storage:            natsjs.FileStorage,
			Discard:            natsjs.DiscardNew,
			MaxBytes:           maxBytes,
			Duplicates:         jetstream.DuplicateWindow,
			AllowAtomicPublish: true,
			AllowDirect:        true,
		},
		Consumers: []natsjs.ConsumerConfig{{
			Durable:       RecorderDurable,
			Description:   "Writes the ledger",
			AckPolicy:     natsjs.AckExplicitPolicy,
			AckWait:       jetstream.AckWait,
			MaxDeliver:    -1,
			MaxAckPending: maxRecorderPending,
		}},
	}
}

// maxRecorderPending bounds the messages that wait for Postgres; at 512 KiB each it bounds the memory as well.
const maxRecorderPending = 256

// journal puts records on disk, many in one message.
type journal struct {
	to    *jetstream.Publisher
	group *group.Committer[letter]
	pause time.Duration // between two messages,
	many  int           // if the first held so many outcomes
}

// letter is what one caller has to write: records, one after the other.
type letter struct {
	raw     []byte
	count   int
	counted bool // by internal/suspect
}

// A message costs the broker and the recorder as much as several outcomes. So while many come, the next message is
// held back until journalPause has passed since the last one: a delivery's slot is free by then, and nobody waits
// for its outcome but its task.
const (
	journalPause = 4 * time.Millisecond
	journalMany  = 16
	maxJournal   = 1000
	// gatherPause is that of what was due: its row holds the delivery, so not even a task waits, and a replay sends
	// thousands of which each would be a message, with a sync and a transaction of its own.
	gatherPause = 20 * time.Millisecond
)

func newJournal(to *jetstream.Publisher) *journal { return makeJournal(to, journalPause, journalMany) }

// newGathering makes a journal for the outcomes of what was due.
func newGathering(to *jetstream.Publisher) *journal { return makeJournal(to, gatherPause, 1) }

func makeJournal(to *jetstream.Publisher, pause time.Duration, many int) *journal {
	j := &journal{to: to, pause: pause, many: many}
	j.group = group.New(group.Limits{Count: maxJournal, Bytes: maxMessageBytes}, func(l letter) int { return len(l.raw) }, j.commit)
	return j
}

// write returns once all records are on disk. If it fails, some may be; they may be written again.
func (j *journal) write(ctx context.Context, records []*outcome.Record) error {
	for len(records) > 0 {
		l, n := pack(records)
		err := j.group.Do(ctx, l)
		if errors.Is(err, jetstream.ErrTooLarge) && n == 1 {
			err = j.writeLess(ctx, records[0])
		}
		if err != nil {
			return fmt.Errorf("write %d outcomes: %w", len(records), err)
		}
		records = records[n:]
	}
	return nil
}

// writeGuarded is write, but a panic is an error.
func (j *journal) writeGuarded(ctx context.Context, records []*outcome.Record) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("%w: write %d outcomes: %v", errPanicked, len(records), p)
		}
	}()
	return j.write(ctx, records)
}

// pack puts the first records into a letter, as many as a message may hold, and returns how many those are.
func pack(records []*outcome.Record) (l letter, n int) {
	l.raw = make([]byte, 0, 256*len(records))
	for n < len(records) && n < maxJournal {
		before := len(l.raw)
		l.raw = records[n].Append(l.raw)
		if n > 0 && len(l.raw) > maxMessageBytes {
			l.raw = l.raw[:before]
			break
		}
		l.counted = l.counted || records[n].Counted
		n++
	}
	l.count = n
	return l, n
}

// writeLess writes a record that is too large for the broker without the receiver's response, and then without the event,
// which its own stream still has: an outcome that could not be written would send its delivery for ever.
func (j *journal) writeLess(ctx context.Context, r *outcome.Record) error {
	less := r.WithoutResponse()
	err := j.group.Do(ctx, letter{raw: less.Append(nil), count: 1, counted: r.Counted})
	if errors.Is(err, jetstream.ErrTooLarge) {
		less.Event = nil
		err = j.group.Do(ctx, letter{raw: less.Append(nil), count: 1, counted: r.Counted})
	}
	return err
}

func (j *journal) commit(ctx context.Context, letters []letter) error {
	begun := time.Now()
	count := 0
	raw := make([][]byte, len(letters))
	counted := false
	for i, l := range letters {
		raw[i] = l.raw
		count += l.count
		counted = counted || l.counted
	}
	msg := &message.Message{Payload: cbor.Wrap(count, raw...)}
	if counted {
		suspect.Mark(msg)
	}
	_, err := j.to.Send(ctx, attemptsSubject, msg)
	if err == nil && count >= j.many {
		time.Sleep(j.pause - time.Since(begun))
	}
	return err
}
