package ingest_test

import (
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"
)

// away demands that a publish is answered 503 with Retry-After, soon.
func away(t *testing.T, h *house, body string) answer {
	t.Helper()
	began := time.Now()
	a := h.post("acme", "/v1/events", body)
	if took := time.Since(began); took > time.Minute {
		t.Errorf("the answer took %s", took)
	}
	if a.status != http.StatusServiceUnavailable || a.header.Get("Retry-After") == "" {
		t.Errorf("answered %d %s with Retry-After %q, want 503", a.status, a.body, a.header.Get("Retry-After"))
	}
	a.problem(t)
	return a
}

func TestBrokerAway(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	if a := h.post("acme", "/v1/events", `{"type":"a","data":1}`); a.status != http.StatusAccepted {
		t.Fatalf("answered %d %s", a.status, a.body)
	}
	brief := h.brief()
	h.nats.Shutdown()
	away(t, brief, `{"type":"a","data":1}`)
	away(t, brief, `{"type":"a","data":1,"id":"e"}`)
	a := away(t, brief, `[{"type":"a","data":1},{"type":"","data":1}]`)
	if !strings.Contains(a.body, `"accepted":0`) || !strings.Contains(a.body, `"events":[{"error":{`) {
		t.Errorf("the answer does not say what became of each event: %s", a.body)
	}
	if a := h.post("acme", "/v1/events", `{"type":"","data":1}`); a.status != http.StatusUnprocessableEntity {
		t.Errorf("what is no event is answered %d", a.status)
	}
}

func TestPostgresAway(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	brief := h.brief()
	if a := h.post("acme", "/v1/events", `{"type":"a","data":1,"id":"e"}`); a.status != http.StatusAccepted {
		t.Fatalf("answered %d %s", a.status, a.body)
	}
	// Nobody gets a connection.
	h.DB.SetMaxOpenConns(1)
	held, err := h.DB.Conn(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	away(t, brief, `{"type":"a","data":1}`)
	away(t, brief, `{"type":"a","data":1,"id":"e2"}`)
	if err := held.Close(); err != nil {
		t.Fatal(err)
	}
	h.DB.SetMaxOpenConns(10)
	if a := h.post("acme", "/v1/events", `{"type":"a","data":1,"id":"e"}`); a.status != http.StatusAccepted || !a.result(t).Duplicate {
		t.Errorf("answered %d %s", a.status, a.body)
	}
	if n := len(h.stored()); n != 1 {
		t.Errorf("%d events are stored, want 1", n)
	}
}

func TestPostgresGone(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	h.post("acme", "/v1/events", `{"type":"a","data":1}`)
	if err := h.DB.Close(); err != nil {
		t.Fatal(err)
	}
	away(t, h.brief(), `{"type":"a","data":1}`)
}

func TestStreamFull(t *testing.T) {
	t.Parallel()
	h := newHouse(t, func(h *house) { h.maxBytes = 64 << 10 })
	body := `{"type":"a","data":"` + strings.Repeat("a", 10<<10) + `"}`
	accepted := 0
	for range 20 {
		a := h.post("acme", "/v1/events", body)
		if a.status == http.StatusAccepted {
			accepted++
			continue
		}
		if a.status != http.StatusServiceUnavailable || a.header.Get("Retry-After") == "" || !strings.Contains(a.body, "FANFARE_EVENTS_MAX_BYTES") {
			t.Fatalf("answered %d %s", a.status, a.body)
		}
	}
	if n := len(h.stored()); n != accepted || accepted == 0 || accepted == 20 {
		t.Errorf("%d were accepted, %d are stored", accepted, n)
	}
	// An array of which a part has room says what became of each, and is no success.
	room := fmt.Sprintf(`{"type":"a","data":"%s"}`, strings.Repeat("a", 100))
	a := away(t, h, "["+body+strings.Repeat(","+room, 5)+"]")
	stored := len(h.stored()) - accepted
	if !strings.Contains(a.body, fmt.Sprintf(`"accepted":%d`, stored)) {
		t.Errorf("%d of an array are stored, the answer is %s", stored, a.body)
	}
}

func TestTooManyRequestsWait(t *testing.T) {
	t.Parallel()
	h := newHouse(t, func(h *house) {
		h.cfg.MaxBytes, h.cfg.Memory, h.cfg.MaxWaiting = 1<<10, 160<<10, 1
	})
	// Two bodies that do not arrive take all the room there is; one more may wait. Each is asked for when it has its room.
	asked := &http.Client{Transport: &http.Transport{ExpectContinueTimeout: time.Hour}}
	t.Cleanup(asked.CloseIdleConnections)
	var wg sync.WaitGroup
	var slow []*io.PipeWriter
	for range 2 {
		r, w := io.Pipe()
		slow = append(slow, w)
		wg.Go(func() {
			if a := h.sendBy(asked, "acme", "/v1/events", r, "Expect", "100-continue"); a.status != http.StatusAccepted {
				t.Errorf("a slow one is answered %d %s", a.status, a.body)
			}
		})
		if _, err := io.WriteString(w, `{"type":"a",`); err != nil {
			t.Fatal(err)
		}
	}
	crowded := make(chan answer, 20)
	for range 20 {
		wg.Go(func() { crowded <- h.post("acme", "/v1/events", `{"type":"a","data":1}`) })
	}
	// All but one are told to go away, at once, while the room is still taken.
	refused := 0
	for range 19 {
		if a := <-crowded; a.status == http.StatusServiceUnavailable && a.header.Get("Retry-After") != "" {
			refused++
		}
	}
	if a := h.post("globex", "/v1/events", `{"type":"a","data":1}`); a.status != http.StatusAccepted {
		t.Errorf("another tenant is answered %d %s", a.status, a.body)
	}
	for _, w := range slow {
		if _, err := io.WriteString(w, `"data":1}`); err != nil {
			t.Fatal(err)
		}
		_ = w.Close()
	}
	last := <-crowded
	if refused != 19 || last.status != http.StatusAccepted {
		t.Errorf("%d of 20 were told to come later, want 19; the last one is answered %d", refused, last.status)
	}
	wg.Wait()
}

func TestTwoProcesses(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	other := h.twin()
	const n = 50
	counts := make([]result, 0, 2*n)
	var mu sync.Mutex
	var wg sync.WaitGroup
	for i := range n {
		for _, at := range []*house{h, other} {
			wg.Go(func() {
				a := at.post("acme", "/v1/events", fmt.Sprintf(`{"type":"a","data":1,"id":"e%d"}`, i))
				mu.Lock()
				defer mu.Unlock()
				if a.status != http.StatusAccepted {
					t.Errorf("answered %d %s", a.status, a.body)
					return
				}
				counts = append(counts, a.result(t))
			})
		}
	}
	wg.Wait()
	fresh := map[string]int{}
	for _, r := range counts {
		if !r.Duplicate {
			fresh[r.ID]++
		}
	}
	for i := range n {
		if id := fmt.Sprint("e", i); fresh[id] != 1 {
			t.Errorf("%s is new %d times", id, fresh[id])
		}
	}
	if got := len(h.stored()); got != n {
		t.Errorf("%d events are stored, want %d", got, n)
	}
}
