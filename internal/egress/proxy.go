package egress

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"time"
)

// proxyError says that the operator's proxy, and not the receiver, failed a request.
type proxyError struct {
	status int // what it answered to CONNECT; 0 where it could not be reached
	cause  error
}

func (e *proxyError) Error() string {
	if e.status != 0 {
		return fmt.Sprintf("the egress proxy refused to connect: status %d", e.status)
	}
	return "the egress proxy could not be reached: " + e.cause.Error()
}

func (e *proxyError) Unwrap() error { return e.cause }

// describe is Error without addresses.
func (e *proxyError) describe() string {
	if e.status != 0 {
		return e.Error()
	}
	return "the egress proxy could not be reached"
}

// throughProxy sends everything through the operator's proxy, whose address is not a tenant's choice and is not judged.
// The proxy resolves the names, so that here only literal addresses and ports can be judged.
func throughProxy(t *transport, template *http.Transport) http.RoundTripper {
	proxy, err := t.cfg.proxy()
	if err == nil {
		dial := &proxyDialer{tcp: net.Dialer{Timeout: t.cfg.DialTimeout, KeepAlive: 30 * time.Second}}
		if proxy.Scheme == "https" {
			// Not by net/http, which would show the proxy secrets meant for receivers: the client's certificate, and
			// that HTTP/2 is spoken.
			dial.tls = &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: t.options.roots, ServerName: proxy.Hostname()}
			dial.handshake = t.cfg.TLSHandshakeTimeout
		}
		template.DialContext = dial.dial
		template.Proxy = http.ProxyURL(plainly(proxy))
		template.GetProxyConnectHeader = beginConnect
		template.OnProxyConnectResponse = judgeConnect
	}
	// On an error, which Validate would have shown, every request fails with it.
	return &literalGuard{policy: t.policy, next: t, err: err}
}

// plainly is the proxy's URL as net/http is to see it: with its port, and without the TLS that proxyDialer adds.
func plainly(proxy *url.URL) *url.URL {
	port := proxy.Port()
	if port == "" {
		port = "80"
		if proxy.Scheme == "https" {
			port = "443"
		}
	}
	return &url.URL{Scheme: "http", User: proxy.User, Host: net.JoinHostPort(proxy.Hostname(), port)}
}

// proxyDialer connects to the proxy.
type proxyDialer struct {
	tcp       net.Dialer
	tls       *tls.Config // nil for a proxy that is spoken to plainly
	handshake time.Duration
}

func (d *proxyDialer) dial(ctx context.Context, network, address string) (net.Conn, error) {
	progress := progressOf(ctx)
	progress.dial(false)
	progress.connect()
	conn, err := d.connect(ctx, network, address)
	if err != nil && ctx.Err() == nil {
		return nil, &proxyError{cause: err}
	}
	if err != nil {
		return nil, err
	}
	progress.open()
	return newProxyConn(conn), nil
}

func (d *proxyDialer) connect(ctx context.Context, network, address string) (net.Conn, error) {
	conn, err := d.tcp.DialContext(ctx, network, address)
	if err != nil || d.tls == nil {
		return conn, err
	}
	ctx, cancel := context.WithTimeout(ctx, d.handshake)
	defer cancel()
	secure := tls.Client(conn, d.tls)
	if err := secure.HandshakeContext(ctx); err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	return secure, nil
}

// beginConnect adds nothing to CONNECT. That the proxy is reached does not say that the receiver is.
func beginConnect(ctx context.Context, _ *url.URL, _ string) (http.Header, error) {
	progressOf(ctx).tunnel()
	return nil, nil
}

// judgeConnect looks at the proxy's answer to CONNECT before net/http does, whose error would be the answer's text.
func judgeConnect(ctx context.Context, _ *url.URL, _ *http.Request, resp *http.Response) error {
	switch {
	case resp.StatusCode/100 == 2: // RFC 9110 lets any of them open the tunnel; net/http takes 200 only.
		resp.StatusCode = http.StatusOK
		progressOf(ctx).open()
		return nil
	case resp.StatusCode == http.StatusForbidden: // That is how proxies say that an address is not allowed.
		return ErrBlocked
	}
	return &proxyError{status: resp.StatusCode}
}

// literalGuard refuses requests whose URL itself holds a forbidden address.
type literalGuard struct {
	policy Policy
	next   *transport
	err    error
}

func (g *literalGuard) RoundTrip(r *http.Request) (*http.Response, error) {
	err := g.err
	if err == nil {
		_, err = g.policy.checkHost(r.URL.Hostname(), r.URL.Port())
	}
	if err != nil {
		if r.Body != nil {
			err = errors.Join(err, r.Body.Close())
		}
		if errors.Is(err, ErrBlocked) {
			return nil, ErrBlocked
		}
		return nil, err
	}
	return g.next.RoundTrip(r)
}

// CloseIdleConnections lets http.Client close unused connections.
func (g *literalGuard) CloseIdleConnections() { g.next.CloseIdleConnections() }
