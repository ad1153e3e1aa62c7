package egress_test

import (
	"net/http"
	"testing"
	"time"

	"github.com/fanfarehq/fanfare/internal/egress"
)

// lasting is a receiver that says when one of its connections ends.
func lasting(t *testing.T, during func(*http.Request)) (*scripted, <-chan struct{}) {
	t.Helper()
	ended := make(chan struct{}, 8)
	return script(t, nil, func(_ int, w *wire) {
		for r := w.request(); r != nil; r = w.request() {
			during(r)
			w.say(fine)
		}
		ended <- struct{}{}
	}), ended
}

func TestHTTP1IdleTimeout(t *testing.T) {
	t.Parallel()
	s, ended := lasting(t, func(*http.Request) {})
	cfg := egress.DefaultConfig()
	cfg.IdleConnTimeout = time.Millisecond
	c := egress.NewClient(mustPolicy(t, "127.0.0.0/8"), cfg)
	r := routeTo(t, c, s.url, nil)
	for range 2 { // the timer is set again
		routed(t, r, "200 OK ok")
		<-ended
	}
}

func TestHTTP1CloseIdleConnections(t *testing.T) {
	t.Parallel()
	c := newClient(t, "127.0.0.0/8")
	s, ended := lasting(t, func(r *http.Request) {
		if r.URL.Path == "/meanwhile" {
			c.CloseIdleConnections()
		}
	})
	r := routeTo(t, c, s.url, nil)
	routed(t, r, "200 OK ok")
	c.CloseIdleConnections()
	<-ended

	routed(t, routeTo(t, c, s.url+"/meanwhile", nil), "200 OK ok")
	<-ended // since it came back only then

	routed(t, r, "200 OK ok")
	routed(t, r, "200 OK ok")
	if n := s.connections.Load(); n != 3 {
		t.Errorf("%d connections, want that the third is used again", n)
	}
}
