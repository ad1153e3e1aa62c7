package deliver

import (
	"encoding/hex"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/google/uuid"
)

// column builds the text of a Postgres array, one column of the rows that a statement unnests. It is
// written by hand since pq.Array reflects and allocates for each element, on the way of every delivery.
type column struct {
	buf []byte
}

// columns makes n columns with room for rows values of about width bytes.
func columns(n, rows, width int) []column {
	c := make([]column, n)
	for i := range c {
		c[i].buf = append(make([]byte, 0, 2+rows*(width+1)), '{')
	}
	return c
}

// args gives the columns to a statement.
func args(cols []column) []any {
	a := make([]any, len(cols))
	for i := range cols {
		a[i] = cols[i].String()
	}
	return a
}

// String closes the array and returns it.
func (c *column) String() string { return string(append(c.buf, '}')) }

func (c *column) next() {
	if len(c.buf) > 1 {
		c.buf = append(c.buf, ',')
	}
}

func (c *column) null() {
	c.next()
	c.buf = append(c.buf, "NULL"...)
}

func (c *column) uuid(id uuid.UUID) {
	c.next()
	c.buf = hex.AppendEncode(c.buf, id[:])
}

func (c *column) int(n int64) {
	c.next()
	c.buf = strconv.AppendInt(c.buf, n, 10)
}

func (c *column) bool(b bool) {
	c.next()
	if b {
		c.buf = append(c.buf, 't')
	} else {
		c.buf = append(c.buf, 'f')
	}
}

// time writes a time; the zero time is null.
func (c *column) time(t time.Time) {
	if t.IsZero() {
		c.null()
		return
	}
	c.next()
	c.buf = append(c.buf, '"')
	c.buf = t.UTC().AppendFormat(c.buf, "2006-01-02 15:04:05.999999Z")
	c.buf = append(c.buf, '"')
}

// bytes writes bytes; nil is null.
func (c *column) bytes(b []byte) {
	if b == nil {
		c.null()
		return
	}
	c.next()
	c.buf = append(c.buf, `"\\x`...)
	c.buf = hex.AppendEncode(c.buf, b)
	c.buf = append(c.buf, '"')
}

// text writes text. What Postgres refuses, NUL and broken UTF-8, is replaced: one such value would stop the
// whole group for ever.
func (c *column) text(s string) {
	c.next()
	if plain(s) {
		c.buf = append(c.buf, '"')
		c.buf = append(c.buf, s...)
		c.buf = append(c.buf, '"')
		return
	}
	s = strings.ReplaceAll(strings.ToValidUTF8(s, "\uFFFD"), "\x00", "\uFFFD")
	c.buf = append(c.buf, '"')
	for i := range len(s) {
		if s[i] == '"' || s[i] == '\\' {
			c.buf = append(c.buf, '\\')
		}
		c.buf = append(c.buf, s[i])
	}
	c.buf = append(c.buf, '"')
}

// plain reports whether text needs neither escapes nor a look at its encoding.
func plain(s string) bool {
	for i := range len(s) {
		if s[i] == 0 || s[i] == '"' || s[i] == '\\' || s[i] >= utf8.RuneSelf {
			return false
		}
	}
	return true
}
