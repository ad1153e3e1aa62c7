package deliver

import (
	"errors"
	"fmt"
	"iter"
	"math"
	"strings"
	"time"
	"unicode/utf8"
)

var errCBOR = errors.New("malformed CBOR")

// cborReader reads values in order. The first error stays, and everything after it is zero.
type cborReader struct {
	lenient bool // mends text that is not UTF-8
	owned   bool // buf belongs to one value, which may keep it
	buf     []byte
	err     error
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

// fields reads a map and yields the key of each field, to have its value read. Keys are numbers and ascend.
func (r *cborReader) fields() iter.Seq[uint64] {
	return func(yield func(uint64) bool) {
		next := uint64(0)
		for n := r.is(cborMap, "map"); n > 0 && r.err == nil; n-- {
			key := r.uint()
			if r.err == nil && (key < next || key == math.MaxUint64) {
				r.fail("keys in a wrong order")
			}
			if r.err != nil || !yield(key) {
				return
			}
			next = key + 1
		}
	}
}

// flag reads a truth.
func (r *cborReader) flag() bool {
	if len(r.buf) == 0 || r.buf[0] != cborTrue && r.buf[0] != cborFalse {
		r.fail("no truth")
		return false
	}
	on := r.buf[0] == cborTrue
	r.buf = r.buf[1:]
	return on
}

// time reads a time or null.
func (r *cborReader) time() (t time.Time) {
	if r.null() {
		return t
	}
	if err := t.UnmarshalText(r.raw(cborText, "time")); err != nil && r.err == nil {
		r.fail("no time")
	}
	return t
}

// texts reads a list.
func (r *cborReader) texts() []string {
	n := r.array(0, min(maxWireItems, len(r.buf)))
	list := make([]string, 0, n)
	for ; n > 0 && r.err == nil; n-- {
		list = append(list, r.text(""))
	}
	return list
}

// end is the error of all that was read, which must be all there is.
func (r *cborReader) end() error {
	if r.err == nil && len(r.buf) > 0 {
		r.fail("more than one value")
	}
	return r.err
}

// text reads text. If it is that of the value before, no new one is made.
func (r *cborReader) text(before string) string {
	b := r.raw(cborText, "text")
	if string(b) == before {
		return before
	}
	if !utf8.Valid(b) && r.lenient {
		return strings.ToValidUTF8(string(b), "?")
	}
	if !utf8.Valid(b) {
		r.fail("text that is no UTF-8")
		return ""
	}
	return string(b)
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
	case r.err != nil, major == cborUint, major == cborNeg, major == cborOther:
	case depth == 0:
		r.fail("it is nested too deeply")
	case n > uint64(len(r.buf)):
		r.fail("it ends within a value")
	case major == cborBytes, major == cborText:
		r.buf = r.buf[n:]
	case major == cborArray, major == cborMap:
		if major == cborMap {
			n *= 2
		}
		for ; n > 0 && r.err == nil; n-- {
			r.skip(depth - 1)
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
