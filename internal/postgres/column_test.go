package postgres_test

import (
	"database/sql"
	"errors"
	"math"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/google/uuid"
	"github.com/lib/pq"
	"pgregory.net/rapid"

	"github.com/fanfarehq/fanfare/internal/postgres"
	"github.com/fanfarehq/fanfare/internal/servertest"
)

// cells are a row with a value of each type.
type cells struct {
	id     uuid.UUID
	maybe  uuid.NullUUID
	text   string
	bytes  []byte
	flag   bool
	big    int64
	middle int32
	small  int16
	at     time.Time
}

const selectCells = `SELECT unnest($1::uuid[]), unnest($2::uuid[]), unnest($3::text[]), unnest($4::bytea[]), unnest($5::bool[]),
	unnest($6::bigint[]), unnest($7::int[]), unnest($8::smallint[]), unnest($9::timestamptz[])`

func cellColumns(rows []cells) []any {
	c := postgres.Columns(9, len(rows))
	for _, r := range rows {
		c[0].UUID(r.id)
		c[1].NullUUID(r.maybe)
		c[2].Text(r.text)
		c[3].Bytes(r.bytes)
		c[4].Bool(r.flag)
		c[5].Int64(r.big)
		c[6].Int32(int(r.middle))
		c[7].Int16(int(r.small))
		c[8].TimeOrNull(r.at)
	}
	return postgres.Args(c)
}

// checkCells sends rows by a statement that is prepared or not, and compares what comes back.
func checkCells(t rapid.TB, db *sql.DB, rows []cells, prepared bool) {
	t.Helper()
	query := func() (*sql.Rows, error) { return db.Query(selectCells, cellColumns(rows)...) }
	if prepared {
		stmt, err := db.Prepare(selectCells)
		if err != nil {
			t.Fatal(err)
		}
		defer stmt.Close()
		query = func() (*sql.Rows, error) { return stmt.Query(cellColumns(rows)...) }
	}
	found, err := query()
	if err != nil {
		t.Fatal(err)
	}
	defer found.Close()
	n := 0
	for ; found.Next(); n++ {
		var got cells
		var at sql.NullTime
		if err := found.Scan(&got.id, &got.maybe, &got.text, &got.bytes, &got.flag, &got.big, &got.middle, &got.small, &at); err != nil {
			t.Fatal(err)
		}
		want := rows[n]
		if !utf8.ValidString(want.text) || strings.Contains(want.text, "\x00") {
			want.text = strings.ReplaceAll(strings.ToValidUTF8(want.text, "\uFFFD"), "\x00", "\uFFFD")
		}
		if got.id != want.id || got.maybe != want.maybe || got.text != want.text || string(got.bytes) != string(want.bytes) ||
			(got.bytes == nil) != (want.bytes == nil) || got.flag != want.flag || got.big != want.big || got.middle != want.middle ||
			got.small != want.small || at.Valid == want.at.IsZero() || at.Valid && !at.Time.Equal(want.at.Truncate(time.Microsecond)) {
			t.Fatalf("row %d: got %+v at %v, want %+v", n, got, at, want)
		}
	}
	if err := found.Err(); err != nil || n != len(rows) {
		t.Fatalf("%d rows, error %v; want %d", n, err, len(rows))
	}
}

// What is written into columns is what Postgres reads, whatever it is.
func TestColumnsAgainstPostgres(t *testing.T) {
	t.Parallel()
	db := servertest.Postgres(t)
	texts := rapid.OneOf(rapid.String(), rapid.StringMatching(`[{}",\\ NULnul]*`),
		rapid.Map(rapid.SliceOf(rapid.Byte()), func(b []byte) string { return string(b) }))
	row := rapid.Custom(func(t *rapid.T) cells {
		r := cells{
			id: uuid.UUID(rapid.SliceOfN(rapid.Byte(), 16, 16).Draw(t, "id")), text: texts.Draw(t, "text"), flag: rapid.Bool().Draw(t, "flag"),
			big: rapid.Int64().Draw(t, "big"), middle: rapid.Int32().Draw(t, "middle"), small: rapid.Int16().Draw(t, "small"),
		}
		if rapid.Bool().Draw(t, "there") {
			r.maybe = uuid.NullUUID{UUID: r.id, Valid: true}
			r.bytes = rapid.SliceOf(rapid.Byte()).Draw(t, "bytes")
			r.at = time.Unix(rapid.Int64Range(-1<<36, 1<<37).Draw(t, "at"), rapid.Int64Range(0, 1e9-1).Draw(t, "ns"))
		}
		return r
	})
	rapid.Check(t, func(t *rapid.T) {
		checkCells(t, db, rapid.SliceOfN(row, 1, 20).Draw(t, "rows"), rapid.Bool().Draw(t, "prepared"))
	})
}

func TestColumnsAtTheBounds(t *testing.T) {
	t.Parallel()
	db := servertest.Postgres(t)
	first := time.Date(1, 1, 1, 0, 0, 0, 1000, time.UTC)
	rows := []cells{
		{bytes: []byte{}, big: math.MinInt64, middle: math.MinInt32, small: math.MinInt16, at: first},
		{text: "größer, ж, 日本, \U0001F40C", bytes: []byte{0, 255}, flag: true, big: math.MaxInt64, middle: math.MaxInt32, small: math.MaxInt16},
		{text: strings.Repeat("x", 1000), big: -1, middle: -1, small: -1, at: time.Date(9999, 12, 31, 23, 59, 59, 999_999_999, time.UTC)},
		{id: uuid.Max, maybe: uuid.NullUUID{UUID: uuid.Max, Valid: true}, at: time.Unix(0, 0), text: "a\x00b\xff"},
		{at: time.Date(1999, 12, 31, 23, 59, 59, 1, time.FixedZone("", 3600))},
	}
	for _, prepared := range []bool{false, true} {
		checkCells(t, db, rows, prepared)
		checkCells(t, db, nil, prepared)
	}
	var years string
	c := postgres.Columns(1, 3)
	c[0].Time(time.Time{})
	c[0].Time(time.Date(-4712, 1, 1, 0, 0, 0, 0, time.UTC))
	c[0].Time(time.Date(290000, 12, 31, 0, 0, 0, 0, time.UTC))
	err := db.QueryRow(`SELECT string_agg((a AT TIME ZONE 'UTC')::text, ', ') FROM unnest($1::timestamptz[]) AS a`, postgres.Args(c)...).Scan(&years)
	if want := "0001-01-01 00:00:00, 4713-01-01 00:00:00 BC, 290000-12-31 00:00:00"; err != nil || years != want {
		t.Errorf("got %s, %v; want %s", years, err, want)
	}
}

// A value that does not fit its column is an error, never another value.
func TestColumnsWithWhatDoesNotFit(t *testing.T) {
	t.Parallel()
	db := servertest.Postgres(t)
	for name, test := range map[string]struct {
		fill func(*postgres.Column)
		kind string
	}{
		"an integer too high":   {func(c *postgres.Column) { c.Int32(math.MaxInt32 + 1) }, "int"},
		"an integer too low":    {func(c *postgres.Column) { c.Int32(math.MinInt32 - 1) }, "int"},
		"a smallint too high":   {func(c *postgres.Column) { c.Int16(math.MaxInt16 + 1) }, "smallint"},
		"a smallint too low":    {func(c *postgres.Column) { c.Int16(math.MinInt16 - 1) }, "smallint"},
		"before all times":      {func(c *postgres.Column) { c.Time(time.UnixMicro(math.MinInt64)) }, "timestamptz"},
		"a little before":       {func(c *postgres.Column) { c.Time(time.Date(-4800, 1, 1, 0, 0, 0, 0, time.UTC)) }, "timestamptz"},
		"a bigint for integers": {func(c *postgres.Column) { c.Int64(1) }, "int"},
		"text for ids":          {func(c *postgres.Column) { c.Text("x") }, "uuid"},
		"two types":             {func(c *postgres.Column) { c.Int32(1); c.Int64(1) }, "int"},
	} {
		var got sql.NullString
		c := postgres.Columns(1, 1)
		test.fill(&c[0])
		err := db.QueryRow(`SELECT string_agg(a::text, ' ') FROM unnest($1::`+test.kind+`[]) AS a`, postgres.Args(c)...).Scan(&got)
		if _, refused := errors.AsType[*pq.Error](err); !refused {
			t.Errorf("%s: got %s, error %v", name, got.String, err)
		}
	}
}
