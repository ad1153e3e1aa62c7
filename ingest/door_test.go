package ingest_test

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/fanfarehq/fanfare/ingest"
)

// Uploads that trickle take no room for what they only announce, and no more than their tenant's share.
func TestTricklesShutNobodyOut(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	for range 64 {
		conn, err := net.Dial("tcp", strings.TrimPrefix(h.url, "http://"))
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = conn.Close() }()
		if _, err := fmt.Fprintf(conn, "POST /v1/events HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer acme\r\nContent-Length: %d\r\n\r\n[", h.cfg.MaxBytes); err != nil {
			t.Fatal(err)
		}
	}
	large := `[{"type":"a","data":"` + strings.Repeat("x", 200<<10) + `"}]`
	for _, body := range []string{`{"type":"a","data":1}`, large} {
		if a := h.post("globex", "/v1/events", body); a.status != http.StatusAccepted {
			t.Errorf("another tenant is answered %d %s", a.status, a.body)
		}
	}
	// A body that stands still is given up after seconds.
	r, w := io.Pipe()
	defer func() { _ = w.Close() }()
	go func() { _, _ = io.WriteString(w, `{"type":"a",`) }()
	if a := h.send("acme", "/v1/events", r); a.status != http.StatusRequestTimeout {
		t.Errorf("a body that stands still is answered %d %s", a.status, a.body)
	}
}

// Small requests go before a large one that waits for room, but not for ever: after so many the large one is next.
func TestSmallRequestsOvertakeALargeOne(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		const share = 1 << 20
		door := ingest.NewDoor(4 * share)
		enter := func(tenant string, bytes int64, small bool) (let chan struct{}) {
			let = make(chan struct{})
			go func() {
				if err := door.Enter(t.Context(), tenant, bytes, small); err != nil {
					t.Error(err)
				}
				close(let)
			}()
			synctest.Wait()
			return let
		}
		in := func(let chan struct{}) bool {
			select {
			case <-let:
				return true
			default:
				return false
			}
		}
		for i := range 4 {
			if !in(enter(fmt.Sprint("tenant", i), share, false)) {
				t.Fatal("a tenant does not get its share")
			}
		}
		large := enter("late", share, false)
		door.Leave("tenant0", share/2)
		for i := range ingest.MaxOvertaken {
			if !in(enter("other", 1, true)) {
				t.Fatalf("small request %d waits for a large one", i)
			}
			door.Leave("other", 1)
		}
		small := enter("other", 1, true)
		if in(large) || in(small) {
			t.Fatalf("large let in: %t; small one over those that may overtake: %t", in(large), in(small))
		}
		door.Leave("tenant0", share/2)
		synctest.Wait()
		if !in(large) {
			t.Error("the large request waits although there is room")
		}
		door.Leave("tenant1", share)
		synctest.Wait()
		if !in(small) {
			t.Error("the small request waits although there is room")
		}
	})
}
