package api_test

import (
	"encoding/json"
	"testing"
	"time"

	"github.com/fanfarehq/fanfare/internal/api"
)

func TestInstant(t *testing.T) {
	t.Parallel()
	for given, want := range map[string]string{
		"2026-11-20T10:00:00+16:00":           "2026-11-19T18:00:00Z",
		"2026-11-20T10:00:00.0000019Z":        "2026-11-20T10:00:00.000001Z",
		"9999-12-31T23:59:59.999999999Z":      "9999-12-31T23:59:59.999999Z",
		"9999-12-31T23:59:59-23:59":           "9999-12-31T23:59:59Z",
		"0000-01-01T00:00:00+23:59":           "0000-01-01T00:00:00Z",
		"0000-01-01T00:00:00.123456789Z":      "0000-01-01T00:00:00.123456Z",
		"0001-01-01T00:00:00Z":                "0001-01-01T00:00:00Z",
		"1969-07-20T20:17:40.123456789+00:00": "1969-07-20T20:17:40.123456Z",
	} {
		at, err := time.Parse(time.RFC3339, given)
		if err != nil {
			t.Fatal(err)
		}
		got, err := json.Marshal(api.Instant(at))
		if err != nil || string(got) != `"`+want+`"` {
			t.Errorf("%s is %s, %v; want %s", given, got, err, want)
		}
	}
	if !api.Instant(time.Time{}).IsZero() {
		t.Error("no time becomes one")
	}
}
