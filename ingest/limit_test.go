package ingest_test

import (
	"net/http"
	"strings"
	"testing"

	"github.com/fanfarehq/fanfare/internal/quota"
)

// limited demands that a publish is answered 429 with the limit's name.
func limited(t *testing.T, a answer) {
	t.Helper()
	if a.status != http.StatusTooManyRequests || a.header.Get("Retry-After") == "" || !strings.Contains(a.body, `/problems/limit"`) ||
		!strings.Contains(a.body, `"location":"events_per_second"`) {
		t.Errorf("answered %d %v %.300s", a.status, a.header, a.body)
	}
	a.problem(t)
}

func TestEventsPerSecond(t *testing.T) {
	t.Parallel()
	h := newHouse(t, func(h *house) {
		var err error
		if h.quotas, err = quota.New(quota.Config{EventsPerSecond: 1}, quota.Deps{DB: h.DB}); err != nil {
			t.Fatal(err)
		}
		h.quotas.Note("globex", quota.Limits{EventsPerSecond: new(int64(1000))})
	})
	// A request is taken whole, and those after it wait until it is paid for.
	batch := `[` + strings.Repeat(`{"type":"a","data":1},`, 99) + `{"type":"a","data":1}]`
	if a := h.post("acme", "/v1/events", batch); a.status != http.StatusAccepted {
		t.Fatalf("answered %d %s", a.status, a.body)
	}
	limited(t, h.post("acme", "/v1/events", `{"type":"a","data":1}`))
	a := h.post("acme", "/v1/events", batch)
	limited(t, a)
	if !strings.Contains(a.body, `"accepted":0`) || strings.Count(a.body, `{"error":{`) != 100 {
		t.Errorf("the answer does not say what became of each event: %s", a.body)
	}
	for range 10 {
		if a := h.post("globex", "/v1/events", `{"type":"a","data":1}`); a.status != http.StatusAccepted {
			t.Errorf("another tenant got %d %s", a.status, a.body)
		}
	}
}
