package egress_test

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/fanfarehq/fanfare/internal/egress"
)

// receiver is an HTTP server on loopback that counts what reaches it.
type receiver struct {
	*httptest.Server
	connections, requests atomic.Int64
}

func newReceiver(t testing.TB, handler http.HandlerFunc) *receiver {
	t.Helper()
	r := &receiver{}
	r.Server = httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		r.requests.Add(1)
		if handler != nil {
			handler(w, req)
		}
	}))
	r.Config.ConnState = func(_ net.Conn, state http.ConnState) {
		if state == http.StateNew {
			r.connections.Add(1)
		}
	}
	t.Cleanup(r.Close)
	return r
}

func (r *receiver) port() string {
	_, port, _ := net.SplitHostPort(r.Listener.Addr().String())
	return port
}

func newClient(t testing.TB, cidrs string, opts ...egress.Option) *http.Client {
	t.Helper()
	p, err := egress.ParsePolicy(cidrs)
	if err != nil {
		t.Fatal(err)
	}
	c := egress.NewClient(p, egress.DefaultConfig(), opts...)
	t.Cleanup(c.CloseIdleConnections)
	return c
}

func post(t testing.TB, c *http.Client, to string) (*http.Response, string, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, to, strings.NewReader("{}"))
	if err != nil {
		t.Fatal(err)
	}
	resp, err := c.Do(req)
	if err != nil {
		return nil, "", err
	}
	defer func() { _ = resp.Body.Close() }()
	body, err := io.ReadAll(resp.Body)
	return resp, string(body), err
}

func addrs(list ...string) []netip.Addr {
	var out []netip.Addr
	for _, s := range list {
		out = append(out, netip.MustParseAddr(s))
	}
	return out
}

func TestRebindingIsBlockedAtDial(t *testing.T) {
	t.Parallel()
	r := newReceiver(t, nil)
	r.Start()
	dns := newNameServer(t, map[string][][]netip.Addr{
		"private.example.":  {addrs("127.0.0.1")},
		"metadata.example.": {addrs("169.254.169.254")},
		// The first answer is allowed, the next one is not.
		"rebind.example.": {addrs("127.0.0.1"), addrs("127.0.0.2")},
	})
	strict := newClient(t, "", egress.WithResolver(dns.resolver()))
	for _, host := range []string{"private.example", "metadata.example"} {
		raw := "http://" + host + ":" + r.port() + "/hook"
		if _, err := (egress.Policy{}).CheckURL(raw); err != nil {
			t.Errorf("%s is refused on save: %v", raw, err)
		}
		if _, _, err := post(t, strict, raw); !errors.Is(err, egress.ErrBlocked) {
			t.Errorf("%s: want ErrBlocked, got %v", raw, err)
		}
	}
	if n := r.connections.Load(); n != 0 {
		t.Errorf("%d connections reached the receiver", n)
	}

	one := newClient(t, "127.0.0.1/32", egress.WithResolver(dns.resolver()))
	raw := "http://rebind.example:" + r.port()
	if _, _, err := post(t, one, raw); err != nil {
		t.Fatalf("first answer: %v", err)
	}
	one.CloseIdleConnections()
	if _, _, err := post(t, one, raw); !errors.Is(err, egress.ErrBlocked) {
		t.Errorf("second answer: want ErrBlocked, got %v", err)
	}
	if n := r.connections.Load(); n != 1 {
		t.Errorf("want 1 connection, got %d", n)
	}
}

func TestForbiddenAmongSeveralAddressesIsSkipped(t *testing.T) {
	t.Parallel()
	r := newReceiver(t, nil)
	r.Start()
	dns := newNameServer(t, map[string][][]netip.Addr{"mixed.example.": {addrs("127.0.0.2", "127.0.0.1")}})
	c := newClient(t, "127.0.0.1/32", egress.WithResolver(dns.resolver()))
	if _, _, err := post(t, c, "http://mixed.example:"+r.port()); err != nil {
		t.Error(err)
	}
}

func TestLiteralsAreBlockedAtDial(t *testing.T) {
	t.Parallel()
	r := newReceiver(t, nil)
	r.Start()
	c := newClient(t, "")
	for _, host := range []string{
		"127.0.0.1", "localhost", "[::1]", "[::]", "[::ffff:127.0.0.1]", "0.0.0.0", "[::ffff:7f00:1]", "[64:ff9b::7f00:1]",
		"2130706433", "0x7f.1", "127.1",
	} {
		_, _, err := post(t, c, "http://"+host+":"+r.port())
		if err == nil {
			t.Errorf("%s: no error", host)
		}
	}
	if n := r.connections.Load(); n != 0 {
		t.Errorf("%d connections reached the receiver", n)
	}
}

func TestBlockedTellsNothingOfThePort(t *testing.T) {
	t.Parallel()
	open := newReceiver(t, nil)
	open.Start()
	closed := newReceiver(t, nil)
	closed.Start()
	closedPort := closed.port()
	closed.Close()
	c := newClient(t, "")
	texts := map[string]bool{}
	for _, to := range []string{"127.0.0.1:" + open.port(), "127.0.0.1:" + closedPort, "10.255.255.1:80", "127.0.0.1:22"} {
		_, _, err := post(t, c, "http://"+to+"/secret")
		inner, ok := errors.AsType[*url.Error](err)
		if !ok || inner.Err != egress.ErrBlocked {
			t.Fatalf("%s: want ErrBlocked and nothing else, got %v", to, err)
		}
		texts[egress.Describe(err)+string(egress.ClassOf(err))] = true
	}
	if len(texts) != 1 {
		t.Errorf("the errors differ: %v", texts)
	}
}

func TestRedirectIsNotFollowed(t *testing.T) {
	t.Parallel()
	target := newReceiver(t, nil)
	target.Start()
	r := newReceiver(t, func(w http.ResponseWriter, req *http.Request) {
		http.Redirect(w, req, target.URL, http.StatusTemporaryRedirect)
	})
	r.Start()
	resp, _, err := post(t, newClient(t, "127.0.0.0/8"), r.URL)
	if err != nil || resp.StatusCode != http.StatusTemporaryRedirect {
		t.Errorf("got %v, %v", resp, err)
	}
	if n := target.connections.Load(); n != 0 {
		t.Errorf("%d connections reached the redirect's target", n)
	}
}

func TestEnvironmentProxyIsIgnored(t *testing.T) {
	proxy := newReceiver(t, nil)
	proxy.Start()
	for _, name := range []string{"HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"} {
		t.Setenv(name, proxy.URL)
	}
	t.Setenv("NO_PROXY", "")
	r := newReceiver(t, nil)
	r.Start()
	dns := newNameServer(t, map[string][][]netip.Addr{"receiver.example.": {addrs("127.0.0.1")}})
	c := newClient(t, "127.0.0.0/8", egress.WithResolver(dns.resolver()))
	if _, _, err := post(t, c, "http://receiver.example:"+r.port()); err != nil {
		t.Fatal(err)
	}
	if proxy.connections.Load() != 0 || r.requests.Load() != 1 {
		t.Errorf("proxy %d connections, receiver %d requests", proxy.connections.Load(), r.requests.Load())
	}
}

func TestResponseIsBoundedAndNotInflated(t *testing.T) {
	t.Parallel()
	var zipped bytes.Buffer
	zip := gzip.NewWriter(&zipped)
	_, _ = zip.Write(bytes.Repeat([]byte("a"), 1<<20))
	_ = zip.Close()
	r := newReceiver(t, func(w http.ResponseWriter, req *http.Request) {
		if req.URL.Path == "/header" {
			w.Header().Set("X-Large", strings.Repeat("a", 65<<10))
			return
		}
		if got := req.Header.Get("Accept-Encoding"); got != "" {
			t.Errorf("Accept-Encoding: %s", got)
		}
		w.Header().Set("Content-Encoding", "gzip")
		_, _ = w.Write(zipped.Bytes())
	})
	r.Start()
	c := newClient(t, "127.0.0.0/8")
	if _, _, err := post(t, c, r.URL+"/header"); egress.ClassOf(err) != egress.Protocol {
		t.Errorf("large header: %v", err)
	}
	if _, body, err := post(t, c, r.URL); err != nil || body != zipped.String() {
		t.Errorf("zipped body: %d bytes of %d, %v", len(body), zipped.Len(), err)
	}
}

func TestHTTP2WhereTLSOffersIt(t *testing.T) {
	t.Parallel()
	r := newReceiver(t, func(w http.ResponseWriter, req *http.Request) {
		if req.URL.Path == "/header" {
			w.Header().Set("X-Large", strings.Repeat("a", 65<<10))
		}
	})
	r.EnableHTTP2 = true
	r.StartTLS()
	pool := x509.NewCertPool()
	pool.AddCert(r.Certificate())
	for want, on := range map[string]bool{"HTTP/2.0": true, "HTTP/1.1": false} {
		cfg := egress.DefaultConfig()
		cfg.HTTP2 = on
		c := egress.NewClient(mustPolicy(t, "127.0.0.0/8"), cfg, egress.WithRootCAs(pool))
		t.Cleanup(c.CloseIdleConnections)
		resp, _, err := post(t, c, r.URL)
		if err != nil || resp.Proto != want {
			t.Errorf("want %s, got %v, %v", want, resp, err)
		}
		if _, _, err := post(t, c, r.URL+"/header"); egress.ClassOf(err) != egress.Protocol {
			t.Errorf("%s, large header: %v", want, err)
		}
	}
}

// rawServer answers each connection's first request with the given bytes and closes it.
func rawServer(t *testing.T, answer string) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			if req, err := http.ReadRequest(bufio.NewReader(conn)); err == nil {
				_, _ = io.Copy(io.Discard, req.Body)
			}
			_, _ = io.WriteString(conn, answer)
			_ = conn.Close()
		}
	}()
	t.Cleanup(func() { _ = l.Close(); <-done })
	return "http://" + l.Addr().String()
}

func TestErrorClasses(t *testing.T) {
	t.Parallel()
	dns := newNameServer(t, nil)
	c := newClient(t, "127.0.0.0/8", egress.WithResolver(dns.resolver()))
	plain := newReceiver(t, func(w http.ResponseWriter, req *http.Request) { <-req.Context().Done() })
	plain.Start()
	secure := newReceiver(t, nil)
	secure.StartTLS()
	gone := newReceiver(t, nil)
	gone.Start()
	goneURL := gone.URL
	gone.Close()
	for _, tc := range []struct {
		url, text string
		class     egress.Class
	}{
		{"http://10.0.0.1/", "destination is not allowed", egress.Blocked},
		{"http://nowhere.example/", "the host does not exist, or its address is not allowed", egress.DNS},
		{goneURL, "connection refused", egress.Connect},
		{secure.URL, "TLS: the certificate is signed by an unknown authority", egress.TLS},
		{strings.Replace(plain.URL, "http:", "https:", 1), "TLS: the server answers in plain HTTP", egress.TLS},
		{rawServer(t, ""), "the connection was closed before the response was complete", egress.Reset},
		{rawServer(t, "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc"), "the connection was closed before the response was complete", egress.Reset},
		{rawServer(t, "SSH-2.0-OpenSSH_9.6\r\n\r\n"), "the response is not valid HTTP", egress.Protocol},
		{rawServer(t, "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab"), "the response is not valid HTTP", egress.Protocol},
		{rawServer(t, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n"), "the response is not valid HTTP", egress.Protocol},
	} {
		_, _, err := post(t, c, tc.url)
		if err == nil || egress.ClassOf(err) != tc.class || egress.Describe(err) != tc.text {
			t.Errorf("%s: want %s %q, got %v: %s %q", tc.url, tc.class, tc.text, err, egress.ClassOf(err), egress.Describe(err))
		}
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, plain.URL, nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.Do(req); egress.ClassOf(err) != egress.Timeout {
		t.Errorf("want timeout, got %v", err)
	}
}

func TestRedactURL(t *testing.T) {
	t.Parallel()
	_, _, err := post(t, newClient(t, ""), "http://127.0.0.1/services/T0/B0/secret?token=secret")
	got := egress.RedactURL(fmt.Errorf("attempt 3: %w", err))
	if !errors.Is(got, egress.ErrBlocked) || strings.Contains(got.Error(), "secret") || !strings.Contains(got.Error(), "http://127.0.0.1/") {
		t.Errorf("got %v", got)
	}
	if plain := errors.New("x"); egress.RedactURL(plain) != plain {
		t.Error("another error is changed")
	}
}

// However many requests are made at once, no more unused connections stay than the configuration says: over all
// receivers, and to each.
func TestUnusedConnectionsAreBounded(t *testing.T) {
	t.Parallel()
	for name, send := range map[string]func(*testing.T, *http.Client, string) error{
		"by the client": func(t *testing.T, c *http.Client, to string) error {
			_, _, err := post(t, c, to)
			return err
		},
		"by a route": func(t *testing.T, c *http.Client, to string) error {
			_, _, err := byRoute(t, routeTo(t, c, to, nil), &egress.Post{})
			return err
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			unusedConnectionsAreBounded(t, send)
		})
	}
}

func unusedConnectionsAreBounded(t *testing.T, send func(*testing.T, *http.Client, string) error) {
	const most, each, together = 6, 4, 12
	var waiting sync.WaitGroup
	var mu sync.Mutex
	states, changed := make(map[net.Conn]http.ConnState), make(chan struct{}, 1)
	var urls []string
	for range 3 {
		r := httptest.NewUnstartedServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
			waiting.Done()
			waiting.Wait() // so that none is made over the connection of another
		}))
		r.Config.ConnState = func(c net.Conn, s http.ConnState) {
			mu.Lock()
			defer mu.Unlock()
			states[c] = s
			select {
			case changed <- struct{}{}:
			default:
			}
		}
		r.Start()
		t.Cleanup(r.Close)
		urls = append(urls, r.URL)
	}
	cfg := egress.DefaultConfig()
	cfg.MaxIdleConns, cfg.MaxIdleConnsPerHost = most, each
	c := egress.NewClient(mustPolicy(t, "127.0.0.0/8"), cfg)
	t.Cleanup(c.CloseIdleConnections)
	open := func() (n int) {
		mu.Lock()
		defer mu.Unlock()
		for _, s := range states {
			if s != http.StateClosed {
				n++
			}
		}
		return n
	}
	for i, want := range []int{each, most, most} {
		waiting.Add(together)
		var requests sync.WaitGroup
		for range together {
			requests.Go(func() {
				if err := send(t, c, urls[i]); err != nil {
					t.Error(err)
				}
			})
		}
		requests.Wait()
		for deadline := time.After(time.Minute); open() > want; {
			select {
			case <-changed:
			case <-deadline:
				t.Fatalf("%d connections are open after %d receivers, want %d at most", open(), i+1, want)
			}
		}
		if open() < each {
			t.Errorf("%d connections are open, want some to be used again", open())
		}
	}
}
