package fanout

import (
	"context"
	"iter"
	"maps"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
)

// Wire is a message of the stream, for tests from outside.
type Wire struct {
	Subject string
	Seq     uint64
	At      time.Time
	MsgID   string
	Headers map[string]string
	Data    []byte
}

// DecodeWire decodes a message as fan-out does.
func DecodeWire(w Wire) (*Event, *Refusal) {
	return decode(wire{subject: w.Subject, seq: w.Seq, at: w.At, msgID: w.MsgID, headers: maps.All(w.Headers), data: w.Data})
}

// Encode encodes the event as Send does, with its subject.
func (e *Event) Encode() (string, *message.Message) {
	return subjectPrefix + e.Tenant + "." + e.Type, e.encode()
}

// SetClock makes a Reconciler believe that it is another time.
func SetClock(r *Reconciler, now func() time.Time) { r.now = now }

// StepOf is how many events a step of a replay looks at.
func StepOf(state string, rate int) int {
	return (&replay{state: replayState(state), rate: rate}).most()
}

// PauseAfter is how long a replay waits after a step.
func PauseAfter(counting bool, wait, took time.Duration) time.Duration {
	return pauseAfter(counting, wait, took)
}

// Between reads the events of a tenant between two places.
func Between(ctx context.Context, r *Reader, tenant string, low, high uint64) iter.Seq2[*Event, error] {
	return r.between(ctx, tenant, low, high)
}
