package ingest_test

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
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
