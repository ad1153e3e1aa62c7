package servertest

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// Receiver is an HTTP server on 127.0.0.1 that records every request and answers by a script.
type Receiver struct {
	// URL is where it listens, without a path.
	URL string

	t      testing.TB
	server *http.Server
	closed chan struct{} // ends the answers that hang

	mu       sync.Mutex
	requests []Request
	script   []Answer
	changed  chan struct{} // closed and made anew with each request
}

// Request is one request as it came.
type Request struct {
	At     time.Time // when its header was complete
	Method string
	Path   string // with the query
	Host   string
	Header http.Header
	Body   []byte // to the byte
	Err    error  // why the body broke off, if it did
}

func (r Request) String() string {
	return fmt.Sprintf("%s %s %s (%d bytes)", r.At.Format("15:04:05.000"), r.Method, r.Path, len(r.Body))
}

// arrival is how long the waits of a Receiver take at most.
const arrival = 2 * time.Minute

// NewReceiver starts a receiver that ends with the test. The first request gets the first answer and so on; the
// last answer is repeated. Without any, every request gets 200.
func NewReceiver(t testing.TB, script ...Answer) *Receiver {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatalf("servertest: %v", err)
	}
	r := &Receiver{
		URL: "http://" + listener.Addr().String(), t: t, script: script,
		closed: make(chan struct{}), changed: make(chan struct{}),
	}
	r.server = &http.Server{Handler: http.HandlerFunc(r.serve)}
	served := make(chan struct{})
	go func() {
		defer close(served)
		_ = r.server.Serve(listener) // it always ends with an error: that it was closed
	}()
	t.Cleanup(func() {
		close(r.closed)
		_ = r.server.Close() // open requests are cut off
		<-served
	})
	return r
}

// serve records one request and answers it.
func (r *Receiver) serve(w http.ResponseWriter, req *http.Request) {
	at := time.Now()
	body, err := io.ReadAll(req.Body)
	got := Request{
		At: at, Method: req.Method, Path: req.URL.RequestURI(), Host: req.Host,
		Header: req.Header, Body: body, Err: err,
	}
	r.record(got)(w, got, until{gone: req.Context().Done(), closed: r.closed})
}

// record keeps a request, wakes those who wait, and says how to answer it.
func (r *Receiver) record(req Request) Answer {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.requests = append(r.requests, req)
	close(r.changed)
	r.changed = make(chan struct{})
	if len(r.script) == 0 {
		return Status(http.StatusOK)
	}
	answer := r.script[0]
	if len(r.script) > 1 {
		r.script = r.script[1:]
	}
	return answer
}

// Answer replaces the script from the next request on.
func (r *Receiver) Answer(script ...Answer) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.script = script
}

// Requests are all that came so far, in the order in which they were complete.
func (r *Receiver) Requests() []Request {
	requests, _ := r.state()
	return requests
}

func (r *Receiver) state() ([]Request, <-chan struct{}) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.requests), r.changed
}

// Wait returns all requests once there are at least n of them. If they do not come, the test fails and says what
// came instead.
func (r *Receiver) Wait(n int) []Request {
	r.t.Helper()
	return r.WaitFor(fmt.Sprintf("%d requests", n), func(requests []Request) bool { return len(requests) >= n })
}

// WaitFor returns all requests once they are what the test waits for; what describes that. It is asked with each
// request anew. If it does not come, the test fails and says what came instead.
func (r *Receiver) WaitFor(what string, enough func([]Request) bool) []Request {
	r.t.Helper()
	deadline := time.After(arrival)
	for {
		requests, changed := r.state()
		if enough(requests) {
			return requests
		}
		select {
		case <-changed:
		case <-deadline:
			r.t.Fatalf("waited %s for %s at %s; what came: %s", arrival, what, r.URL, list(requests))
		}
	}
}

// list shows requests for a failing test, the last ones if there are many.
func list(requests []Request) string {
	if len(requests) == 0 {
		return "nothing"
	}
	const most = 20
	var text strings.Builder
	fmt.Fprintf(&text, "%d requests", len(requests))
	for _, req := range requests[max(0, len(requests)-most):] {
		text.WriteString("\n\t" + req.String())
	}
	return text.String()
}
