// This parser has more cases than an HTTP response can carry, and a fuzz test.

package webhook

import (
	"strings"
	"testing"
	"time"
)

func TestParseRetryAfter(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 11, 20, 10, 0, 0, 0, time.UTC)
	tests := []struct {
		value string
		want  time.Duration
	}{
		{"", 0},
		{"0", 0},
		{"1", time.Second},
		{"120", 2 * time.Minute},
		{"86400", 24 * time.Hour},
		{"86401", 24 * time.Hour},
		{"1000000000000", 24 * time.Hour},
		{strings.Repeat("9", 60), 24 * time.Hour},
		{strings.Repeat("9", 4096), 0}, // nobody's number
		{"-1", 0},
		{"+1", 0},
		{"1.5", 0},
		{"1e12", 0},
		{"NaN", 0},
		{" 1", 0},
		{"1s", 0},
		{"٣", 0}, // a digit, but not of HTTP
		{"Fri, 20 Nov 2026 10:00:30 GMT", 30 * time.Second},
		{"Friday, 20-Nov-26 10:00:30 GMT", 30 * time.Second},
		{"Fri Nov 20 10:00:30 2026", 30 * time.Second},
		{"Fri, 20 Nov 2026 09:59:59 GMT", 0},
		{"Thu, 01 Jan 1970 00:00:00 GMT", 0},
		{"Fri, 31 Dec 9999 23:59:59 GMT", 24 * time.Hour},
		{"Fri, 20 Nov 2026", 0},
		{"2026-11-20T10:00:30Z", 0},
	}
	for _, test := range tests {
		if got := parseRetryAfter(test.value, now); got != test.want {
			t.Errorf("%.40q: got %v, want %v", test.value, got, test.want)
		}
	}
}

// Whatever a receiver writes, the wait is between nothing and a day.
func FuzzParseRetryAfter(f *testing.F) {
	for _, seed := range []string{"0", "120", "-1", "1e12", "NaN", "99999999999999999999", "Fri, 20 Nov 2026 10:00:30 GMT", "Fri Nov 20 10:00:30 2026"} {
		f.Add(seed, int64(1795000000))
	}
	f.Fuzz(func(t *testing.T, value string, now int64) {
		if got := parseRetryAfter(value, time.Unix(now, 0)); got < 0 || got > MaxRetryAfter {
			t.Errorf("%q: got %v", value, got)
		}
	})
}
