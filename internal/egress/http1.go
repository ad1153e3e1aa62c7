package egress

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"time"
)

// http1 makes the POSTs of Routes by HTTP/1.1 in the goroutine of the caller: it writes the request in one piece and waits for
// the response. The transport of net/http hands each request to two goroutines of its connection, which is half the cost of a
// small POST. Reading and judging the response is left to http.ReadResponse.
type http1 struct {
	dial      func(ctx context.Context, network, address string) (net.Conn, error)
	tls       *tls.Config
	handshake time.Duration
	idle      *idleConns
	chosen    *chosen // which receivers speak HTTP/1.1 over TLS; nil if they are not offered anything else
	age       time.Duration
}

func newHTTP1(t *http.Transport, cfg Config) *http1 {
	secure := t.TLSClientConfig.Clone()
	secure.NextProtos = []string{"http/1.1"}
	h := &http1{
		dial: t.DialContext, tls: secure, handshake: cfg.TLSHandshakeTimeout, age: cfg.MaxConnAge,
		idle: newIdleConns(cfg.MaxIdleConns, cfg.MaxIdleConnsPerHost, cfg.IdleConnTimeout),
	}
	if cfg.HTTP2 {
		h.chosen = newChosen()
	}
	return h
}

// reaches says whether a receiver speaks HTTP/1.1: over TLS, once it was seen to choose it.
func (h *http1) reaches(to recipient) bool {
	return !to.secure || h.chosen == nil || h.chosen.has(to.host)
}

// doubt forgets that a receiver chose HTTP/1.1: it may speak HTTP/2 by now, whatever it chose in the handshake.
func (h *http1) doubt(to recipient) {
	if h.chosen != nil {
		h.chosen.forget(to.host)
	}
}

// connection returns one that was kept and still lives, or else a new one.
func (h *http1) connection(ctx context.Context, to recipient, p *Post) (*http1Conn, error) {
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	for {
		c := h.idle.take(to.destination)
		if c == nil {
			return h.newConnection(ctx, to, p)
		}
		if c.alive() && time.Now().Before(c.until) {
			c.kept = true
			return c, nil
		}
		_ = c.Close()
	}
}

func (h *http1) newConnection(ctx context.Context, to recipient, p *Post) (*http1Conn, error) {
	p.seek()
	ctx, cancel := context.WithDeadline(WithProgress(ctx, &p.Progress), p.Until)
	defer cancel()
	c, err := h.connect(ctx, to)
	if err != nil && ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	return c, err
}

func (h *http1) connect(ctx context.Context, to recipient) (*http1Conn, error) {
	conn, err := h.dial(ctx, "tcp", to.address)
	if err != nil {
		return nil, err
	}
	c, err := newHTTP1Conn(conn, to.destination, h.idle)
	if err != nil {
		_ = conn.Close()
		return nil, err
	}
	c.until = time.Now().Add(jittered(h.age))
	if !to.secure {
		return c, nil
	}
	progress := progressOf(ctx)
	progress.secure()
	err = h.secure(ctx, c, to.name)
	progress.safe()
	if err != nil {
		_ = conn.Close()
		if h.chosen != nil && !isTimeout(err) {
			h.doubt(to)
			return nil, ErrOffRoute
		}
		return nil, err
	}
	return c, nil
}

// secure lays TLS over a plain connection. It leaves errors as they are: callers look for the one of a receiver that answers in
// plain HTTP.
func (h *http1) secure(ctx context.Context, c *http1Conn, host string) error {
	ctx, cancel := context.WithTimeout(ctx, h.handshake)
	defer cancel()
	cfg := h.tls.Clone()
	cfg.ServerName = host
	c.under = &underTLS{Conn: c.socket}
	secure := tls.Client(c.under, cfg)
	if err := secure.HandshakeContext(ctx); err != nil {
		if ctx.Err() != nil {
			return fmt.Errorf("TLS handshake: %w", ctx.Err())
		}
		return err
	}
	state := secure.ConnectionState()
	c.Conn, c.state = secure, &state
	return nil
}

// destination is what connections are kept by.
type destination struct {
	tenant  string // a connection serves one tenant: see WithTenant
	address string // host:port
	secure  bool
}

// recipient is who a POST is for.
type recipient struct {
	destination
	host string // as in the URL
	name string // without the port
}

func recipientOf(tenant string, u *url.URL) recipient {
	to := recipient{host: u.Host, name: u.Hostname(), destination: destination{tenant: tenant, address: u.Host, secure: u.Scheme == "https"}}
	if u.Port() == "" {
		port := "80"
		if to.secure {
			port = "443"
		}
		to.address = net.JoinHostPort(to.name, port)
	}
	return to
}
