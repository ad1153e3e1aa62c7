package egress_test

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/fanfarehq/fanfare/internal/egress"
)

const (
	fine   = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
	forged = "HTTP/1.1 500 Forged\r\nContent-Length: 0\r\n\r\n"
)

// The response is what was said, and the connection is used again if and only if nothing but this response can have
// been on it.
func TestHTTP1Responses(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("a", 9000)
	for name, tc := range map[string]struct {
		answer, want string
		again        bool
	}{
		"length":               {fine, "200 OK ok", true},
		"longer than a buffer": {"HTTP/1.1 200 OK\r\nContent-Length: 9000\r\n\r\n" + long, "200 OK " + long, true},
		"chunks and trailers": {
			"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X\r\n\r\n2\r\nok\r\n0\r\nX: y\r\n\r\n", "200 OK ok", true,
		},
		"no body":           {"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", "200 OK ", true},
		"204":               {"HTTP/1.1 204 None\r\n\r\n", "204 None ", true},
		"304 with a length": {"HTTP/1.1 304 Old\r\nContent-Length: 9\r\n\r\n", "304 Old ", true},
		"1.0 that is kept":  {"HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 2\r\n\r\nok", "200 OK ok", true},
		"after 100 and 103": {"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Hints\r\nLink: x\r\n\r\n" + fine, "200 OK ok", true},

		"1.0":                      {"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok", "200 OK ok", false},
		"close":                    {"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok", "200 OK ok", false},
		"101":                      {"HTTP/1.1 101 Switching\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n", "101 Switching ", false},
		"status 099":               {"HTTP/1.1 099 Odd\r\nContent-Length: 0\r\n\r\n", "099 Odd ", false},
		"more than the length":     {fine + forged, "200 OK ok", false},
		"more than a long one":     {"HTTP/1.1 200 OK\r\nContent-Length: 9000\r\n\r\n" + long + forged, "200 OK " + long, false},
		"more than no body":        {"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n" + forged, "200 OK ", false},
		"204 with a body":          {"HTTP/1.1 204 None\r\nContent-Length: 2\r\n\r\nok", "204 None ", false},
		"more than the last chunk": {"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n" + forged, "200 OK ok", false},
		"length and chunks": {
			"HTTP/1.1 200 OK\r\nContent-Length: 40\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n" + forged, "200 OK ok", false,
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := script(t, nil, func(_ int, w *wire) {
				for w.request() != nil {
					w.say(tc.answer)
				}
			})
			r := routeTo(t, newClient(t, "127.0.0.0/8"), s.url, nil)
			for range 3 {
				routed(t, r, tc.want)
			}
			want := int64(3)
			if tc.again {
				want = 1
			}
			if n := s.connections.Load(); n != want {
				t.Errorf("3 requests over %d connections, want %d", n, want)
			}
		})
	}
}

// A body that ends with the connection is whole where the connection ends as it should.
func TestHTTP1BodyUntilClose(t *testing.T) {
	t.Parallel()
	s := script(t, nil, func(_ int, w *wire) {
		w.request()
		w.say("HTTP/1.1 200 OK\r\n\r\nok")
	})
	r := routeTo(t, newClient(t, "127.0.0.0/8"), s.url, nil)
	routed(t, r, "200 OK ok")
	routed(t, r, "200 OK ok")
}

// However it ends while nobody uses it, a connection carries no other request, and each request arrives once.
func TestHTTP1SpoiledWhileIdle(t *testing.T) {
	t.Parallel()
	for name, spoil := range map[string]func(w *wire){
		"half closed": func(w *wire) { _ = w.Conn.(*net.TCPConn).CloseWrite() },
		"closed":      func(w *wire) { _ = w.Close() },
		"reset":       func(w *wire) { _ = w.Conn.(*net.TCPConn).SetLinger(0); _ = w.Close() },
		"408":         func(w *wire) { w.say("HTTP/1.1 408 Slow\r\n\r\n") },
		"forged":      func(w *wire) { w.say(forged) },
		"a byte":      func(w *wire) { w.say("\n") },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			read, spoiled := make(chan struct{}), make(chan struct{})
			arrived := make(chan string, 8)
			s := script(t, nil, func(before int, w *wire) {
				for r := w.request(); r != nil; r = w.request() {
					arrived <- r.URL.Path
					w.say(fine)
					if before == 0 {
						<-read
						spoil(w)
						close(spoiled)
						w.ended()
					}
				}
			})
			c := newClient(t, "127.0.0.0/8")
			routed(t, routeTo(t, c, s.url+"/1", nil), "200 OK ok")
			close(read)
			<-spoiled
			routed(t, routeTo(t, c, s.url+"/2", nil), "200 OK ok")
			routed(t, routeTo(t, c, s.url+"/3", nil), "200 OK ok")
			for _, want := range []string{"/1", "/2", "/3"} {
				if got := <-arrived; got != want {
					t.Errorf("%s arrived, want %s", got, want)
				}
			}
			if n := s.connections.Load(); n != 2 || len(arrived) != 0 {
				t.Errorf("%d connections and %d more requests, want 2 and none", n, len(arrived))
			}
		})
	}
}

// The header is bounded, also where it comes in many responses of status 1xx.
func TestHTTP1HeaderIsBounded(t *testing.T) {
	t.Parallel()
	for _, answer := range []string{
		"HTTP/1.1 200 OK\r\nX: " + strings.Repeat("a", 70<<10) + "\r\n\r\n",
		strings.Repeat("HTTP/1.1 103 Hints\r\nX: y\r\n\r\n", 4000) + fine,
		"HTTP/1.1 200 " + strings.Repeat("a", 70<<10),
	} {
		s := script(t, nil, func(_ int, w *wire) { w.request(); w.say(answer); w.ended() })
		_, _, err := byRoute(t, routeTo(t, newClient(t, "127.0.0.0/8"), s.url, nil), &egress.Post{})
		if egress.ClassOf(err) != egress.Protocol || !strings.Contains(err.Error(), "header exceeds") {
			t.Errorf("got %v", err)
		}
	}
}

// A receiver may refuse a body without reading it.
func TestHTTP1EarlyRefusal(t *testing.T) {
	t.Parallel()
	s := script(t, nil, func(_ int, w *wire) {
		if _, err := http.ReadRequest(w.in); err == nil {
			w.say("HTTP/1.1 413 Large\r\nConnection: close\r\nContent-Length: 2\r\n\r\nno")
		}
	})
	r := routeTo(t, newClient(t, "127.0.0.0/8"), s.url, nil)
	resp, body, err := byRoute(t, r, &egress.Post{Body: make([]byte, 32<<10)})
	if err != nil || resp.StatusCode != 413 || body != "no" {
		t.Errorf("got %v %q, %v", resp, body, err)
	}
}

// What is cancelled ends with the cause, ends the connection, and spoils no other request.
func TestHTTP1Cancelled(t *testing.T) {
	t.Parallel()
	for name, begin := range map[string]string{
		"nothing": "", "half a header": "HTTP/1.1 200 OK\r\nContent-", "a header": "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n",
		"half a body": "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\no", "a body until close": "HTTP/1.1 200 OK\r\n\r\nok",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ctx, cancel := context.WithCancelCause(t.Context())
			enough, ended := errors.New("enough"), make(chan struct{})
			s := script(t, nil, func(before int, w *wire) {
				for r := w.request(); r != nil; r = w.request() {
					if before == 0 && r.URL.Path == "/stop" {
						w.say(begin)
						if !strings.Contains(begin, "\r\n\r\n") {
							cancel(enough)
						}
						w.ended()
						close(ended)
						return
					}
					w.say(fine)
				}
			})
			c := newClient(t, "127.0.0.0/8")
			quick := routeTo(t, c, s.url, nil)
			routed(t, quick, "200 OK ok")
			resp, err := routeTo(t, c, s.url+"/stop", nil).Post(ctx, patient())
			if (err == nil) != strings.Contains(begin, "\r\n\r\n") {
				t.Errorf("the header: %v", err)
			}
			if err == nil {
				cancel(enough)
				<-ended // although nobody has closed the body yet
				_, err = io.ReadAll(resp.Body)
				resp.Body.Close()
			}
			if !errors.Is(err, enough) {
				t.Errorf("got %v", err)
			}
			<-ended
			routed(t, quick, "200 OK ok")
			if n := s.connections.Load(); n != 2 {
				t.Errorf("%d connections, want 2", n)
			}
		})
	}
}

// A context that is over makes no request, and one that ends while the name is looked up says why.
func TestHTTP1CancelledBeforeThereIsAConnection(t *testing.T) {
	t.Parallel()
	enough := errors.New("enough")
	ctx, cancel := context.WithCancelCause(t.Context())
	resolver := &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
		cancel(enough)
		<-ctx.Done()
		return nil, ctx.Err()
	}}
	requests := make(chan struct{}, 8)
	s := script(t, nil, func(_ int, w *wire) {
		for w.request() != nil {
			requests <- struct{}{}
			w.say(fine)
		}
	})
	c := newClient(t, "127.0.0.0/8", egress.WithResolver(resolver))
	r := routeTo(t, c, s.url, nil)
	routed(t, r, "200 OK ok")
	for i, to := range []*egress.Route{routeTo(t, c, "http://receiver.example/", nil), r} {
		if resp, err := to.Post(ctx, patient()); !errors.Is(err, enough) {
			t.Errorf("route %d: got %v, %v", i, resp, err)
		}
	}
	routed(t, r, "200 OK ok")
	if n := s.connections.Load(); n != 1 || len(requests) != 2 {
		t.Errorf("%d connections and %d requests, want 1 and 2", n, len(requests))
	}
}

// A connection whose response cannot be read to its end is not used again.
func TestHTTP1BrokenBody(t *testing.T) {
	t.Parallel()
	s := script(t, nil, func(_ int, w *wire) {
		for w.request() != nil {
			w.say("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n")
		}
	})
	r := routeTo(t, newClient(t, "127.0.0.0/8"), s.url, nil)
	for range 2 {
		if _, _, err := byRoute(t, r, &egress.Post{}); egress.ClassOf(err) != egress.Protocol {
			t.Errorf("got %v", err)
		}
	}
	if n := s.connections.Load(); n != 2 {
		t.Errorf("%d connections, want 2", n)
	}
}

// A body that is closed before its end, even while it is read, ends the connection.
func TestHTTP1BodyIsClosedEarly(t *testing.T) {
	t.Parallel()
	ended := make(chan struct{}, 2)
	s := script(t, nil, func(_ int, w *wire) {
		w.request()
		w.say("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\na")
		w.ended()
		ended <- struct{}{}
	})
	r := routeTo(t, newClient(t, "127.0.0.0/8"), s.url, nil)
	for range 2 {
		resp, err := r.Post(t.Context(), patient())
		if err != nil {
			t.Fatal(err)
		}
		read := make(chan error)
		go func() {
			_, err := io.ReadAll(resp.Body)
			read <- err
		}()
		resp.Body.Close()
		if err := <-read; err == nil {
			t.Error("the body was read to its end")
		}
		<-ended
		if _, err := resp.Body.Read(make([]byte, 1)); err == nil || errors.Is(err, io.EOF) {
			t.Errorf("after closing: %v", err)
		}
	}
}

// Nothing in a URL, a header or a body becomes a line of its own, a header that frames the request, or another request.
func TestHTTP1SendsOneRequest(t *testing.T) {
	t.Parallel()
	const smuggled = "x HTTP/1.1\r\nX-Smuggled: y\r\n\r\n"
	for name, tc := range map[string]struct {
		spoil func(u *url.URL, fixed, own http.Header)
		sent  bool
	}{
		"nothing":           {func(*url.URL, http.Header, http.Header) {}, true},
		"a user":            {func(u *url.URL, _, _ http.Header) { u.User = url.UserPassword("a", "b\r\nX-Smuggled: y") }, true},
		"path":              {func(u *url.URL, _, _ http.Header) { u.Path = "/" + smuggled }, true},
		"raw path":          {func(u *url.URL, _, _ http.Header) { u.Path, u.RawPath = "/x", "/"+smuggled }, true},
		"query":             {func(u *url.URL, _, _ http.Header) { u.RawQuery = smuggled }, false},
		"space in query":    {func(u *url.URL, _, _ http.Header) { u.RawQuery = "a b" }, false},
		"host":              {func(u *url.URL, _, _ http.Header) { u.Host += "\r\nX-Smuggled: y" }, false},
		"fixed value":       {func(_ *url.URL, fixed, _ http.Header) { fixed["X"] = []string{smuggled} }, false},
		"value":             {func(_ *url.URL, _, own http.Header) { own["X"] = []string{smuggled} }, false},
		"fixed name":        {func(_ *url.URL, fixed, _ http.Header) { fixed["X: a\r\nX-Smuggled"] = []string{"y"} }, false},
		"name":              {func(_ *url.URL, _, own http.Header) { own["X: a\r\nX-Smuggled"] = []string{"y"} }, false},
		"content length":    {func(_ *url.URL, _, own http.Header) { own["content-length"] = []string{"1"} }, false},
		"transfer encoding": {func(_ *url.URL, fixed, _ http.Header) { fixed["Transfer-Encoding"] = []string{"chunked"} }, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got := make(chan *http.Request, 4)
			s := script(t, nil, func(_ int, w *wire) {
				for r := w.request(); r != nil; r = w.request() {
					got <- r
					w.say(fine)
				}
				close(got)
			})
			u, err := url.Parse(s.url)
			if err != nil {
				t.Fatal(err)
			}
			fixed, own := make(http.Header), make(http.Header)
			tc.spoil(u, fixed, own)
			c := newClient(t, "127.0.0.0/8")
			r := egress.NewRoute(c.Transport, "", u, fixed)
			p := patient()
			p.Header = own
			if taken := r.Takes(p); taken != tc.sent {
				t.Fatalf("taken: %v", taken)
			}
			if !tc.sent {
				return
			}
			if _, _, err := byRoute(t, r, p); err != nil {
				t.Fatal(err)
			}
			c.CloseIdleConnections()
			first := <-got
			if first.Host != s.url[len("http://"):] || first.ContentLength != 2 || first.TransferEncoding != nil ||
				first.Header.Get("X-Smuggled") != "" || first.UserAgent() == "" {
				t.Errorf("got %+v", first)
			}
			if next := <-got; next != nil {
				t.Errorf("got one more: %+v", next)
			}
		})
	}
}

func TestHTTP1IPv6Literal(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "[::1]:0")
	if err != nil {
		t.Logf("no IPv6 here: %v", err)
		return
	}
	r := newReceiver(t, func(w http.ResponseWriter, req *http.Request) { _, _ = io.WriteString(w, req.Host) })
	_ = r.Listener.Close()
	r.Listener = l
	r.Start()
	to := "http://" + l.Addr().String()
	routed(t, routeTo(t, newClient(t, "::1/128"), to, nil), "200 OK "+l.Addr().String())
	if _, _, err := byRoute(t, routeTo(t, newClient(t, ""), to, nil), &egress.Post{}); !errors.Is(err, egress.ErrBlocked) {
		t.Errorf("got %v", err)
	}
}
