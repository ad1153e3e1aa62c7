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
	resolver    *net.Resolver
	roots       *x509.CertPool
	certificate *tls.Certificate // what Identify presents
}

// WithResolver resolves names by r instead of the system's resolver.
func WithResolver(r *net.Resolver) Option { return func(o *options) { o.resolver = r } }

// WithRootCAs trusts pool instead of the system's certificates.
func WithRootCAs(pool *x509.CertPool) Option { return func(o *options) { o.roots = pool } }

// maxResponseHeader bounds the header of a response, in bytes. The default of net/http is 10 MiB.
const maxResponseHeader = 64 << 10

// transport is what a client sends through, and what another of its kind is made of; see Identify.
type transport struct {
	pools   *pools
	http1   *http1 // of Routes; nil with a proxy, with a certificate, which has few receivers, and where there is no seesPulse
	policy  Policy
	cfg     Config
	options options
}

// NewClient makes the one kind of client that may send requests to URLs which others chose. It sets no
// deadline of its own for the exchange: give the request a context that has one.
func NewClient(p Policy, cfg Config, opts ...Option) *http.Client {
	var o options
	for _, opt := range opts {
		opt(&o)
	}
	return newClient(p, cfg.withDefaults(), o)
}

func newClient(p Policy, cfg Config, o options) *http.Client {
	t := &transport{policy: p, cfg: cfg, options: o}
	client := &http.Client{
		Transport:     t,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	template := newTransport(p, cfg, o)
	if cfg.ProxyURL != "" {
		client.Transport = throughProxy(t, template)
	} else if o.certificate == nil && seesPulse {
		t.http1 = newHTTP1(template, cfg)
	}
	t.pools = newPools(template, cfg)
	return client
}

// RoundTrip sends a request by net/http. It notes which receivers with TLS chose HTTP/1.1, so that a Route may reach them.
func (t *transport) RoundTrip(r *http.Request) (*http.Response, error) {
	if ctx := traced(r.Context(), t.cfg.ProxyURL != ""); ctx != r.Context() {
		r = r.WithContext(ctx)
	}
	resp, err := t.pools.of(tenantOf(r.Context())).RoundTrip(r)
	if t.http1 != nil && err == nil && resp.TLS != nil && resp.ProtoMajor == 1 && t.http1.chosen != nil {
		t.http1.chosen.remember(r.URL.Host)
	}
	return resp, err
}

// CloseIdleConnections lets http.Client close unused connections.
func (t *transport) CloseIdleConnections() {
	if t.http1 != nil {
		t.http1.idle.closeAll()
	}
	t.pools.closeIdle()
}

// transportOf is the transport of a client that NewClient made.
func transportOf(client *http.Client) (*transport, bool) {
	if guard, ok := client.Transport.(*literalGuard); ok {
		return guard.next, true
	}
	t, ok := client.Transport.(*transport)
	return t, ok
}

func newTransport(p Policy, cfg Config, o options) *http.Transport {
	dialer := &net.Dialer{
		Timeout:   cfg.DialTimeout,
		KeepAlive: 30 * time.Second,
		Resolver:  o.resolver,
		ControlContext: func(ctx context.Context, network, address string, conn syscall.RawConn) error {
			progressOf(ctx).connect()
			return p.Control(ctx, network, address, conn)
		},
	}
	return &http.Transport{
		// No Proxy: the environment must not lead requests around the guard.
		DialContext: func(ctx context.Context, network, address string) (net.Conn, error) {
			progress := progressOf(ctx)
			progress.dial(!isLiteral(address))
			conn, err := dialer.DialContext(ctx, network, address)
			blocked := errors.Is(err, ErrBlocked)
			progress.done(conn, blocked)
			if blocked {
				// The dialer's error names the address that the name resolved to.
				return nil, blockedAt(address)
			}
			return conn, err
		},
		TLSClientConfig:        clientTLS(o),
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

// keptSessions is how many receivers a client remembers a TLS session of.
const keptSessions = 4096

func clientTLS(o options) *tls.Config {
	c := &tls.Config{
		MinVersion:         tls.VersionTLS12,
		RootCAs:            o.roots,
		ClientSessionCache: tls.NewLRUClientSessionCache(keptSessions),
	}
	if o.certificate != nil {
		c.ClientSessionCache = tls.NewLRUClientSessionCache(keptSessionsEach)
		// Certificates would keep it back where the receiver's list of authorities does not name its issuer, which
		// such lists often do not.
		c.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return o.certificate, nil }
	}
	return c
}
