package egress

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// brittle is a connection that breaks when it is written to for the second time.
type brittle struct {
	*net.TCPConn
	writes int
	taken  int // bytes that are written nevertheless; from the end if negative
}

func (b *brittle) Write(p []byte) (int, error) {
	if b.writes++; b.writes == 2 {
		if b.taken < 0 {
			p = p[:len(p)+b.taken]
		} else {
			p = p[:b.taken]
		}
		n, _ := b.TCPConn.Write(p)
		_ = b.CloseWrite()
		return n, syscall.EPIPE
	}
	return b.TCPConn.Write(p)
}

// A request is made again if and only if nothing of it was written to a connection that had been kept.
func TestHTTP1MakesARequestAgain(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		taken, kept, again, dials int
		answered                  bool
	}{
		"nothing written":      {taken: 0, kept: 1, again: 1, dials: 2, answered: true},
		"a byte written":       {taken: 1, kept: 1, again: 0, dials: 1, answered: false},
		"all but a byte":       {taken: -1, kept: 1, again: 0, dials: 1, answered: true},
		"nothing written, new": {taken: 0, kept: 0, again: 0, dials: 1, answered: false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var arrived atomic.Int64
			server := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
				_, _ = io.Copy(io.Discard, r.Body)
				arrived.Add(1)
			}))
			t.Cleanup(server.Close)
			h := newHTTP1(newTransport(Policy{}, DefaultConfig(), options{}), nil, DefaultConfig())
			t.Cleanup(h.idle.closeAll)
			dials := 0
			h.dial = func(ctx context.Context, network, address string) (net.Conn, error) {
				dials++
				conn, err := new(net.Dialer).DialContext(ctx, network, address)
				if err != nil {
					return nil, err
				}
				return &brittle{TCPConn: conn.(*net.TCPConn), taken: tc.taken, writes: 1 - tc.kept}, nil
			}
			again := 0
			send := func() error {
				req := httptest.NewRequestWithContext(t.Context(), http.MethodPost, server.URL, strings.NewReader("{}"))
				req.GetBody = func() (io.ReadCloser, error) {
					again++
					return io.NopCloser(strings.NewReader("{}")), nil
				}
				resp, err := h.RoundTrip(req)
				if err == nil {
					if resp.Request != req {
						t.Error("the response is another request's")
					}
					err = resp.Body.Close()
				}
				return err
			}
			for range tc.kept {
				if err := send(); err != nil {
					t.Fatal(err)
				}
			}
			err := send()
			if (err == nil) != tc.answered || err != nil && ClassOf(err) != Reset {
				t.Errorf("got %v", err)
			}
			if kept := h.idle.count; kept != tc.again {
				t.Errorf("%d connections are kept", kept)
			}
			want := tc.kept
			if tc.answered {
				want++
			}
			if again != tc.again || dials != tc.dials || int(arrived.Load()) != want {
				t.Errorf("made again %d times over %d connections, %d arrived", again, dials, arrived.Load())
			}
		})
	}
}

// A POST by a route is made again as often as its sender agrees to.
func TestRouteMakesAPostAgain(t *testing.T) {
	t.Parallel()
	for resends := range 2 {
		server := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { _, _ = io.Copy(io.Discard, r.Body) }))
		t.Cleanup(server.Close)
		client := newClient(Policy{}, DefaultConfig(), options{})
		h := client.Transport.(*transport).http1
		t.Cleanup(h.idle.closeAll)
		h.dial = func(ctx context.Context, network, address string) (net.Conn, error) {
			conn, err := new(net.Dialer).DialContext(ctx, network, address)
			if err != nil {
				return nil, err
			}
			return &brittle{TCPConn: conn.(*net.TCPConn)}, nil
		}
		to, err := url.Parse(server.URL)
		if err != nil {
			t.Fatal(err)
		}
		r := NewRoute(client.Transport, "", to, nil)
		for n, want := range []struct {
			resent int
			class  Class
		}{{0, ""}, {resends, []Class{Reset, ""}[resends]}} {
			p := Post{Body: []byte("{}"), Until: time.Now().Add(time.Minute), Resends: resends}
			resp, err := r.Post(t.Context(), &p)
			if err == nil {
				_ = resp.Body.Close()
			}
			if p.Resent != want.resent || (err == nil) != (want.class == "") || err != nil && ClassOf(err) != want.class {
				t.Errorf("%d resends, POST %d: made again %d times, %v", resends, n, p.Resent, err)
			}
		}
	}
}

// What is out of the ordinary is net/http's.
func TestHTTP1Takes(t *testing.T) {
	t.Parallel()
	h := newHTTP1(newTransport(Policy{}, DefaultConfig(), options{}), nil, DefaultConfig())
	h.chosen.remember("chose.example")
	for name, tc := range map[string]struct {
		change func(r *http.Request)
		taken  bool
	}{
		"an ordinary one":   {func(*http.Request) {}, true},
		"IPv6 and a port":   {func(r *http.Request) { r.URL.Host, r.Host = "[::1]:80", "[::1]:80" }, true},
		"no header":         {func(r *http.Request) { r.Header = nil }, true},
		"the largest":       {func(r *http.Request) { r.ContentLength = maxInline }, true},
		"chose HTTP/1.1":    {func(r *http.Request) { r.URL.Scheme, r.URL.Host = "https", "chose.example" }, true},
		"not chosen yet":    {func(r *http.Request) { r.URL.Scheme = "https" }, false},
		"larger":            {func(r *http.Request) { r.ContentLength = maxInline + 1 }, false},
		"unknown length":    {func(r *http.Request) { r.ContentLength = -1 }, false},
		"no body":           {func(r *http.Request) { r.ContentLength = 0 }, false},
		"a body for once":   {func(r *http.Request) { r.GetBody = nil }, false},
		"GET":               {func(r *http.Request) { r.Method = http.MethodGet }, false},
		"close":             {func(r *http.Request) { r.Close = true }, false},
		"chunked":           {func(r *http.Request) { r.TransferEncoding = []string{"chunked"} }, false},
		"trailer":           {func(r *http.Request) { r.Trailer = http.Header{"X": nil} }, false},
		"opaque":            {func(r *http.Request) { r.URL.Opaque = "//x" }, false},
		"another scheme":    {func(r *http.Request) { r.URL.Scheme = "ftp" }, false},
		"nowhere":           {func(r *http.Request) { r.URL.Host = "" }, false},
		"a port of nowhere": {func(r *http.Request) { r.URL.Host = ":80" }, false},
		"zone":              {func(r *http.Request) { r.URL.Host = "[fe80::1%25eth0]" }, false},
		"not ASCII":         {func(r *http.Request) { r.URL.Host = "müller.example" }, false},
		"odd Host":          {func(r *http.Request) { r.Host = "a\r\nb: c" }, false},
		"odd name":          {func(r *http.Request) { r.Header["a b"] = nil }, false},
		"odd value":         {func(r *http.Request) { r.Header["A"] = []string{"b\nc"} }, false},
		"framing":           {func(r *http.Request) { r.Header["content-length"] = []string{"1"} }, false},
		"another protocol":  {func(r *http.Request) { r.Header["Upgrade"] = []string{"h2c"} }, false},
	} {
		r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://receiver.example/", strings.NewReader("{}"))
		if err != nil {
			t.Fatal(err)
		}
		tc.change(r)
		if got := h.takes(r); got != tc.taken {
			t.Errorf("%s: got %v", name, got)
		}
	}
	cfg := DefaultConfig()
	cfg.ProxyURL = "http://proxy.example:3128"
	for name, c := range map[string]*http.Client{
		"proxy":       newClient(Policy{}, cfg, options{}),
		"certificate": newClient(Policy{}, DefaultConfig(), options{certificate: new(tls.Certificate)}),
	} {
		if got, ok := transportOf(c); !ok || got.http1 != nil {
			t.Errorf("%s: got %v", name, got)
		}
	}
	if got, ok := transportOf(NewClient(Policy{}, DefaultConfig())); !ok || got.http1 == nil {
		t.Error("an ordinary client has none")
	}
}

// Who looks after idle connections closes those that the other side closed, and leaves the others alone.
func TestIdleConnsLook(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	i := newIdleConns(4, 4, DefaultConfig().IdleConnTimeout)
	t.Cleanup(i.closeAll)
	var theirs []net.Conn
	var ours []*http1Conn
	for range 3 {
		conn, err := net.Dial("tcp", l.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		other, err := l.Accept()
		if err != nil {
			t.Fatal(err)
		}
		defer other.Close()
		c, err := newHTTP1Conn(conn, destination{address: "a"}, i)
		if err != nil {
			t.Fatal(err)
		}
		theirs, ours = append(theirs, other), append(ours, c)
		i.put(c)
	}
	if err := theirs[1].Close(); err != nil {
		t.Fatal(err)
	}
	since := ours[2].since
	if got := i.take(destination{address: "a"}); got != ours[2] {
		t.Fatal("the one that was used last is not the first to be used again")
	}
	if err := theirs[2].Close(); err != nil {
		t.Fatal(err)
	}
	i.look()
	i.drop(ours[2], since) // as it was seen before it was taken
	if _, err := ours[1].Conn.Write([]byte("a")); !errors.Is(err, net.ErrClosed) {
		t.Errorf("what the other side closed is open: %v", err)
	}
	if err := ours[2].Close(); err != nil {
		t.Errorf("what was in use is closed: %v", err)
	}
	if got := i.take(destination{address: "a"}); got != ours[0] || !got.alive() {
		t.Error("what was alive is gone")
	} else if err := got.Close(); err != nil {
		t.Error(err)
	}
	if got := i.take(destination{address: "a"}); got != nil {
		t.Error("there is one more")
	}
}
