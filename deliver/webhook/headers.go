package webhook

import (
	"encoding/json"
	"maps"
	"net/http"
	"slices"
	"strings"

	"github.com/fanfarehq/fanfare/subscriptions"
)

// maxHeaders bounds the kept headers of a response: the bytes of their names and values.
const maxHeaders = 4 << 10

// addressHeaders hold a URL, of which the query may be a credential.
var addressHeaders = []string{"Location", "Content-Location"}

// keptHeaders returns the headers of a response as a JSON object, fit to be stored and shown: values that may be credentials are
// masked, several of one name are joined, and those that exceed maxHeaders are left out, in the order of their names. It is nil
// where no response came.
func keptHeaders(header http.Header, conceal *conceal) []byte {
	if header == nil {
		return nil
	}
	kept, left := make(map[string]string, len(header)), maxHeaders
	for _, name := range slices.Sorted(maps.Keys(header)) {
		value := headerValue(name, header[name], conceal)
		name = printable(name)
		if size := len(name) + len(value); size <= left {
			kept[name] = value
			left -= size
		}
	}
	text, err := json.Marshal(kept)
	if err != nil { // Texts can be encoded.
		panic(err)
	}
	return text
}

// headerValue is the shown value of a header.
func headerValue(name string, values []string, conceal *conceal) string {
	if subscriptions.MasksHeader(name) {
		return subscriptions.Mask
	}
	if slices.Contains(addressHeaders, name) {
		values = slices.Clone(values)
		for i := range values {
			values[i] = redactLocation(values[i])
		}
	}
	return printable(string(conceal.bytes([]byte(strings.Join(values, ", ")), false)))
}

// printable replaces what is not to be shown: broken UTF-8 and control characters.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f {
			return '?'
		}
		return r
	}, strings.ToValidUTF8(s, "?"))
}
