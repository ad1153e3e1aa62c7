package egress

import "strings"

// EncodeQuery percent-encodes what RFC 3986 does not allow in a query, as net/url does in paths: letters beyond ASCII,
// quotes, braces and the like, which several servers answer with 400. What is encoded already stays as it is.
func EncodeQuery(query string) string {
	odd := 0
	for i := range len(query) {
		if !inQuery(query, i) {
			odd++
		}
	}
	if odd == 0 {
		return query
	}
	const digits = "0123456789ABCDEF"
	var out strings.Builder
	out.Grow(len(query) + 2*odd)
	for i := range len(query) {
		c := query[i]
		if inQuery(query, i) {
			out.WriteByte(c)
		} else {
			out.Write([]byte{'%', digits[c>>4], digits[c&15]})
		}
	}
	return out.String()
}

// inQuery says whether the byte at i may stand in a query as it is.
func inQuery(query string, i int) bool {
	switch c := query[i]; {
	case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9':
		return true
	case c == '%':
		return i+2 < len(query) && isHex(query[i+1]) && isHex(query[i+2])
	default:
		// Brackets are not in the grammar either, but customary: filter[a]=b.
		return strings.IndexByte("-._~!$&'()*+,;=:@/?[]", c) >= 0
	}
}

func isHex(c byte) bool {
	return '0' <= c && c <= '9' || 'a' <= c && c <= 'f' || 'A' <= c && c <= 'F'
}
