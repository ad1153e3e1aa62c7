package egress_test

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/fanfarehq/fanfare/internal/egress"
)

// proxy is an HTTP proxy on loopback that demands credentials. It knows where names lead, as its client does not.
type proxy struct {
	*httptest.Server
	names map[string]string // host:port of a URL to host:port on loopback; what is not there is 403
	opens string            // what it answers to CONNECT instead of a plain 200

	mu      sync.Mutex
	seen    []string // "METHOD host:port" of each request
	tunnels sync.WaitGroup
}

const proxyUser, proxyPassword = "fan", "s3cr3t:/@?"

func newProxy(t *testing.T, names map[string]string) *proxy {
	t.Helper()
	p := &proxy{names: names}
	p.Server = httptest.NewUnstartedServer(http.HandlerFunc(p.serve))
	p.TLS = &tls.Config{ClientAuth: tls.RequestClientCert}
	p.tunnels.Add(1) // of the server, so that no tunnel is the first while the last is waited for
	t.Cleanup(func() { p.Close(); p.tunnels.Done(); p.tunnels.Wait() })
	return p
}

// address is the proxy's URL with its credentials.
func (p *proxy) address(scheme string) string {
	return (&url.URL{Scheme: scheme, User: url.UserPassword(proxyUser, proxyPassword), Host: p.Listener.Addr().String()}).String()
}

func (p *proxy) requests() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Clone(p.seen)
}

func (p *proxy) serve(w http.ResponseWriter, r *http.Request) {
	p.mu.Lock()
	p.seen = append(p.seen, r.Method+" "+r.Host)
	p.mu.Unlock()
	want := "Basic " + base64.StdEncoding.EncodeToString([]byte(proxyUser+":"+proxyPassword))
	if r.Header.Get("Proxy-Authorization") != want || r.TLS != nil && len(r.TLS.PeerCertificates) > 0 {
		w.WriteHeader(http.StatusProxyAuthRequired)
		return
	}
	to, ok := p.names[r.Host]
	switch {
	case !ok:
		w.WriteHeader(http.StatusForbidden)
	case to == "":
		w.WriteHeader(http.StatusBadGateway)
	case r.Method == http.MethodConnect:
		p.tunnel(w, to)
	default:
		(&httputil.ReverseProxy{Rewrite: func(r *httputil.ProxyRequest) { r.Out.URL.Host = to }}).ServeHTTP(w, r)
	}
}

func (p *proxy) tunnel(w http.ResponseWriter, to string) {
	there, err := net.Dial("tcp", to)
	if err != nil {
		w.WriteHeader(http.StatusBadGateway)
		return
	}
	if p.opens == "" {
		w.WriteHeader(http.StatusOK)
	}
	here, buffered, err := http.NewResponseController(w).Hijack()
	if err != nil {
		_ = there.Close()
		return
	}
	_, _ = io.WriteString(here, p.opens)
	p.tunnels.Go(func() { _, _ = io.Copy(there, buffered); _ = there.Close() })
	p.tunnels.Go(func() { _, _ = io.Copy(here, there); _ = here.Close() })
}

// Everything goes through the proxy: http as a request to it, https in a tunnel, in which HTTP/2 is spoken if it is offered.
func TestProxy(t *testing.T) {
	t.Parallel()
	answer := func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Proxy-Authorization") != "" {
			t.Error("the receiver sees the proxy's credentials")
		}
		_, _ = io.WriteString(w, r.Proto)
	}
	plain, secure := newReceiver(t, answer), newReceiver(t, answer)
	plain.Start()
	secure.EnableHTTP2 = true
	secure.StartTLS()
	roots := x509.NewCertPool()
	roots.AddCert(secure.Certificate())
	for _, scheme := range []string{"http", "https"} {
		t.Run(scheme, func(t *testing.T) {
			t.Parallel()
			p := newProxy(t, map[string]string{
				"receiver.example": plain.Listener.Addr().String(), "example.com:443": secure.Listener.Addr().String(), "away.example:443": "",
			})
			if scheme == "https" {
				p.StartTLS()
			} else {
				p.Start()
			}
			cfg := egress.DefaultConfig()
			cfg.ProxyURL = p.address(scheme)
			if err := cfg.Validate(); err != nil {
				t.Fatal(err)
			}
			c := egress.NewClient(egress.Policy{}, cfg, egress.WithRootCAs(roots))
			t.Cleanup(c.CloseIdleConnections)
			for _, tc := range []struct{ to, body, text string }{
				{"http://receiver.example/hook", "HTTP/1.1", ""},
				{"https://example.com/hook", "HTTP/2.0", ""},
				{"https://example.com/again", "HTTP/2.0", ""},
				{"https://forbidden.example/", "", "destination is not allowed"},
				{"https://away.example/", "", "the egress proxy refused to connect: status 502"},
			} {
				_, body, err := post(t, c, tc.to)
				if body != tc.body || (err != nil) != (tc.text != "") {
					t.Errorf("%s: got %q, %v", tc.to, body, err)
				}
				if err != nil && (egress.Describe(err) != tc.text || strings.Contains(err.Error(), "s3cr3t")) {
					t.Errorf("%s: %q from %v", tc.to, egress.Describe(err), err)
				}
			}
			want := []string{"POST receiver.example", "CONNECT example.com:443", "CONNECT forbidden.example:443", "CONNECT away.example:443"}
			if got := p.requests(); !slices.Equal(got, want) {
				t.Errorf("the proxy saw %q, want %q", got, want)
			}
		})
	}
}

// Any status 2xx opens the tunnel, and informational responses before it do not end the wait for it.
func TestProxyOpensTheTunnelInOtherWords(t *testing.T) {
	t.Parallel()
	secure := newReceiver(t, func(w http.ResponseWriter, r *http.Request) { _, _ = io.WriteString(w, r.Proto) })
	secure.EnableHTTP2 = true
	secure.StartTLS()
	roots := x509.NewCertPool()
	roots.AddCert(secure.Certificate())
	const early = "HTTP/1.1 102 Processing\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n"
	for opens, text := range map[string]string{
		"HTTP/1.1 201 Created\r\n\r\n":                "",
		"HTTP/1.0 200 Connection established\r\n\r\n": "",
		early + "HTTP/1.1 200 OK\r\n\r\n":             "",
		early + "HTTP/1.1 299 Fine\r\nVia: x\r\n\r\n": "",
		early + "HTTP/1.1 403 Forbidden\r\n\r\n":      "destination is not allowed",
		early + "HTTP/1.1 503 Busy\r\n\r\n":           "the egress proxy refused to connect: status 503",
		"HTTP/1.1 300 Choices\r\n\r\n":                "the egress proxy refused to connect: status 300",
	} {
		p := newProxy(t, map[string]string{"example.com:443": secure.Listener.Addr().String()})
		p.opens = opens
		p.Start()
		cfg := egress.DefaultConfig()
		cfg.ProxyURL = p.address("http")
		c := egress.NewClient(egress.Policy{}, cfg, egress.WithRootCAs(roots))
		t.Cleanup(c.CloseIdleConnections)
		_, body, err := post(t, c, "https://example.com/hook")
		if text == "" && (err != nil || body != "HTTP/2.0") {
			t.Errorf("%q: %q, %v", opens, body, err)
		}
		if text != "" && (err == nil || egress.Describe(err) != text) {
			t.Errorf("%q: want %q, got %v", opens, text, err)
		}
	}
}

// What can be judged without resolving a name is judged before the proxy is asked.
func TestProxyIsNotAskedForWhatIsForbidden(t *testing.T) {
	t.Parallel()
	r := newReceiver(t, nil)
	r.Start()
	p := newProxy(t, map[string]string{r.Listener.Addr().String(): r.Listener.Addr().String()})
	p.Start()
	cfg := egress.DefaultConfig()
	cfg.ProxyURL = p.address("http")
	c := egress.NewClient(egress.Policy{}, cfg)
	t.Cleanup(c.CloseIdleConnections)
	// Some of these are ErrBlocked, others no host at all.
	for _, to := range []string{
		"http://127.0.0.1/", "https://127.0.0.1/", "http://169.254.169.254/", "http://[::1]/", "https://[::ffff:10.0.0.1]/", "http://2130706433/", "http://0x7f.1/",
		"http://localhost/", "https://a.localhost/", "http://receiver.example:6379/", "https://receiver.example:22/",
	} {
		if _, _, err := post(t, c, to); err == nil {
			t.Errorf("%s: no error", to)
		}
	}
	if got := p.requests(); len(got) != 0 {
		t.Errorf("the proxy saw %q", got)
	}
	open := egress.NewClient(mustPolicy(t, "127.0.0.0/8"), cfg)
	t.Cleanup(open.CloseIdleConnections)
	if _, _, err := post(t, open, r.URL); err != nil || r.requests.Load() != 1 {
		t.Errorf("what is allowed: %v, %d requests", err, r.requests.Load())
	}
}

func TestProxyThatFails(t *testing.T) {
	t.Parallel()
	gone := newProxy(t, nil)
	gone.Start()
	goneURL := gone.address("http")
	gone.Close()
	stranger := newProxy(t, nil)
	stranger.StartTLS()
	wrong := newProxy(t, nil)
	wrong.Start()
	for proxyURL, text := range map[string]string{
		goneURL:                   "the egress proxy could not be reached",
		stranger.address("https"): "the egress proxy could not be reached",
		strings.Replace(wrong.address("http"), "fan:", "fun:", 1): "the egress proxy refused to connect: status 407",
	} {
		cfg := egress.DefaultConfig()
		cfg.ProxyURL = proxyURL
		c := egress.NewClient(egress.Policy{}, cfg)
		t.Cleanup(c.CloseIdleConnections)
		_, _, err := post(t, c, "https://receiver.example/")
		if egress.ClassOf(err) != egress.Connect || egress.Describe(err) != text || strings.Contains(err.Error(), "s3cr3t") {
			t.Errorf("%s: %s %q from %v", proxyURL, egress.ClassOf(err), egress.Describe(err), err)
		}
	}
	cfg := egress.DefaultConfig()
	cfg.ProxyURL = "socks://u:s3cr3t@127.0.0.1"
	if err := cfg.Validate(); err == nil || !strings.Contains(err.Error(), "FANFARE_EGRESS_PROXY") || strings.Contains(err.Error(), "s3cr3t") {
		t.Errorf("a wrong proxy URL: %v", err)
	}
	if _, _, err := post(t, egress.NewClient(egress.Policy{}, cfg), "http://receiver.example/"); err == nil || strings.Contains(err.Error(), "s3cr3t") {
		t.Errorf("a wrong proxy URL: %v", err)
	}
}
