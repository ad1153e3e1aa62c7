package attack_test

import (
	"bytes"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"time"
)

// receiver is an HTTP server at one address. It answers 204: at once, or below /slow after a time.
type receiver struct {
	url    string
	closed chan struct{}
	delay  time.Duration
	status func(*http.Request) int

	mu      sync.Mutex
	arrived func(id string) // is called with each request's event
	saw     [][]byte        // bodies, if keep is set
	keep    bool
}

// receive starts a receiver at the last byte of an address of the fanfare's network.
func (s *scene) receive(last int, set ...func(*receiver)) *receiver {
	s.Helper()
	return s.serve(s.host(last)+":0", nil, set...)
}

// host is an address of the fanfare's network.
func (s *scene) host(last int) string { return fmt.Sprintf("%s.%d", s.on.network, last) }

// fast is the URL of a receiver that answers at once.
func (s *scene) fast(last int) string { return s.receive(last).url + "/fast" }

// slowly makes a receiver take a time to answer below /slow.
func slowly(d time.Duration) func(*receiver) { return func(r *receiver) { r.delay = d } }

// keeping makes a receiver keep the bodies.
func keeping(r *receiver) { r.keep = true }

func (s *scene) serve(addr string, identity *tls.Config, set ...func(*receiver)) *receiver {
	s.Helper()
	listener, err := net.Listen("tcp", addr)
	if err != nil {
		s.Fatalf("listen: %v", err)
	}
	r := &receiver{url: "http://" + listener.Addr().String(), closed: make(chan struct{}), arrived: func(string) {}}
	r.status = func(*http.Request) int { return http.StatusNoContent }
	for _, with := range set {
		with(r)
	}
	if identity != nil {
		r.url = "https" + strings.TrimPrefix(r.url, "http")
		listener = tls.NewListener(listener, identity)
	}
	s.at[r.url] = r
	server := &http.Server{Handler: r}
	served := make(chan struct{})
	go func() {
		defer close(served)
		_ = server.Serve(listener) // It always ends with an error: that it was closed.
	}()
	s.Cleanup(func() {
		close(r.closed)
		_ = server.Close() // Open requests are cut off.
		<-served
	})
	return r
}

func (r *receiver) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	body, err := io.ReadAll(req.Body)
	if err != nil {
		return
	}
	r.mu.Lock()
	if r.keep {
		r.saw = append(r.saw, body)
	}
	r.arrived(req.Header.Get("Webhook-Id"))
	r.mu.Unlock()
	if r.delay > 0 && strings.HasPrefix(req.URL.Path, "/slow") {
		timer := time.NewTimer(r.delay)
		defer timer.Stop()
		select {
		case <-timer.C:
		case <-req.Context().Done():
			return
		case <-r.closed:
			return
		}
	}
	w.WriteHeader(r.status(req))
}

// watch calls arrived with the id of each event that comes.
func (r *receiver) watch(arrived func(id string)) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.arrived = arrived
}

// has says whether a body held the text.
func (r *receiver) has(text string) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, body := range r.saw {
		if bytes.Contains(body, []byte(text)) {
			return true
		}
	}
	return false
}

// securePort is https' own port where this process may listen on it, else any.
func (s *scene) securePort() string {
	listener, err := net.Listen("tcp", s.host(99)+":443")
	if err != nil {
		return ":0"
	}
	_ = listener.Close() // It has taken no connection.
	return ":443"
}
