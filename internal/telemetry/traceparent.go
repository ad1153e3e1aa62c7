package telemetry

import (
	"encoding/hex"

	"go.opentelemetry.io/otel/trace"
)

// parse reads a W3C traceparent. Later versions are read as far as version 00 goes, as the recommendation wants.
func parse(s string) (trace.SpanContext, bool) {
	if len(s) < 55 || s[:2] == "ff" || s[2] != '-' || s[35] != '-' || s[52] != '-' || (len(s) > 55 && (s[:2] == "00" || s[55] != '-')) {
		return trace.SpanContext{}, false
	}
	var id trace.TraceID
	var span trace.SpanID
	var version, flags [1]byte
	for _, field := range []struct {
		into []byte
		text string
	}{{version[:], s[:2]}, {id[:], s[3:35]}, {span[:], s[36:52]}, {flags[:], s[53:55]}} {
		for i := range len(field.text) {
			if c := field.text[i]; c >= 'A' && c <= 'F' {
				return trace.SpanContext{}, false
			}
		}
		if _, err := hex.Decode(field.into, []byte(field.text)); err != nil {
			return trace.SpanContext{}, false
		}
	}
	c := trace.NewSpanContext(trace.SpanContextConfig{
		TraceID: id, SpanID: span, TraceFlags: trace.TraceFlags(flags[0]) & trace.FlagsSampled, Remote: true,
	})
	return c, c.IsValid()
}

// format writes a traceparent of version 00.
func format(c trace.SpanContext) string {
	id, span := c.TraceID(), c.SpanID()
	b := make([]byte, 0, 55)
	b = append(b, "00-"...)
	b = hex.AppendEncode(b, id[:])
	b = append(b, '-')
	b = hex.AppendEncode(b, span[:])
	if c.IsSampled() {
		return string(append(b, "-01"...))
	}
	return string(append(b, "-00"...))
}
