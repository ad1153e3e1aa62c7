package subscriptions

import (
	"fmt"
	"maps"
	"mime"
	"slices"
	"strings"

	"golang.org/x/net/http/httpguts"
)

// Bounds of custom headers.
const (
	maxHeaders      = 50
	maxHeaderName   = 128
	maxHeaderValue  = 4 << 10
	maxHeadersBytes = 16 << 10 // all names and values
)

// reservedHeaders are not a subscription's to set: those that frame the message or belong to the connection,
// those that Fanfare writes, and those that would make net/http send a POST again by itself.
var reservedHeaders = map[string]bool{
	"host": true, "content-length": true, "transfer-encoding": true, "content-encoding": true, "trailer": true, "te": true,
	"connection": true, "keep-alive": true, "upgrade": true, "expect": true, "http2-settings": true,
	"user-agent": true, "accept-encoding": true, "traceparent": true, "tracestate": true,
	"idempotency-key": true, "x-idempotency-key": true,
}

// reservedPrefixes are those of whole families.
var reservedPrefixes = []string{"webhook-", "proxy-", "ce-"}

func validateHeaders(headers map[string]string, bad *Invalid) {
	if len(headers) > maxHeaders {
		bad.addf("headers", "must not have more than %d entries", maxHeaders)
		return
	}
	total := 0
	seen := map[string]bool{}
	for _, name := range slices.Sorted(maps.Keys(headers)) {
		text := headers[name]
		total += len(name) + len(text)
		if fault := headerName(name); fault != "" {
			bad.addf("headers", "%s", fault)
			continue
		}
		lower := strings.ToLower(name)
		if seen[lower] {
			bad.addf("headers."+name, "is there twice: names do not differ by case")
		}
		seen[lower] = true
		if reserved(lower) {
			bad.addf("headers."+name, "is reserved and cannot be set")
		}
		if fault := headerValue(text); fault != "" {
			bad.addf("headers."+name, "%s", fault)
		}
	}
	if total > maxHeadersBytes {
		bad.addf("headers", "must not be larger than %d bytes altogether", maxHeadersBytes)
	}
}

func reserved(lower string) bool {
	return reservedHeaders[lower] || slices.ContainsFunc(reservedPrefixes, func(p string) bool { return strings.HasPrefix(lower, p) })
}

func headerName(name string) string {
	switch {
	case len(name) > maxHeaderName:
		return fmt.Sprintf("must not have names longer than %d characters", maxHeaderName)
	case !httpguts.ValidHeaderFieldName(name):
		return fmt.Sprintf("must have names of letters, digits and !#$%%&'*+-.^_`|~ only; %q is none", name)
	}
	return ""
}

func headerValue(text string) string {
	if len(text) > maxHeaderValue {
		return fmt.Sprintf("must not be longer than %d bytes", maxHeaderValue)
	}
	for _, c := range []byte(text) {
		if c != '\t' && (c < ' ' || c > '~') {
			return "must consist of printable ASCII characters"
		}
	}
	if strings.TrimSpace(text) != text {
		return "must not begin or end with a space"
	}
	return ""
}

// maxContentType is in bytes.
const maxContentType = 255

// validateContentType judges the media type that takes the place of the payload format's.
func validateContentType(sub *Subscription, bad *Invalid) {
	if sub.ContentType == "" {
		return
	}
	kind, _, err := mime.ParseMediaType(sub.ContentType)
	if main, subtype, ok := strings.Cut(kind, "/"); err != nil || !ok || main == "" || subtype == "" ||
		len(sub.ContentType) > maxContentType || headerValue(sub.ContentType) != "" {
		bad.addf("content_type", "must be a media type of up to %d characters, such as application/json", maxContentType)
	}
	for name := range sub.Headers {
		if strings.EqualFold(name, "Content-Type") {
			bad.addf("headers."+name, "is what content_type sets; give one of the two")
		}
	}
}
