// This rule has cases at each byte of a limit, and a fuzz test.

package webhook

import (
	"bytes"
	"encoding/base64"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/fanfarehq/fanfare/deliver/outcome"
)

func TestSanitize(t *testing.T) {
	t.Parallel()
	gzip := []byte{0x1f, 0x8b, 8, 0, 0, 0xff}
	long := strings.Repeat("é", maxResponse)
	tests := []struct {
		name string
		raw  string
		cut  bool
		want string
	}{
		{"nothing", "", false, ""},
		{"text", "ok", false, "ok"},
		{"text with controls", "a\r\n\tb\x1b[0m", false, "a\r\n\tb\x1b[0m"},
		{"NULs", "a\x00b\x00", false, "ab"},
		{"broken by the limit", "caf\xc3", true, "caf"},
		{"a rune of four broken by the limit", "x\xf0\x9f\x8e", true, "x"},
		{"broken by itself", "caf\xc3", false, binaryMark + "Y2Fmww=="},
		{"broken in the middle", "a\xffb", true, binaryMark + "Yf9i"},
		{"gzip", string(gzip), false, binaryMark + base64.StdEncoding.EncodeToString(gzip)},
		{"long", long, true, long[:maxResponse]},
		{"long, limit within a rune", "x" + long, true, "x" + long[:maxResponse-2]},
		{"lone continuation", "\x80", true, binaryMark + "gA=="},
	}
	for _, test := range tests {
		if got := sanitize([]byte(test.raw), test.cut); string(got) != test.want {
			t.Errorf("%s: got %.60q (%d bytes), want %.60q", test.name, got, len(got), test.want)
		}
	}
}

func FuzzSanitize(f *testing.F) {
	f.Add([]byte("ok"), false)
	f.Add([]byte("caf\xc3"), true)
	f.Add(bytes.Repeat([]byte{0xff}, maxResponse), true)
	f.Fuzz(func(t *testing.T, raw []byte, cut bool) {
		got := sanitize(raw, cut)
		if len(got) > maxResponse || !utf8.Valid(got) || bytes.IndexByte(got, 0) >= 0 {
			t.Errorf("%d bytes, not fit to be stored", len(got))
		}
		if text := outcome.SanitizeText(string(raw)); !utf8.ValidString(text) || strings.ContainsAny(text, "\x00\r\n") {
			t.Errorf("text %q", text)
		}
	})
}
