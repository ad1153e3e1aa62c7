package webhook

import (
	"bytes"
	"encoding/base64"
	"unicode/utf8"
)

// maxResponse bounds the kept part of a response, in bytes.
const maxResponse = 16 << 10

// binaryMark begins a kept response that was no text; the rest is base64 of its beginning. It is the form
// of a data URL, which any browser opens.
const binaryMark = "data:application/octet-stream;base64,"

// sanitize makes a response fit to be stored in Postgres and shown: text stays as it is but for NULs, which
// Postgres refuses; anything else becomes binaryMark and base64. Cut says that raw is not the whole
// response, so that a last rune may be broken. The result is at most maxResponse and shares nothing with raw.
func sanitize(raw []byte, cut bool) []byte {
	if len(raw) == 0 {
		return nil
	}
	text := raw[:min(len(raw), maxResponse)]
	if cut || len(text) < len(raw) {
		text = trimBrokenRune(text)
	}
	if utf8.Valid(text) {
		if bytes.IndexByte(text, 0) < 0 {
			return bytes.Clone(text)
		}
		return bytes.ReplaceAll(text, []byte{0}, nil)
	}
	const room = (maxResponse - len(binaryMark)) / 4 * 3
	raw = raw[:min(len(raw), room)]
	out := make([]byte, 0, len(binaryMark)+base64.StdEncoding.EncodedLen(len(raw)))
	return base64.StdEncoding.AppendEncode(append(out, binaryMark...), raw)
}

// trimBrokenRune cuts off the beginning of a rune that a limit broke.
func trimBrokenRune(text []byte) []byte {
	for i := 1; i < utf8.UTFMax && i <= len(text); i++ {
		if b := text[len(text)-i]; utf8.RuneStart(b) {
			if !utf8.FullRune(text[len(text)-i:]) {
				return text[:len(text)-i]
			}
			break
		}
	}
	return text
}
