package cbor

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

// Reader reads values in order. The first error stays, and everything after it is zero.
type Reader struct {
	Lenient bool // mends text that is not UTF-8
	Owned   bool // buf belongs to one value, which may keep it
	Buf     []byte
	Err     error
}

func (r *Reader) fail(what string) {
	if r.Err == nil {
		r.Err = fmt.Errorf("%w: %s", errCBOR, what)
	}
	r.Buf = nil
}

// head reads the head of a value.
func (r *Reader) head() (major byte, n uint64) {
	if len(r.Buf) == 0 {
		r.fail("unexpected end")
		return 0, 0
	}
	major, n = r.Buf[0]&0xe0, uint64(r.Buf[0]&0x1f)
	r.Buf = r.Buf[1:]
	if n < 24 {
		return major, n
	}
	size := 1 << (n - 24)
	if n > 27 || size > len(r.Buf) {
		r.fail("invalid length")
		return 0, 0
	}
	n = 0
	for _, b := range r.Buf[:size] {
		n = n<<8 | uint64(b)
	}
	r.Buf = r.Buf[size:]
	return major, n
}

// is reads the head of a value that must have this type.
func (r *Reader) is(major byte, what string) uint64 {
	got, n := r.head()
	if r.Err == nil && got != major {
		r.fail("expected " + what)
		return 0
	}
	return n
}

// Null reports whether the next value is null, and reads it if it is.
func (r *Reader) Null() bool {
	if len(r.Buf) > 0 && r.Buf[0] == valueNull {
		r.Buf = r.Buf[1:]
		return true
	}
	return false
}

// Array reads the head of an array, of at least least and at most most items.
func (r *Reader) Array(least, most int) int {
	n := r.is(typeArray, "array")
	if r.Err == nil && (n < uint64(least) || n > uint64(most)) {
		r.fail("wrong array length")
		return 0
	}
	return int(n)
}

// Uint reads an unsigned integer.
func (r *Reader) Uint() uint64 { return r.is(typeUint, "unsigned integer") }

// Int reads an integer.
func (r *Reader) Int() int64 {
	major, n := r.head()
	if r.Err == nil && (major != typeUint && major != typeNeg || n > math.MaxInt64) {
		r.fail("expected integer")
		return 0
	}
	if major == typeNeg {
		return -1 - int64(n)
	}
	return int64(n)
}

// raw reads text or bytes, which are shared with the message.
func (r *Reader) raw(major byte, what string) []byte {
	n := r.is(major, what)
	if n > uint64(len(r.Buf)) {
		r.fail("unexpected end")
		return nil
	}
	b := r.Buf[:n:n]
	r.Buf = r.Buf[n:]
	return b
}

// Fields reads a map and yields the key of each field, to have its value read. Keys are numbers and ascend.
func (r *Reader) Fields() iter.Seq[uint64] {
	return func(yield func(uint64) bool) {
		next := uint64(0)
		for n := r.is(typeMap, "map"); n > 0 && r.Err == nil; n-- {
			key := r.Uint()
			if r.Err == nil && (key < next || key == math.MaxUint64) {
				r.fail("keys not in ascending order")
			}
			if r.Err != nil || !yield(key) {
				return
			}
			next = key + 1
		}
	}
}

// Flag reads a boolean.
func (r *Reader) Flag() bool {
	if len(r.Buf) == 0 || r.Buf[0] != valueTrue && r.Buf[0] != valueFalse {
		r.fail("expected boolean")
		return false
	}
	on := r.Buf[0] == valueTrue
	r.Buf = r.Buf[1:]
	return on
}

// Time reads a time or null.
func (r *Reader) Time() (t time.Time) {
	if r.Null() {
		return t
	}
	if err := t.UnmarshalText(r.raw(typeText, "time")); err != nil && r.Err == nil {
		r.fail("expected time")
	}
	return t
}

// Texts reads a list.
func (r *Reader) Texts() []string {
	n := r.Array(0, min(MaxItems, len(r.Buf)))
	list := make([]string, 0, n)
	for ; n > 0 && r.Err == nil; n-- {
		list = append(list, r.Text(""))
	}
	return list
}

// End returns the first error, or one if bytes are left.
func (r *Reader) End() error {
	if r.Err == nil && len(r.Buf) > 0 {
		r.fail("trailing bytes")
	}
	return r.Err
}

// Text reads text. If it equals before, before is returned and nothing is allocated.
func (r *Reader) Text(before string) string {
	b := r.raw(typeText, "text")
	if string(b) == before {
		return before
	}
	if !utf8.Valid(b) && r.Lenient {
		return strings.ToValidUTF8(string(b), "?")
	}
	if !utf8.Valid(b) {
		r.fail("text is not UTF-8")
		return ""
	}
	return string(b)
}

// Bytes reads bytes or null.
func (r *Reader) Bytes() []byte {
	if r.Null() {
		return nil
	}
	return r.raw(typeBytes, "bytes")
}

// ID reads 16 bytes.
func (r *Reader) ID() (id [16]byte) {
	b := r.raw(typeBytes, "id")
	if r.Err == nil && len(b) != len(id) {
		r.fail("expected 16 bytes")
		return id
	}
	copy(id[:], b)
	return id
}

// Skip skips a value of any type, nested at most depth deep.
func (r *Reader) Skip(depth int) {
	if r.Null() {
		return
	}
	major, n := r.head()
	switch {
	case r.Err != nil, major == typeUint, major == typeNeg, major == typeOther:
	case depth == 0:
		r.fail("nested too deeply")
	case n > uint64(len(r.Buf)):
		r.fail("unexpected end")
	case major == typeBytes, major == typeText:
		r.Buf = r.Buf[n:]
	case major == typeArray, major == typeMap:
		if major == typeMap {
			n *= 2
		}
		for ; n > 0 && r.Err == nil; n-- {
			r.Skip(depth - 1)
		}
	default:
		r.fail("unknown type")
	}
}

// Skipped skips n values.
func (r *Reader) Skipped(n int) {
	for ; n > 0 && r.Err == nil; n-- {
		r.Skip(MaxDepth)
	}
}
