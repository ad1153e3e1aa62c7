package deliver

import (
	"math"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/google/uuid"
	"pgregory.net/rapid"

	"github.com/fanfarehq/fanfare/internal/servertest"
)

// What is written into a column is what Postgres reads, whatever it is.
func TestColumnsAgainstPostgres(t *testing.T) {
	t.Parallel()
	db := servertest.Postgres(t)
	rapid.Check(t, func(t *rapid.T) {
		text := rapid.OneOf(rapid.String(), rapid.StringMatching(`[{}",\\ NULnul]*`), rapid.Map(rapid.SliceOf(rapid.Byte()), func(b []byte) string { return string(b) })).Draw(t, "text")
		data := rapid.SliceOf(rapid.Byte()).Draw(t, "data")
		number := rapid.Int64().Draw(t, "number")
		flag := rapid.Bool().Draw(t, "flag")
		id := uuid.UUID(rapid.SliceOfN(rapid.Byte(), 16, 16).Draw(t, "id"))
		at := time.UnixMicro(rapid.Int64Range(-1<<52, 1<<55).Draw(t, "at")).UTC()

		c := columns(7, 2, 8)
		for range 2 {
			c[0].text(text)
			c[1].bytes(data)
			c[2].int(number)
			c[3].bool(flag)
			c[4].uuid(id)
			c[5].time(at)
			c[6].bytes(nil)
		}
		var n int
		var gotText string
		var gotData, nothing []byte
		var gotNumber int64
		var gotFlag bool
		var gotID uuid.UUID
		var gotAt time.Time
		err := db.QueryRow(`
SELECT count(*) OVER (), o.* FROM unnest($1::text[], $2::bytea[], $3::bigint[], $4::bool[], $5::uuid[], $6::timestamptz[], $7::bytea[]) AS o LIMIT 1`,
			args(c)...).Scan(&n, &gotText, &gotData, &gotNumber, &gotFlag, &gotID, &gotAt, &nothing)
		if err != nil {
			t.Fatal(err)
		}
		want := text
		if !utf8.ValidString(text) || strings.Contains(text, "\x00") {
			want = strings.ReplaceAll(strings.ToValidUTF8(text, "\uFFFD"), "\x00", "\uFFFD")
		}
		if n != 2 || gotText != want || string(gotData) != string(data) || gotNumber != number || gotFlag != flag || gotID != id || !gotAt.Equal(at) || nothing != nil {
			t.Fatalf("got %d rows of %q %x %d %v %s %s %x", n, gotText, gotData, gotNumber, gotFlag, gotID, gotAt, nothing)
		}
	})
	var none []byte
	c := columns(2, 0, 0)
	c[0].time(time.Time{})
	c[1].int(math.MinInt64)
	if err := db.QueryRow(`SELECT o.a FROM unnest($1::timestamptz[], $2::bigint[]) AS o (a, b)`, args(c)...).Scan(&none); err != nil || none != nil {
		t.Errorf("the zero time: got %q, %v; want null", none, err)
	}
}
