package egress

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net"
	"net/http"
	"syscall"
	"time"
)

// Option changes how NewClient reaches the world. Tests use them; production needs none.
type Option func(*options)

type options struct {
	resolver *net.Resolver
	roots    *x509.CertPool
}

// WithResolver resolves names by r instead of the system's resolver.
func WithResolver(r *net.Resolver) Option { return func(o *options) { o.resolver = r } }

// WithRootCAs trusts pool instead of the system's certificates.
func WithRootCAs(pool *x509.CertPool) Option { return func(o *options) { o.roots = pool } }

// maxResponseHeader bounds the header of a response, in bytes. The default of net/http is 10 MiB.
const maxResponseHeader = 64 << 10

// NewClient makes the one kind of client that may send requests to URLs which others chose. It sets no
// deadline of its own for the exchange: give the request a context that has one.
func NewClient(p Policy, cfg Config, opts ...Option) *http.Client {
	var o options
	for _, opt := range opts {
		opt(&o)
	}
	cfg = cfg.withDefaults()
	transport := newTransport(p, cfg, o)
	client := &http.Client{
		Transport:     transport,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	if cfg.ProxyURL != "" {
		client.Transport = throughProxy(p, cfg, transport)
	}
	if err := ReplaceHTTP2(client); err != nil {
		// It cannot fail on a fresh transport. Should it ever, HTTP/1.1 has none of the faults.
		transport.ForceAttemptHTTP2 = false
	}
	return client
}

func newTransport(p Policy, cfg Config, o options) *http.Transport {
	dialer := &net.Dialer{
		Timeout:   cfg.DialTimeout,
		KeepAlive: 30 * time.Second,
		Resolver:  o.resolver,
		ControlContext: func(ctx context.Context, network, address string, conn syscall.RawConn) error {
			reached(ctx, stageConnecting)
			return p.Control(ctx, network, address, conn)
		},
	}
	return &http.Transport{
		// No Proxy: the environment must not lead requests around the guard.
		DialContext: func(ctx context.Context, network, address string) (net.Conn, error) {
			reached(ctx, stageResolving)
			conn, err := dialer.DialContext(ctx, network, address)
			switch {
			case err == nil:
				reached(ctx, stageConnected)
			case errors.Is(err, ErrBlocked):
				// The dialer's error names the address that the name resolved to.
				return nil, ErrBlocked
			}
			return conn, err
		},
		TLSClientConfig: &tls.Config{
			MinVersion:         tls.VersionTLS12,
			RootCAs:            o.roots,
			ClientSessionCache: tls.NewLRUClientSessionCache(4096),
		},
		TLSHandshakeTimeout:    cfg.TLSHandshakeTimeout,
		DisableCompression:     true,
		MaxIdleConns:           cfg.MaxIdleConns,
		MaxIdleConnsPerHost:    cfg.MaxIdleConnsPerHost,
		IdleConnTimeout:        cfg.IdleConnTimeout,
		MaxResponseHeaderBytes: maxResponseHeader,
		ForceAttemptHTTP2:      cfg.HTTP2,
		// A silent HTTP/2 connection would swallow request after request until TCP gives up.
		HTTP2: &http.HTTP2Config{SendPingTimeout: 15 * time.Second, PingTimeout: 10 * time.Second},
	}
}

// throughProxy sends everything through the operator's proxy, whose address is not a tenant's choice and is not judged.
// The proxy resolves the names, so that here only literal addresses and ports can be judged.
func throughProxy(p Policy, cfg Config, transport *http.Transport) http.RoundTripper {
	proxy, err := cfg.proxy()
	dialer := &net.Dialer{Timeout: cfg.DialTimeout, KeepAlive: 30 * time.Second}
	transport.DialContext = dialer.DialContext
	// On an error, which Validate would have shown, every request fails with it.
	transport.Proxy = http.ProxyURL(proxy)
	return &literalGuard{policy: p, next: transport, err: err}
}

// literalGuard refuses requests whose URL itself holds a forbidden address.
type literalGuard struct {
	policy Policy
	next   *http.Transport
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

// CloseIdleConnections lets http.Client close what is unused.
func (g *literalGuard) CloseIdleConnections() { g.next.CloseIdleConnections() }
