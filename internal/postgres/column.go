package postgres

import (
	"encoding/binary"
	"math"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/google/uuid"
	"github.com/lib/pq/oid"
)

// Column is one column of the rows that a statement takes: a Postgres array in its binary format, in which the server
// has nothing to parse. The first value says of which type the array is, and the others must be of the same. The
// connections of Open take it; others would read it as text.
type Column struct {
	buf   []byte
	rows  int // as many as there will be, or about that
	count uint32
	nulls bool
}

// An array is a header of headerSize bytes and its elements, each after its length in lengthSize bytes. The header is
// five numbers of four bytes: dimensions, whether there are nulls, the elements' type, how many there are and the
// subscript of the first.
const (
	headerSize = 20
	lengthSize = 4

	nullsAt, typeAt, countAt, firstAt = 4, 8, 12, 16
)

// year2000 is from when Postgres counts the microseconds of a time, in microseconds since 1970.
const year2000 = 946_684_800_000_000

// Columns makes n columns of about so many rows.
func Columns(n, rows int) []Column {
	c := make([]Column, n)
	for i := range c {
		c[i].rows = rows
	}
	return c
}

// Args gives columns to a statement.
func Args(columns []Column) []any {
	args := make([]any, len(columns))
	for i := range columns {
		args[i] = columns[i].Arg()
	}
	return args
}

// Arg gives the column to a statement.
func (c *Column) Arg() any {
	if c.count == 0 {
		return "{}" // as text, as nothing has said the type
	}
	if c.nulls {
		c.buf[nullsAt+3] = 1
	}
	binary.BigEndian.PutUint32(c.buf[countAt:], c.count)
	return c.buf
}

// element begins an element of a type and a size; the first one begins the array, with room for rows like it, unless
// it is large.
func (c *Column) element(t oid.Oid, size int) {
	if c.count == 0 {
		c.buf = make([]byte, headerSize, headerSize+c.rows*(lengthSize+min(size, 64)))
		c.buf[3] = 1
		binary.BigEndian.PutUint32(c.buf[typeAt:], uint32(t))
		c.buf[firstAt+3] = 1
	}
	c.count++
	c.buf = binary.BigEndian.AppendUint32(c.buf, uint32(size))
}

func (c *Column) null(t oid.Oid) {
	c.element(t, -1)
	c.nulls = true
}

// UUID adds an id.
func (c *Column) UUID(id uuid.UUID) {
	c.element(oid.T_uuid, len(id))
	c.buf = append(c.buf, id[:]...)
}

// NullUUID adds an id or null.
func (c *Column) NullUUID(id uuid.NullUUID) {
	if !id.Valid {
		c.null(oid.T_uuid)
		return
	}
	c.UUID(id.UUID)
}

// Bool adds a truth value.
func (c *Column) Bool(b bool) {
	c.element(oid.T_bool, 1)
	if b {
		c.buf = append(c.buf, 1)
	} else {
		c.buf = append(c.buf, 0)
	}
}

// NullBool adds a truth value or null.
func (c *Column) NullBool(b *bool) {
	if b == nil {
		c.null(oid.T_bool)
		return
	}
	c.Bool(*b)
}

// Int64 adds a bigint.
func (c *Column) Int64(n int64) { c.int64(oid.T_int8, n) }

// Int32 adds an integer. One that does not fit is sent in eight bytes, which Postgres refuses.
func (c *Column) Int32(n int) {
	if n != int(int32(n)) {
		c.int64(oid.T_int4, int64(n))
		return
	}
	c.element(oid.T_int4, 4)
	c.buf = binary.BigEndian.AppendUint32(c.buf, uint32(n))
}

// Int16 adds a smallint. One that does not fit is sent in eight bytes, which Postgres refuses.
func (c *Column) Int16(n int) {
	if n != int(int16(n)) {
		c.int64(oid.T_int2, int64(n))
		return
	}
	c.element(oid.T_int2, 2)
	c.buf = binary.BigEndian.AppendUint16(c.buf, uint16(n))
}

func (c *Column) int64(t oid.Oid, n int64) {
	c.element(t, 8)
	c.buf = binary.BigEndian.AppendUint64(c.buf, uint64(n))
}

// Int64OrNull adds a number; 0 is null.
func (c *Column) Int64OrNull(n int64) {
	if n == 0 {
		c.null(oid.T_int8)
		return
	}
	c.Int64(n)
}

// TimeOrNull adds a time; the zero time is null.
func (c *Column) TimeOrNull(t time.Time) {
	if t.IsZero() {
		c.null(oid.T_timestamptz)
		return
	}
	c.Time(t)
}

// Time adds a time of a year up to 294246, to the microsecond. Postgres refuses times before 4713 BC.
func (c *Column) Time(t time.Time) {
	// The lowest number would mean that there is no beginning.
	c.int64(oid.T_timestamptz, max(t.UnixMicro(), math.MinInt64+year2000+1)-year2000)
}

// Bytes adds bytes; nil is null.
func (c *Column) Bytes(b []byte) {
	if b == nil {
		c.null(oid.T_bytea)
		return
	}
	c.element(oid.T_bytea, len(b))
	c.buf = append(c.buf, b...)
}

// Text adds text. What Postgres refuses, NUL and broken UTF-8, is replaced: one such value would stop the whole group
// for ever.
func (c *Column) Text(s string) {
	if strings.IndexByte(s, 0) >= 0 || !utf8.ValidString(s) {
		s = strings.ReplaceAll(strings.ToValidUTF8(s, "\uFFFD"), "\x00", "\uFFFD")
	}
	c.element(oid.T_text, len(s))
	c.buf = append(c.buf, s...)
}
