package deliver

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/google/uuid"
)

// Record is what became of a delivery: one item of the ATTEMPTS stream, on its way to the ledger. A
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
	At        time.Time // of the end; of OutcomeLater, when it is due
	Held      bool      // OutcomeLater, until somebody acts
	Test      bool
	// Attempt is the attempt that led here; nil where there was none.
	Attempt *Made
	// Event is the event as packEvent packs it, where the delivery may outlive the stream of events.
	Event []byte

	keep *Event // to be packed into Event when the record is written
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

	// stored are Error and Response as they are written. What is read from the stream or the ledger has them in place of
	// Error and Response, until it is opened.
	stored answer
}

// On the wire a Record is an array of recordFields, and its attempt one of madeFields. Later versions may append to them;
// what a reader does not know it skips.
const (
	recordFields = 17
	madeFields   = 7
	moreFields   = 16      // at most so many are skipped
	maxRecords   = 1 << 14 // in one message

	flagHeld, flagTest = 1, 2
	excusedShift       = 2 // the bits above the flags count what was excused
)

// append writes the record.
func (r *Record) append(buf []byte) []byte {
	w := cborWriter{buf: buf}
	w.array(recordFields)
	w.bytes(r.Delivery[:])
	w.bytes(r.EventUID[:])
	w.text(r.EventID)
	w.text(r.EventType)
	w.text(r.Tenant)
	w.uint(r.Seq)
	w.bytes(r.Subscription[:])
	w.uint(uint64(r.Generation))
	w.uint(uint64(r.Step))
	w.text(string(r.Outcome))
	w.text(string(r.Reason))
	w.uint(uint64(r.Attempts))
	w.int(r.CreatedAt.UnixMicro())
	w.int(r.At.UnixMicro())
	flags := uint64(min(r.Excused, math.MaxInt16)) << excusedShift
	if r.Held {
		flags |= flagHeld
	}
	if r.Test {
		flags |= flagTest
	}
	w.uint(flags)
	if a := r.Attempt; a == nil {
		w.null()
	} else {
		w.array(madeFields)
		w.uint(uint64(a.Number))
		w.int(a.StartedAt.UnixMicro())
		w.int(a.Micros)
		w.uint(uint64(a.Status))
		said := a.said()
		w.text(said.err)
		w.bytes(said.response)
		w.text(string(a.Reason))
	}
	w.bytes(r.Event)
	return w.buf
}

var errRecord = errors.New("the record is not an outcome of a delivery")

// unpackRecords reads a message of ATTEMPTS. The records share its bytes. Whether each is valid is left to the reader.
func unpackRecords(data []byte) ([]*Record, error) {
	in, n, err := unwrap(data, maxRecords)
	if err != nil {
		return nil, err
	}
	room := make([]struct {
		Record
		Made
	}, n)
	records := make([]*Record, n)
	in.lenient = true // One odd text must not keep all the other records from the ledger.
	before := &Record{}
	for i := range room {
		r := &room[i].Record
		r.read(in, before, &room[i].Made)
		if in.err != nil {
			return nil, fmt.Errorf("decode outcome %d: %w", i, in.err)
		}
		records[i], before = r, r
	}
	return records, nil
}

// read reads one record. Texts that are those of the record before are shared with it.
func (r *Record) read(in *cborReader, before *Record, room *Made) {
	fields := in.array(recordFields, recordFields+moreFields)
	r.Delivery = in.id()
	r.EventUID = in.id()
	r.EventID = in.text(before.EventID)
	r.EventType = in.text(before.EventType)
	r.Tenant = in.text(before.Tenant)
	r.Seq = in.uint()
	r.Subscription = in.id()
	r.Generation = int(in.int())
	r.Step = int(in.int())
	r.Outcome = Outcome(in.text(string(before.Outcome)))
	r.Reason = Reason(in.text(string(before.Reason)))
	r.Attempts = int(in.int())
	r.CreatedAt = time.UnixMicro(in.int()).UTC()
	r.At = time.UnixMicro(in.int()).UTC()
	flags := in.uint()
	r.Held, r.Test = flags&flagHeld != 0, flags&flagTest != 0
	r.Excused = int(min(flags>>excusedShift, math.MaxInt16))
	if !in.null() {
		more := in.array(madeFields, madeFields+moreFields) - madeFields
		room.Number = int(in.int())
		room.StartedAt = time.UnixMicro(in.int()).UTC()
		room.Micros = in.int()
		room.Status = int(in.int())
		room.Error = in.text("")
		room.Response = in.bytes()
		room.Reason = Reason(in.text(string(r.Reason)))
		r.Attempt = room
		in.skipped(more)
	}
	r.Event = in.bytes()
	in.skipped(fields - recordFields)
}

// valid reports whether it can be recorded at all.
func (r *Record) valid() bool {
	switch r.Outcome {
	case OutcomeDelivered, OutcomeLater, OutcomeDead, OutcomeCancelled:
		return r.Delivery != uuid.Nil
	default:
		return false
	}
}

// valid reports whether all records can be recorded.
func valid(records []*Record) bool {
	return !slices.ContainsFunc(records, func(r *Record) bool { return !r.valid() })
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
