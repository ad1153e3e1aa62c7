package deliver

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
)

// Outcomes are written and read by hand: one for each delivery, and with reflection that would cost a tenth of the
// POST itself. What is written is plain CBOR (RFC 8949, its deterministic encoding), so that any tool can show it.

// The major types of CBOR, and the simple value null.
const (
	cborUint  = 0 << 5
	cborNeg   = 1 << 5
	cborBytes = 2 << 5
	cborText  = 3 << 5
	cborArray = 4 << 5
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

var errCBOR = errors.New("malformed CBOR")

// cborReader reads values in order. The first error stays, and everything after it is zero.
type cborReader struct {
	buf []byte
	err error
}

func (r *cborReader) fail(what string) {
	if r.err == nil {
		r.err = fmt.Errorf("%w: %s", errCBOR, what)
	}
	r.buf = nil
}

// head reads the head of a value.
func (r *cborReader) head() (major byte, n uint64) {
	if len(r.buf) == 0 {
		r.fail("it ends too early")
		return 0, 0
	}
	major, n = r.buf[0]&0xe0, uint64(r.buf[0]&0x1f)
	r.buf = r.buf[1:]
	if n < 24 {
		return major, n
	}
	size := 1 << (n - 24)
	if n > 27 || size > len(r.buf) {
		r.fail("a length that is none")
		return 0, 0
	}
	n = 0
	for _, b := range r.buf[:size] {
		n = n<<8 | uint64(b)
	}
	r.buf = r.buf[size:]
	return major, n
}

// is reads the head of a value of one type.
func (r *cborReader) is(major byte, what string) uint64 {
	got, n := r.head()
	if r.err == nil && got != major {
		r.fail("no " + what)
		return 0
	}
	return n
}

// null reports whether the next value is null, and reads it if it is.
func (r *cborReader) null() bool {
	if len(r.buf) > 0 && r.buf[0] == cborNull {
		r.buf = r.buf[1:]
		return true
	}
	return false
}

// array reads the head of an array, of at least least and at most most items.
func (r *cborReader) array(least, most int) int {
	n := r.is(cborArray, "array")
	if r.err == nil && (n < uint64(least) || n > uint64(most)) {
		r.fail("an array of a wrong length")
		return 0
	}
	return int(n)
}

func (r *cborReader) uint() uint64 { return r.is(cborUint, "unsigned integer") }

func (r *cborReader) int() int64 {
	major, n := r.head()
	if r.err == nil && (major != cborUint && major != cborNeg || n > math.MaxInt64) {
		r.fail("no integer")
		return 0
	}
	if major == cborNeg {
		return -1 - int64(n)
	}
	return int64(n)
}

// raw reads text or bytes, which are shared with the message.
func (r *cborReader) raw(major byte, what string) []byte {
	n := r.is(major, what)
	if n > uint64(len(r.buf)) {
		r.fail("it ends within a value")
		return nil
	}
	b := r.buf[:n:n]
	r.buf = r.buf[n:]
	return b
}

// text reads text. If it is that of the value before, no new one is made.
func (r *cborReader) text(before string) string {
	if b := r.raw(cborText, "text"); string(b) != before {
		return string(b)
	}
	return before
}

// bytes reads bytes or null.
func (r *cborReader) bytes() []byte {
	if r.null() {
		return nil
	}
	return r.raw(cborBytes, "bytes")
}

// id reads 16 bytes.
func (r *cborReader) id() (id [16]byte) {
	b := r.raw(cborBytes, "id")
	if r.err == nil && len(b) != len(id) {
		r.fail("no id")
		return id
	}
	copy(id[:], b)
	return id
}

// skip reads any value, and values within it down to depth, without looking at it.
func (r *cborReader) skip(depth int) {
	if r.null() {
		return
	}
	major, n := r.head()
	switch {
	case r.err != nil, major == cborUint, major == cborNeg:
	case depth == 0:
		r.fail("it is nested too deeply")
	case major == cborBytes || major == cborText:
		if n > uint64(len(r.buf)) {
			r.fail("it ends within a value")
			return
		}
		r.buf = r.buf[n:]
	case major == cborArray:
		for range n {
			if r.skip(depth - 1); r.err != nil {
				return
			}
		}
	default:
		r.fail("an unknown type")
	}
}

// skipped skips so many values.
func (r *cborReader) skipped(n int) {
	for ; n > 0 && r.err == nil; n-- {
		r.skip(maxWireDepth)
	}
}
