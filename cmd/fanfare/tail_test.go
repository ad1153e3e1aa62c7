package main

import (
	"errors"
	"strings"
	"testing"
)

func TestTheTailIsPrintedLineByLine(t *testing.T) {
	t.Parallel()
	const stream = ": watching\n\nevent: attempt\n" +
		`data: {"number":1,"started_at":"2026-11-20T10:00:00Z","duration_ms":41,"status":500,"error":"a\u001b[31mb","reason":"http_5xx","event_id":"evt_17","event_type":"order.created","tenant":"acme","state":"dead"}` +
		"\n\nevent: dropped\ndata: {}\n\n"
	for _, coloured := range []bool{false, true} {
		var out strings.Builder
		if err := printTail(strings.NewReader(stream), &out, coloured); !errors.Is(err, errTailDropped) {
			t.Errorf("the tail ends with %v", err)
		}
		got := out.String()
		for _, want := range []string{"dead", "500", "41 ms", "#1", "http_5xx", "acme", "order.created", "evt_17", "a[31mb"} {
			if !strings.Contains(got, want) {
				t.Errorf("%q lacks %q", got, want)
			}
		}
		if strings.Count(got, "\n") != 1 || strings.Contains(got, "\x1b[31mdead") != coloured || strings.Contains(got, "\x1b[31mb") {
			t.Errorf("coloured %v: %q", coloured, got)
		}
	}
	if err := printTail(strings.NewReader(""), &strings.Builder{}, false); !errors.Is(err, errTailEnded) {
		t.Errorf("a tail that the server ends is %v", err)
	}
}
