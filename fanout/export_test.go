package fanout

import (
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
