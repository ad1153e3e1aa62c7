package deliver

import (
	"encoding/binary"
	"math"
	"time"
)

// Tasks and outcomes are written and read by hand: with reflection they would cost each delivery a quarter of the POST
// itself. What is written is plain CBOR (RFC 8949, its deterministic encoding), so that any tool can show it.

// The major types of CBOR, and the simple values.
const (
	cborUint  = 0 << 5
	cborNeg   = 1 << 5
	cborBytes = 2 << 5
	cborText  = 3 << 5
	cborArray = 4 << 5
	cborMap   = 5 << 5
	cborOther = 7 << 5 // simple values and floats

	cborFalse = 0xf4
	cborTrue  = 0xf5
	cborNull  = 0xf6
)

// cborWriter appends values.
type cborWriter struct{ buf []byte }

func (w *cborWriter) head(major byte, n uint64) {
	switch {
	case n < 24:
		w.buf = append(w.buf, major|byte(n))
	case n <= math.MaxUint8:
		w.buf = append(w.buf, major|24, byte(n))
	case n <= math.MaxUint16:
		w.buf = binary.BigEndian.AppendUint16(append(w.buf, major|25), uint16(n))
	case n <= math.MaxUint32:
		w.buf = binary.BigEndian.AppendUint32(append(w.buf, major|26), uint32(n))
	default:
		w.buf = binary.BigEndian.AppendUint64(append(w.buf, major|27), n)
	}
}

func (w *cborWriter) array(n int)   { w.head(cborArray, uint64(n)) }
func (w *cborWriter) uint(n uint64) { w.head(cborUint, n) }
func (w *cborWriter) null()         { w.buf = append(w.buf, cborNull) }

func (w *cborWriter) int(n int64) {
	if n < 0 {
		w.head(cborNeg, uint64(-1-n))
		return
	}
	w.head(cborUint, uint64(n))
}

func (w *cborWriter) text(s string) {
	w.head(cborText, uint64(len(s)))
	w.buf = append(w.buf, s...)
}

// bytes writes bytes; nil is null.
func (w *cborWriter) bytes(b []byte) {
	if b == nil {
		w.null()
		return
	}
	w.head(cborBytes, uint64(len(b)))
	w.buf = append(w.buf, b...)
}

// texts writes a list as a field, unless it is empty.
func (w *cborWriter) texts(fields int, key byte, list []string) {
	if len(list) == 0 {
		return
	}
	w.field(fields, key)
	w.array(len(list))
	for _, item := range list {
		w.text(item)
	}
}

// time writes a time as RFC 3339; none is null.
func (w *cborWriter) time(t time.Time) {
	if t.IsZero() {
		w.null()
		return
	}
	var room [len(time.RFC3339Nano)]byte
	text := t.UTC().AppendFormat(room[:0], time.RFC3339Nano)
	w.head(cborText, uint64(len(text)))
	w.buf = append(w.buf, text...)
}

// fields begins a map with numbers as keys, of fewer than 24. It returns what field wants to know.
func (w *cborWriter) fields() int {
	w.buf = append(w.buf, cborMap)
	return len(w.buf) - 1
}

// field begins a field of a map; its value comes next. Keys are below 24 and ascend.
func (w *cborWriter) field(fields int, key byte) {
	w.buf[fields]++
	w.buf = append(w.buf, key)
}

// flag writes a field that is true, or nothing.
func (w *cborWriter) flag(fields int, key byte, on bool) {
	if on {
		w.field(fields, key)
		w.buf = append(w.buf, cborTrue)
	}
}
