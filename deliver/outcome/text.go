package outcome

import (
	"strings"
	"unicode/utf8"
)

// maxErrorText bounds an error's text, in bytes; net/http quotes what the receiver sent.
const maxErrorText = 500

// SanitizeText makes an error's text fit to be stored and shown: valid UTF-8, no control characters, bounded.
func SanitizeText(s string) string {
	if len(s) > maxErrorText {
		s = s[:maxErrorText] + "..."
	}
	return strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f || r == utf8.RuneError {
			return '?'
		}
		return r
	}, s)
}
