package cbor

import (
	"encoding/binary"
	"math"
	"time"
)

// The major types of CBOR, and the simple values.
const (
	typeUint  = 0 << 5
	typeNeg   = 1 << 5
	typeBytes = 2 << 5
	typeText  = 3 << 5
	typeArray = 4 << 5
	typeMap   = 5 << 5
	typeOther = 7 << 5 // simple values and floats

	valueFalse = 0xf4
	valueTrue  = 0xf5
	valueNull  = 0xf6
)

// Writer appends values to Buf.
type Writer struct{ Buf []byte }

func (w *Writer) head(major byte, n uint64) {
	switch {
	case n < 24:
		w.Buf = append(w.Buf, major|byte(n))
	case n <= math.MaxUint8:
		w.Buf = append(w.Buf, major|24, byte(n))
	case n <= math.MaxUint16:
		w.Buf = binary.BigEndian.AppendUint16(append(w.Buf, major|25), uint16(n))
	case n <= math.MaxUint32:
		w.Buf = binary.BigEndian.AppendUint32(append(w.Buf, major|26), uint32(n))
	default:
		w.Buf = binary.BigEndian.AppendUint64(append(w.Buf, major|27), n)
	}
}

// Array writes the head of an array of n items.
func (w *Writer) Array(n int) { w.head(typeArray, uint64(n)) }

// Uint writes an unsigned integer.
func (w *Writer) Uint(n uint64) { w.head(typeUint, n) }

// Null writes null.
func (w *Writer) Null() { w.Buf = append(w.Buf, valueNull) }

// Int writes an integer.
func (w *Writer) Int(n int64) {
	if n < 0 {
		w.head(typeNeg, uint64(-1-n))
		return
	}
	w.head(typeUint, uint64(n))
}

// Text writes text.
func (w *Writer) Text(s string) {
	w.head(typeText, uint64(len(s)))
	w.Buf = append(w.Buf, s...)
}

// Bytes writes bytes; nil is null.
func (w *Writer) Bytes(b []byte) {
	if b == nil {
		w.Null()
		return
	}
	w.head(typeBytes, uint64(len(b)))
	w.Buf = append(w.Buf, b...)
}

// Texts writes a list as a field, unless it is empty.
func (w *Writer) Texts(fields int, key byte, list []string) {
	if len(list) == 0 {
		return
	}
	w.Field(fields, key)
	w.Array(len(list))
	for _, item := range list {
		w.Text(item)
	}
}

// Time writes a time as RFC 3339; the zero time is null.
func (w *Writer) Time(t time.Time) {
	if t.IsZero() {
		w.Null()
		return
	}
	var room [len(time.RFC3339Nano)]byte
	text := t.UTC().AppendFormat(room[:0], time.RFC3339Nano)
	w.head(typeText, uint64(len(text)))
	w.Buf = append(w.Buf, text...)
}

// Fields begins a map with numbers as keys, of fewer than 24. Its result is the first argument of Field and Flag.
func (w *Writer) Fields() int {
	w.Buf = append(w.Buf, typeMap)
	return len(w.Buf) - 1
}

// Field begins a field of a map; its value comes next. Keys are below 24 and ascend.
func (w *Writer) Field(fields int, key byte) {
	w.Buf[fields]++
	w.Buf = append(w.Buf, key)
}

// Flag writes a field that is true, or no field.
func (w *Writer) Flag(fields int, key byte, on bool) {
	if on {
		w.Field(fields, key)
		w.Buf = append(w.Buf, valueTrue)
	}
}
