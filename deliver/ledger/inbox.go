package ledger

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
	Stream          = "ATTEMPTS"
	Durable         = "recorder"
	AttemptsSubject = "attempts.made"
	// waitedSubject is that of messages with outcomes that others wait for: the next delivery of their key.
	waitedSubject = "attempts.waited"
)

// Inbox is the stream and the durable consumer that hold outcomes, for `fanfare topology`. Nothing ages out
// of it: outcomes that are not yet in the ledger must stay, however long Postgres is away; see Trimmer.
func Inbox(maxBytes int64) jetstream.Inbox {
	stream := jetstream.StreamOf(Stream, "attempts.>", maxBytes)
	stream.Description = "Outcomes on their way to the ledger; trimmed to what is recorded"
	return jetstream.Inbox{
		Stream:    stream,
		Unsynced:  true,
		Consumers: []natsjs.ConsumerConfig{jetstream.ConsumerOf(Durable, "Writes the ledger", maxRecorderPending)},
	}
}

// maxRecorderPending bounds the messages that wait for Postgres; at 512 KiB each it bounds the memory as well.
const maxRecorderPending = 256

// Journal puts records into ATTEMPTS, many in one message. A message costs the broker and the recorder as much as several
// outcomes, and nobody waits for most outcomes but their tasks, so they are gathered for a while.
type Journal struct {
	to    *jetstream.Publisher
	group *group.Committer[letter]
}

// letter is what one caller has to write: records, one after the other.
type letter struct {
	raw     []byte
	count   int
	counted bool // by internal/suspect
	waits   Waits
}

const (
	maxJournal = 1000
	// maxJournalBytes bounds a message, whatever it holds.
	maxJournalBytes = 512 << 10
	// journalGather is how long outcomes are gathered. A delivery's slot is free by then, and only its task or nothing waits;
	// until the outcome is written, a worker that dies leaves the delivery to be made again.
	journalGather = 5 * time.Millisecond
)

// Waits names the process that an outcome holds up until it is written.
type Waits int

const (
	// TaskWaits is for its task, or nothing: outcomes are gathered.
	TaskWaits Waits = iota
	// KeyWaits is for the next delivery of its key, so that the outcome is written and recorded at once.
	KeyWaits
)

// NewJournal makes a Journal that publishes with to.
func NewJournal(to *jetstream.Publisher) *Journal {
	j := &Journal{to: to}
	limits := group.Limits{Count: maxJournal, Bytes: maxJournalBytes, Gather: journalGather}
	j.group = group.New(limits, func(l letter) int { return len(l.raw) }, j.commit)
	return j
}

// Write returns once all records are in the stream, which is not synced. If it fails, some may be; they may be written again.
func (j *Journal) Write(ctx context.Context, records []*outcome.Record, waits Waits) error {
	for len(records) > 0 {
		l, n := pack(records)
		l.waits = waits
		err := j.do(ctx, l)
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

func (j *Journal) do(ctx context.Context, l letter) error {
	if l.waits == KeyWaits {
		return j.group.DoNow(ctx, l)
	}
	return j.group.Do(ctx, l)
}

// ErrPanicked says that writing a record panicked.
var ErrPanicked = errors.New("writing the outcome panicked")

// WriteGuarded is write, but a panic is ErrPanicked.
func (j *Journal) WriteGuarded(ctx context.Context, records []*outcome.Record, waits Waits) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("%w: write %d outcomes: %v", ErrPanicked, len(records), p)
		}
	}()
	return j.Write(ctx, records, waits)
}

// pack puts the first records into a letter, as many as a message may hold, and returns how many those are.
func pack(records []*outcome.Record) (l letter, n int) {
	l.raw = make([]byte, 0, 256*len(records))
	for n < len(records) && n < maxJournal {
		before := len(l.raw)
		l.raw = records[n].Append(l.raw)
		if n > 0 && len(l.raw) > maxJournalBytes {
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
func (j *Journal) writeLess(ctx context.Context, r *outcome.Record) error {
	less := r.WithoutResponse()
	err := j.group.Do(ctx, letter{raw: less.Append(nil), count: 1, counted: r.Counted})
	if errors.Is(err, jetstream.ErrTooLarge) {
		less.Event = nil
		err = j.group.Do(ctx, letter{raw: less.Append(nil), count: 1, counted: r.Counted})
	}
	return err
}

func (j *Journal) commit(ctx context.Context, letters []letter) error {
	count, subject := 0, AttemptsSubject
	raw := make([][]byte, len(letters))
	counted := false
	for i, l := range letters {
		raw[i] = l.raw
		count += l.count
		counted = counted || l.counted
		if l.waits == KeyWaits {
			subject = waitedSubject
		}
	}
	msg := &message.Message{Payload: cbor.Wrap(count, raw...)}
	if counted {
		suspect.Mark(msg)
	}
	_, err := j.to.Send(ctx, subject, msg)
	return err
}
