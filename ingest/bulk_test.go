package ingest_test

import (
	"net/http"
	"strings"
	"testing"
	"time"
)

// Large bodies are held to a rate, tenants in turn; small ones are not. A body that finds no room in time is refused whole.
func TestLargeBodiesAreHeldToARate(t *testing.T) {
	t.Parallel()
	h := newHouse(t, func(h *house) { h.bulkRate, h.cfg.Timeout = 1, 10*time.Second })
	large := `[{"type":"a","data":"` + strings.Repeat("x", 100<<10) + `"}]`
	if a := h.post("acme", "/v1/events", large); a.status != http.StatusAccepted {
		t.Fatalf("the first large body is answered %d %s", a.status, a.body)
	}
	// At a byte a second the next one would wait for a day.
	if a := h.post("globex", "/v1/events", large); a.status != http.StatusServiceUnavailable || a.header.Get("Retry-After") == "" {
		t.Errorf("a large body beyond the rate is answered %d %s", a.status, a.body)
	}
	h.cfg.Timeout = time.Minute
	h.build()
	for range 10 {
		if a := h.post("acme", "/v1/events", `{"type":"a","data":1}`); a.status != http.StatusAccepted {
			t.Errorf("a small body is answered %d %s", a.status, a.body)
		}
	}
	if n := len(h.stored()); n != 11 {
		t.Errorf("%d events are stored, want 11", n)
	}
}
