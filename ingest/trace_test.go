package ingest_test

import "testing"

const (
	fromHeader = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
	fromEvent  = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
)

// The traceparent of a request goes with its events, whether or not this process traces; one that an event names goes before it.
func TestTraceParentGoesOn(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	cloud := func(id, parent string) string {
		return `{"specversion":"1.0","id":"` + id + `","source":"urn:a","type":"order.created","data":{}` + parent + `}`
	}
	const own = `,"traceparent":"` + fromEvent + `"`
	for _, tt := range []struct {
		media, body, header string
		want                []string
	}{
		{"application/json", `{"type":"order.created","data":{}}`, fromHeader, []string{fromHeader}},
		{"application/json", `{"type":"order.created","data":{}}`, "nonsense", []string{""}},
		{"application/cloudevents+json", cloud("1", own), fromHeader, []string{fromEvent}},
		{"application/cloudevents-batch+json", "[" + cloud("2", own) + "," + cloud("3", "") + "]", fromHeader, []string{fromEvent, fromHeader}},
	} {
		before := len(h.stored())
		if a := h.post("admin", "/v1/events?tenant=acme", tt.body, "Content-Type", tt.media, "Traceparent", tt.header); a.status != 202 {
			t.Fatalf("%s: %+v", tt.body, a)
		}
		for i, m := range h.stored()[before:] {
			if got := m.Header.Get("traceparent"); got != tt.want[i] {
				t.Errorf("%s with %q: event %d has %q, want %q", tt.body, tt.header, i, got, tt.want[i])
			}
		}
	}
}
