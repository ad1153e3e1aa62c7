package deliver

import (
	"context"
	"errors"
	"fmt"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/fxamacker/cbor/v2"
	natsjs "github.com/nats-io/nats.go/jetstream"

	"github.com/fanfarehq/fanfare/internal/group"
	"github.com/fanfarehq/fanfare/internal/jetstream"
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
	codec codec
	group *group.Committer[cbor.RawMessage]
}

func newJournal(to *jetstream.Publisher, c codec) *journal {
	j := &journal{to: to, codec: c}
	j.group = group.New(group.Limits{Count: 1000, Bytes: maxMessageBytes}, func(raw cbor.RawMessage) int { return len(raw) }, j.commit)
	return j
}

// write returns once the record is on disk. A record that is too large for the broker is written without the
// receiver's response, and then without the event, which its own stream still has: an outcome that could
// not be written would send its delivery for ever.
func (j *journal) write(ctx context.Context, r *Record) error {
	err := j.try(ctx, r)
	if errors.Is(err, jetstream.ErrTooLarge) && r.Attempt != nil && r.Attempt.Response != nil {
		r.Attempt.Response = nil
		err = j.try(ctx, r)
	}
	if errors.Is(err, jetstream.ErrTooLarge) && r.Event != nil {
		r.Event = nil
		err = j.try(ctx, r)
	}
	return err
}

func (j *journal) try(ctx context.Context, r *Record) error {
	raw, err := j.codec.enc.Marshal(r)
	if err != nil {
		return fmt.Errorf("encode outcome of %s: %w", r.Delivery, err)
	}
	if err := j.group.Do(ctx, raw); err != nil {
		return fmt.Errorf("write outcome of %s: %w", r.Delivery, err)
	}
	return nil
}

func (j *journal) commit(ctx context.Context, records []cbor.RawMessage) error {
	payload, err := j.codec.pack(records)
	if err != nil {
		return fmt.Errorf("pack %d outcomes: %w", len(records), err)
	}
	_, err = j.to.Send(ctx, attemptsSubject, &message.Message{Payload: payload})
	return err
}
