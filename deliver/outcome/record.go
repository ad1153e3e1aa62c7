package outcome

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/google/uuid"

	"github.com/fanfarehq/fanfare/internal/cbor"
	"github.com/fanfarehq/fanfare/internal/event"
)

// Record is one outcome of a delivery: an item of the ATTEMPTS stream, on its way to the ledger. A
// delivery has one Record for each time that it was put off, and one for its end. Times are kept to the microsecond,
// as Postgres keeps them.
type Record struct {
	Delivery     uuid.UUID
	EventUID     uuid.UUID
	EventID      string
	EventType    string
	Tenant       string
	Seq          uint64 // the event's place in its stream
	Subscription uuid.UUID
	Generation   int
	// Step orders the records and the leases of one delivery; of two that contradict, the higher one is right.
	Step      int
	Outcome   Outcome
	Reason    Reason
	Attempts  int // made so far, Attempt included
	Excused   int // attempts made that an outage of our own network excused; they are not among Attempts
	CreatedAt time.Time
	At        time.Time // of the end; of Later, when it is due
	Held      bool      // only Later: due once the subscription is resumed or the delivery is retried by hand
	Test      bool
	// Attempt is the attempt that led here; nil where there was none.
	Attempt *Made
	// Event is the event as event.Pack writes it, where the delivery may outlive the stream of events.
	Event []byte

	Keep *event.Event // to be packed into Event when the record is written
	// Counted says that the record may repeat one that killed the recorder, which is to count its message; see internal/suspect.
	// It is not written.
	Counted bool
}

// Made is an attempt that was made.
type Made struct {
	Number    int
	StartedAt time.Time
	Micros    int64 // duration in microseconds
	Status    int   // 0 where none came
	Error     string
	Response  []byte
	// Reason is the attempt's own; the Record's may be another, such as retry_after.
	Reason Reason
	// Revision is that of the subscription that the attempt was sent by; 0 where it is not known.
	Revision int64
	// Exchange says how the request went, as PackExchange writes it.
	Exchange []byte
	// Headers are those of the response, as a JSON object; nil where they are not kept.
	Headers []byte

	// stored are Error, Response and Headers as they are written. What is read from the stream or the ledger has them in place
	// of the others, until it is opened.
	stored Answer
}

// On the wire a Record is an array of recordFields, and its attempt one of madeFields. Later versions may append fields,
// which readers skip.
const (
	recordFields = 17
	leastMade    = 7             // of earlier versions
	madeFields   = leastMade + 3 // the revision; then exchange and headers
	moreFields   = 16            // at most so many are skipped
	maxRecords   = 1 << 14       // in one message

	flagHeld, flagTest = 1, 2
	excusedShift       = 2 // the bits above the flags count excused attempts
)

// Append appends the record to buf.
func (r *Record) Append(buf []byte) []byte {
	w := cbor.Writer{Buf: buf}
	w.Array(recordFields)
	w.Bytes(r.Delivery[:])
	w.Bytes(r.EventUID[:])
	w.Text(r.EventID)
	w.Text(r.EventType)
	w.Text(r.Tenant)
	w.Uint(r.Seq)
	w.Bytes(r.Subscription[:])
	w.Uint(uint64(r.Generation))
	w.Uint(uint64(r.Step))
	w.Text(string(r.Outcome))
	w.Text(string(r.Reason))
	w.Uint(uint64(r.Attempts))
	w.Int(r.CreatedAt.UnixMicro())
	w.Int(r.At.UnixMicro())
	flags := uint64(min(r.Excused, math.MaxInt16)) << excusedShift
	if r.Held {
		flags |= flagHeld
	}
	if r.Test {
		flags |= flagTest
	}
	w.Uint(flags)
	if a := r.Attempt; a == nil {
		w.Null()
	} else {
		w.Array(madeFields)
		w.Uint(uint64(a.Number))
		w.Int(a.StartedAt.UnixMicro())
		w.Int(a.Micros)
		w.Uint(uint64(a.Status))
		said := a.Said()
		w.Text(said.Err)
		w.Bytes(said.Response)
		w.Text(string(a.Reason))
		w.Int(a.Revision)
		w.Bytes(a.Exchange)
		w.Bytes(said.Headers)
	}
	w.Bytes(r.Event)
	return w.Buf
}

// ErrRecord says that a record is not valid; see Valid.
var ErrRecord = errors.New("record has no outcome or no delivery")

// Unpack reads a message of ATTEMPTS. The records share its bytes. It does not check that they are valid.
func Unpack(data []byte) ([]*Record, error) {
	in, n, err := cbor.Unwrap(data, maxRecords)
	if err != nil {
		return nil, err
	}
	room := make([]struct {
		Record
		Made
	}, n)
	records := make([]*Record, n)
	in.Lenient = true // One malformed text must not keep the other records from the ledger.
	before := &Record{}
	for i := range room {
		r := &room[i].Record
		r.read(in, before, &room[i].Made)
		if in.Err != nil {
			return nil, fmt.Errorf("decode outcome %d: %w", i, in.Err)
		}
		records[i], before = r, r
	}
	return records, nil
}

// read reads one record. Texts that equal those of before are shared with it.
func (r *Record) read(in *cbor.Reader, before *Record, room *Made) {
	fields := in.Array(recordFields, recordFields+moreFields)
	r.Delivery = in.ID()
	r.EventUID = in.ID()
	r.EventID = in.Text(before.EventID)
	r.EventType = in.Text(before.EventType)
	r.Tenant = in.Text(before.Tenant)
	r.Seq = in.Uint()
	r.Subscription = in.ID()
	r.Generation = int(in.Int())
	r.Step = int(in.Int())
	r.Outcome = Outcome(in.Text(string(before.Outcome)))
	r.Reason = Reason(in.Text(string(before.Reason)))
	r.Attempts = int(in.Int())
	r.CreatedAt = time.UnixMicro(in.Int()).UTC()
	r.At = time.UnixMicro(in.Int()).UTC()
	flags := in.Uint()
	r.Held, r.Test = flags&flagHeld != 0, flags&flagTest != 0
	r.Excused = int(min(flags>>excusedShift, math.MaxInt16))
	if !in.Null() {
		fields := in.Array(leastMade, madeFields+moreFields)
		room.Number = int(in.Int())
		room.StartedAt = time.UnixMicro(in.Int()).UTC()
		room.Micros = in.Int()
		room.Status = int(in.Int())
		room.Error = in.Text("")
		room.Response = in.Bytes()
		room.Reason = Reason(in.Text(string(r.Reason)))
		if fields > leastMade {
			room.Revision = in.Int()
		}
		if fields > leastMade+1 {
			room.Exchange = in.Bytes()
		}
		if fields > leastMade+2 {
			room.Headers = in.Bytes()
		}
		r.Attempt = room
		in.Skipped(fields - madeFields)
	}
	r.Event = in.Bytes()
	in.Skipped(fields - recordFields)
}

// Valid reports whether the ledger can hold the record.
func (r *Record) Valid() bool {
	switch r.Outcome {
	case Delivered, Later, Dead, Cancelled:
		return r.Delivery != uuid.Nil
	default:
		return false
	}
}

// AllValid reports whether the ledger can hold all records.
func AllValid(records []*Record) bool {
	return !slices.ContainsFunc(records, func(r *Record) bool { return !r.Valid() })
}

// Ended reports whether the delivery is over.
func (r *Record) Ended() bool { return r.Outcome != Later }

// State is the state of the delivery after the record.
func (r *Record) State() string {
	if r.Outcome == Later {
		return Pending
	}
	return string(r.Outcome)
}
