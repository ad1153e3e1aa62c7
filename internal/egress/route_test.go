package egress_test

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/fanfarehq/fanfare/internal/egress"
)

// routeTo makes a route that there must be.
func routeTo(t testing.TB, c *http.Client, to string, header http.Header) *egress.Route {
	t.Helper()
	r := newRoute(t, c, to, header)
	if r == nil {
		t.Fatalf("there is no route to %s", to)
	}
	return r
}

func newRoute(t testing.TB, c *http.Client, to string, header http.Header) *egress.Route {
	t.Helper()
	u, err := url.Parse(to)
	if err != nil {
		t.Fatal(err)
	}
	return egress.NewRoute(c.Transport, "", u, header)
}

// patient is a small POST with plenty of time.
func patient() *egress.Post {
	return &egress.Post{Body: []byte("{}"), Until: time.Now().Add(time.Minute), BodyTime: time.Minute}
}

// byRoute makes a POST, with plenty of time and a small body where it says nothing else.
func byRoute(t testing.TB, r *egress.Route, p *egress.Post) (*http.Response, string, error) {
	t.Helper()
	usual := patient()
	if p.Until.IsZero() {
		p.Until = usual.Until
	}
	if p.BodyTime == 0 {
		p.BodyTime = usual.BodyTime
	}
	if p.Body == nil {
		p.Body = usual.Body
	}
	if !r.Takes(p) {
		t.Fatal("it is none for the route")
	}
	resp, err := r.Post(t.Context(), p)
	if err != nil {
		return nil, "", err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	return resp, string(body), err
}

// routed makes a POST by a route that must succeed.
func routed(t testing.TB, r *egress.Route, want string) {
	t.Helper()
	resp, body, err := byRoute(t, r, &egress.Post{})
	if err != nil || resp.Status+" "+body != want {
		t.Fatalf("got %v %q, %v, want %q", resp, body, err, want)
	}
}

// A route sends the bytes that the client would have sent.
func TestRouteSendsWhatTheClientSends(t *testing.T) {
	t.Parallel()
	got := make(chan *http.Request, 2)
	s := script(t, nil, func(_ int, w *wire) {
		for r := w.request(); r != nil; r = w.request() {
			got <- r
			w.say(fine)
		}
	})
	c := newClient(t, "127.0.0.0/8")
	to := s.url + "/a%20b?c=d"
	fixed, own := http.Header{"X-Fixed": {"a", "b"}, "Content-Type": {"text/plain"}}, http.Header{"X-Own": {"c"}}
	resp, body, err := byRoute(t, routeTo(t, c, to, fixed), &egress.Post{Header: own})
	if err != nil || resp.Status != "200 OK" || body != "ok" {
		t.Fatalf("got %v %q, %v", resp, body, err)
	}
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, to, strings.NewReader("{}"))
	if err != nil {
		t.Fatal(err)
	}
	req.Header = http.Header{"X-Fixed": {"a", "b"}, "Content-Type": {"text/plain"}, "X-Own": {"c"}}
	if resp, err = c.Do(req); err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if one, other := dumped(t, <-got), dumped(t, <-got); one != other {
		t.Errorf("by a route %q, by the client %q", one, other)
	}
}

// dumped is a request with its headers in order.
func dumped(t *testing.T, r *http.Request) string {
	t.Helper()
	var w strings.Builder
	if err := r.Write(&w); err != nil {
		t.Fatal(err)
	}
	return w.String()
}

// There are routes for what goes by HTTP/1.1 and is well-formed, and they take what is small and changes no fixed header.
func TestRouteTakes(t *testing.T) {
	t.Parallel()
	c := newClient(t, "")
	for to, header := range map[string]http.Header{
		"ftp://receiver.example/":      nil,
		"http:opaque":                  nil,
		"http://müller.example/":       nil,
		"http://receiver.example/?a b": nil,
		"http:///nowhere":              nil,
		"http://:80/":                  nil,
		"http://[fe80::1%25eth0]/":     nil,
		"http://framed.example/":       {"Transfer-Encoding": {"chunked"}},
		"http://upgraded.example/":     {"Upgrade": {"h2c"}},
		"http://split.example/":        {"X": {"a\r\nb"}},
	} {
		if newRoute(t, c, to, header) != nil {
			t.Errorf("%s, %v: there is a route", to, header)
		}
	}
	cfg := egress.DefaultConfig()
	cfg.ProxyURL = "http://proxy.example:3128"
	identified, err := egress.Identify(c, tls.Certificate{})
	if err != nil {
		t.Fatal(err)
	}
	for name, client := range map[string]*http.Client{
		"a proxy": egress.NewClient(mustPolicy(t, ""), cfg), "a certificate": identified, "no guard": {Transport: new(http.Transport)},
	} {
		if newRoute(t, client, "http://receiver.example/", nil) != nil {
			t.Errorf("there is a route around a client with %s", name)
		}
	}
	routeTo(t, c, "http://[::1]:80/", nil)
	r := routeTo(t, c, "http://receiver.example/", http.Header{"X-Fixed": {"a"}})
	small := []byte("{}")
	for name, tc := range map[string]struct {
		post  *egress.Post
		taken bool
	}{
		"an ordinary one": {&egress.Post{Body: small, Header: http.Header{"X-Own": {"a"}}}, true},
		"the largest":     {&egress.Post{Body: make([]byte, 32<<10)}, true},
		"larger":          {&egress.Post{Body: make([]byte, 32<<10+1)}, false},
		"no body":         {&egress.Post{}, false},
		"another value":   {&egress.Post{Body: small, Header: http.Header{"X-Fixed": {"b"}}}, false},
		"framing":         {&egress.Post{Body: small, Header: http.Header{"Content-Length": {"9"}}}, false},
		"odd framing":     {&egress.Post{Body: small, Header: http.Header{"content-length": {"9"}}}, false},
		"odd name":        {&egress.Post{Body: small, Header: http.Header{"a b": nil}}, false},
		"odd value":       {&egress.Post{Body: small, Header: http.Header{"X-Own": {"a\nb"}}}, false},
	} {
		if got := r.Takes(tc.post); got != tc.taken {
			t.Errorf("%s: got %v", name, got)
		}
	}
	if routeTo(t, c, "https://receiver.example/", nil).Takes(&egress.Post{Body: small}) || (*egress.Route)(nil).Takes(&egress.Post{Body: small}) {
		t.Error("taken, though nothing says that the receiver speaks HTTP/1.1")
	}
}

// A POST's time passes while its header is waited for, or its body; the connection is not used again then.
func TestRouteTimePasses(t *testing.T) {
	t.Parallel()
	const half = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\no"
	for name, tc := range map[string]struct {
		answer      string
		until, body time.Duration
	}{
		"nothing":           {"", 50 * time.Millisecond, time.Hour},
		"half a body":       {half, 50 * time.Millisecond, time.Hour},
		"the body's":        {half, time.Hour, 50 * time.Millisecond},
		"an unknown length": {"HTTP/1.1 200 OK\r\n\r\no", time.Hour, 50 * time.Millisecond},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := script(t, nil, func(before int, w *wire) {
				for w.request() != nil {
					if before == 0 {
						w.say(tc.answer)
						w.ended()
						return
					}
					w.say(fine)
				}
			})
			r := routeTo(t, newClient(t, "127.0.0.0/8"), s.url, nil)
			resp, _, err := byRoute(t, r, &egress.Post{Until: time.Now().Add(tc.until), BodyTime: tc.body})
			if egress.ClassOf(err) != egress.Timeout || (resp == nil) != (tc.answer == "") {
				t.Errorf("got %v, %v", resp, err)
			}
			if _, body, err := byRoute(t, r, &egress.Post{}); err != nil || body != "ok" {
				t.Errorf("afterwards: got %q, %v", body, err)
			}
			if n := s.connections.Load(); n != 2 {
				t.Errorf("%d connections, want 2", n)
			}
		})
	}
}

// The time of a POST bounds none of those after it on its connection.
func TestRouteTimeIsItsOwn(t *testing.T) {
	t.Parallel()
	over := time.Now().Add(50 * time.Millisecond)
	s := script(t, nil, func(_ int, w *wire) {
		for r := w.request(); r != nil; r = w.request() {
			if r.URL.Path == "/later" {
				<-time.After(time.Until(over) + time.Millisecond)
			}
			w.say(fine)
		}
	})
	c := newClient(t, "127.0.0.0/8")
	// On a busy machine it may be late; then there is nothing left to see.
	if _, _, err := byRoute(t, routeTo(t, c, s.url, nil), &egress.Post{Until: over}); err != nil && egress.ClassOf(err) != egress.Timeout {
		t.Error(err)
	}
	routed(t, routeTo(t, c, s.url+"/later", nil), "200 OK ok")
	if _, _, err := byRoute(t, routeTo(t, c, s.url, nil), &egress.Post{}); err != nil {
		t.Error(err)
	}
}

// The end of a route's context ends what is under way with its cause, and the connections that served it.
func TestRouteCancelled(t *testing.T) {
	t.Parallel()
	enough := errors.New("enough")
	ctx, cancel := context.WithCancelCause(t.Context())
	ended := make(chan struct{}, 2)
	began, idle := make(chan struct{}), make(chan struct{})
	s := script(t, nil, func(_ int, w *wire) {
		for r := w.request(); r != nil; r = w.request() {
			if r.URL.Path == "/stop" {
				close(began)
				<-idle // until there is another connection, which nobody uses
				cancel(enough)
				break
			}
			w.say(fine)
		}
		w.ended()
		ended <- struct{}{}
	})
	c := newClient(t, "127.0.0.0/8")
	post := func(to string) error {
		p := egress.Post{Body: []byte("{}"), Until: time.Now().Add(time.Hour), BodyTime: time.Hour}
		resp, err := routeTo(t, c, s.url+to, nil).Post(ctx, &p)
		if err != nil {
			return err
		}
		defer resp.Body.Close()
		_, err = io.ReadAll(resp.Body)
		return err
	}
	failed := make(chan error)
	go func() { failed <- post("/stop") }()
	<-began
	if err := post("/quick"); err != nil {
		t.Fatal(err)
	}
	close(idle)
	if err := <-failed; !errors.Is(err, enough) {
		t.Errorf("under way: got %v", err)
	}
	<-ended
	<-ended
	if err := post("/quick"); !errors.Is(err, enough) {
		t.Errorf("afterwards: got %v", err)
	}
	routed(t, routeTo(t, c, s.url+"/quick", nil), "200 OK ok")
}

// Once a receiver chose HTTP/1.1 from the client's offer a route reaches it, over one connection. When it insists on HTTP/2
// the route says that the POST is for the client, which asks again.
func TestRouteAfterTheReceiverChoseIt(t *testing.T) {
	t.Parallel()
	one, two := "http/1.1", "h2"
	var protocol atomic.Pointer[string]
	protocol.Store(&one)
	receiver, pool := choosy(t, &protocol)
	dns := newNameServer(t, map[string][][]netip.Addr{"example.com.": {addrs("127.0.0.1")}})
	c := newClient(t, "127.0.0.0/8", egress.WithRootCAs(pool), egress.WithResolver(dns.resolver()))
	to := "https://example.com:" + receiver.port()
	r := routeTo(t, c, to, nil)
	for range 2 {
		protocol.Store(&one)
		if r.Takes(patient()) {
			t.Error("taken before the receiver chose")
		}
		posted(t, c, to, "200 OK HTTP/1.1 example.com")
		before := receiver.connections.Load()
		for range 3 {
			resp, body, err := byRoute(t, r, &egress.Post{})
			if err != nil || body != "HTTP/1.1 example.com" || resp.TLS == nil || resp.TLS.ServerName != "example.com" {
				t.Fatalf("got %v %q, %v", resp, body, err)
			}
		}
		if n := receiver.connections.Load() - before; n != 1 {
			t.Errorf("%d connections of the route, want 1", n)
		}
		protocol.Store(&two)
		c.CloseIdleConnections()
		if _, _, err := byRoute(t, r, &egress.Post{}); !errors.Is(err, egress.ErrOffRoute) {
			t.Errorf("got %v", err)
		}
		if r.Takes(patient()) {
			t.Error("taken again")
		}
		posted(t, c, to, "200 OK HTTP/2.0 example.com")
		c.CloseIdleConnections()
	}
}
