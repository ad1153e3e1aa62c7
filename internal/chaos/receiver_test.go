package chaos_test

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// receivers is the fleet: an HTTP server on loopback that behaves as the first segment of a path says.
type receivers struct {
	rec    *recorder
	urls   map[string]string // by kind: each has a port of its own, as if it were another machine
	server *http.Server
	canary net.Listener

	mu      sync.Mutex
	seen    map[string]int    // requests by path and id
	secrets map[string]string // by path
}

// kinds are the behaviours.
var kinds = []string{"fast", "slow", "failing", "resetting", "lying"}

// newReceivers starts the fleet, and a canary at an address that the processes may not reach: it only counts.
func newReceivers(t testing.TB, rec *recorder) *receivers {
	t.Helper()
	canary, err := net.Listen("tcp", "127.200.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	r := &receivers{rec: rec, urls: map[string]string{}, canary: canary, seen: map[string]int{}, secrets: map[string]string{}}
	r.server = &http.Server{Handler: http.HandlerFunc(r.serve)}
	var ended sync.WaitGroup
	for _, kind := range kinds {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		r.urls[kind] = "http://" + l.Addr().String()
		ended.Go(func() { _ = r.server.Serve(l) }) // It always ends with an error: that it was closed.
	}
	ended.Go(r.count)
	t.Cleanup(func() {
		_ = r.server.Close()
		_ = canary.Close()
		ended.Wait()
	})
	return r
}

// count counts the connections to the canary.
func (r *receivers) count() {
	for {
		c, err := r.canary.Accept()
		if err != nil {
			return
		}
		_ = c.Close()
		r.rec.do(func(h *history) { h.canary++ })
	}
}

// knows tells the fleet the secret of a path.
func (r *receivers) knows(path, secret string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.secrets[path] = secret
}

func (r *receivers) serve(w http.ResponseWriter, req *http.Request) {
	at := time.Now()
	body, err := io.ReadAll(req.Body)
	if err != nil {
		return // The process was killed while it sent: nothing arrived.
	}
	a := arrival{path: req.URL.Path, id: req.Header.Get("Webhook-Id"), at: at, body: hash(body)}
	seconds, _ := strconv.ParseInt(req.Header.Get("Webhook-Timestamp"), 10, 64)
	a.timestamp = time.Unix(seconds, 0)
	var event struct {
		Type string
		Data json.RawMessage
	}
	_ = json.Unmarshal(body, &event) // The checker compares what is left of it.
	a.eventType, a.data = event.Type, hash(event.Data)
	r.mu.Lock()
	r.seen[a.path+" "+a.id]++
	n := r.seen[a.path+" "+a.id]
	a.signed = verifies(r.secrets[a.path], a.id, req.Header.Get("Webhook-Timestamp"), req.Header.Get("Webhook-Signature"), body)
	r.mu.Unlock()
	kind, _, _ := strings.Cut(strings.TrimPrefix(a.path, "/"), "/")
	if kind != "slow" && a.body[0] >= '5' { // Two thirds of the events meet no trouble, so that no breaker opens.
		kind = "fast"
	}
	a.status = r.answer(w, req, kind, n)
	r.rec.arrived(a)
}

// answer behaves as the kind says at the nth request of an event, and returns the status that was answered.
func (r *receivers) answer(w http.ResponseWriter, req *http.Request, kind string, n int) int {
	switch {
	case kind == "slow":
		select {
		case <-time.After(300 * time.Millisecond):
		case <-req.Context().Done():
			return 0
		}
	case kind == "failing" && n <= 2:
		w.WriteHeader(http.StatusInternalServerError)
		return http.StatusInternalServerError
	case kind == "resetting" && n == 1:
		hijacked(w, func(c net.Conn) { reset(c) })
		return 0
	case kind == "lying" && n == 1: // It would have the worker call elsewhere.
		w.Header().Set("Location", "http://"+r.canary.Addr().String()+"/")
		w.WriteHeader(http.StatusTemporaryRedirect)
		return http.StatusTemporaryRedirect
	case kind == "lying": // It promises more than it sends: the header alone counts.
		hijacked(w, func(c net.Conn) { fmt.Fprint(c, "HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\nshort") })
		return http.StatusOK
	}
	w.WriteHeader(http.StatusNoContent)
	return http.StatusNoContent
}

func hijacked(w http.ResponseWriter, do func(net.Conn)) {
	h, ok := w.(http.Hijacker)
	if !ok {
		return
	}
	c, _, err := h.Hijack()
	if err != nil {
		return
	}
	do(c)
	_ = c.Close()
}

// verifies is the check of Standard Webhooks, written again.
func verifies(secret, id, timestamp, signatures string, body []byte) bool {
	key, err := base64.StdEncoding.DecodeString(strings.TrimPrefix(secret, "whsec_"))
	if err != nil || len(key) == 0 {
		return false
	}
	mac := hmac.New(sha256.New, key)
	fmt.Fprintf(mac, "%s.%s.", id, timestamp)
	mac.Write(body)
	want := "v1," + base64.StdEncoding.EncodeToString(mac.Sum(nil))
	for got := range strings.FieldsSeq(signatures) {
		if hmac.Equal([]byte(got), []byte(want)) {
			return true
		}
	}
	return false
}

func hash(b []byte) string {
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:8])
}
