package deliver

import (
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"
)

// Record is what became of a delivery: one item of the ATTEMPTS stream, on its way to the ledger. A
// delivery has one Record for each time that it was put off, and one for its end.
type Record struct {
	Delivery     uuid.UUID `cbor:"1,keyasint"`
	EventUID     uuid.UUID `cbor:"2,keyasint"`
	EventID      string    `cbor:"3,keyasint"`
	EventType    string    `cbor:"4,keyasint"`
	Tenant       string    `cbor:"5,keyasint"`
	Seq          uint64    `cbor:"6,keyasint"` // the event's place in its stream
	Subscription uuid.UUID `cbor:"7,keyasint"`
	Generation   int       `cbor:"8,keyasint,omitempty"`
	// Step orders the records and the leases of one delivery; of two that contradict, the higher one is right.
	Step      int       `cbor:"9,keyasint"`
	Outcome   Outcome   `cbor:"10,keyasint"`
	Reason    Reason    `cbor:"11,keyasint"`
	Attempts  int       `cbor:"12,keyasint,omitempty"` // made so far, Attempt included
	CreatedAt time.Time `cbor:"13,keyasint"`
	At        time.Time `cbor:"14,keyasint"`           // of the end; of OutcomeLater, when it is due
	Held      bool      `cbor:"15,keyasint,omitempty"` // OutcomeLater, until somebody acts
	Test      bool      `cbor:"16,keyasint,omitempty"`
	// Attempt is the attempt that led here; nil where there was none.
	Attempt *Made `cbor:"17,keyasint,omitempty"`
	// Event is the event as packEvent packs it, where the delivery may outlive the stream of events.
	Event []byte `cbor:"18,keyasint,omitempty"`
}

// Made is an attempt that was made.
type Made struct {
	Number    int       `cbor:"1,keyasint"`
	StartedAt time.Time `cbor:"2,keyasint"`
	Micros    int64     `cbor:"3,keyasint"` // duration in microseconds
	Status    int       `cbor:"4,keyasint,omitempty"`
	Error     string    `cbor:"5,keyasint,omitempty"`
	Response  []byte    `cbor:"6,keyasint,omitempty"`
	// Reason is the attempt's own; the Record's may be another, such as retry_after.
	Reason Reason `cbor:"7,keyasint"`
}

var errRecord = errors.New("it is no outcome of a delivery")

// unpackRecords reads a message of ATTEMPTS.
func unpackRecords(c codec, data []byte) ([]*Record, error) {
	list, err := unpack[Record](c, data)
	if err != nil {
		return nil, err
	}
	records := make([]*Record, len(list))
	for i := range list {
		r := &list[i]
		switch r.Outcome {
		case OutcomeDelivered, OutcomeLater, OutcomeDead, OutcomeCancelled:
		default:
			return nil, fmt.Errorf("decode item %d: %w", i, errRecord)
		}
		if r.Delivery == uuid.Nil || r.CreatedAt.IsZero() || r.At.IsZero() {
			return nil, fmt.Errorf("decode item %d: %w", i, errRecord)
		}
		records[i] = r
	}
	return records, nil
}

// ended reports whether the delivery is over.
func (r *Record) ended() bool { return r.Outcome != OutcomeLater }

// made describes an attempt for the ledger.
func made(r Result, number int) *Made {
	m := &Made{
		Number: number, StartedAt: r.StartedAt, Micros: r.Duration.Microseconds(),
		Status: r.Status, Response: r.Response, Reason: r.Reason,
	}
	if r.Err != nil {
		m.Error = sanitizeText(r.Err.Error())
	}
	return m
}
