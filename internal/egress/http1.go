package egress

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"time"
)

// http1 makes POSTs by HTTP/1.1 in the goroutine of whoever asks for them: it writes the request in one piece and waits for the
// response. The transport of net/http hands each request to two goroutines of its connection, and that is half of what a small
// POST costs. Reading and judging the response is left to http.ReadResponse. What is out of the ordinary is
// left to the transport of net/http altogether; see takes.
type http1 struct {
	dial      func(ctx context.Context, network, address string) (net.Conn, error)
	tls       *tls.Config
	handshake time.Duration
	idle      *idleConns
	chosen    *chosen // which receivers speak HTTP/1.1 over TLS; nil if they are not offered anything else
	age       time.Duration
	otherwise *transport
}

func newHTTP1(t *http.Transport, otherwise *transport, cfg Config) *http1 {
	secure := t.TLSClientConfig.Clone()
	secure.NextProtos = []string{"http/1.1"}
	h := &http1{
		dial: t.DialContext, tls: secure, handshake: cfg.TLSHandshakeTimeout, age: cfg.MaxConnAge, otherwise: otherwise,
		idle: newIdleConns(cfg.MaxIdleConns, cfg.MaxIdleConnsPerHost, cfg.IdleConnTimeout),
	}
	if cfg.HTTP2 {
		h.chosen = newChosen()
	}
	return h
}

// post is a POST as http1 makes it.
type post struct {
	ctx   context.Context
	to    recipient
	write func(w *bytes.Buffer) error // all of it; called again if nothing of it was sent
	terms *Post                       // of one by a Route, whose time is that of its connection instead of a context's; else nil
}

// post makes a POST. It makes it again only if nothing of it was written to a connection that had been kept.
func (h *http1) post(p *post) (*http.Response, error) {
	for {
		c, err := h.connection(p)
		if err != nil {
			return nil, err
		}
		resp, err := c.exchange(p)
		if err == nil {
			return resp, nil
		}
		if c.to.secure && h.chosen != nil && ClassOf(err) == Protocol {
			h.chosen.forget(p.to.host) // it may speak HTTP/2 by now, whatever it chose in the handshake
		}
		if !c.kept || !errors.Is(err, errNothingWritten) || !p.terms.mayRepeat() {
			return nil, err
		}
	}
}

// connection returns one that was kept and still lives, or else a new one.
func (h *http1) connection(p *post) (*http1Conn, error) {
	if p.ctx.Err() != nil {
		return nil, context.Cause(p.ctx)
	}
	for {
		c := h.idle.take(p.to.destination)
		if c == nil {
			return h.newConnection(p)
		}
		if c.alive() && time.Now().Before(c.until) {
			c.kept = true
			return c, nil
		}
		_ = c.Close()
	}
}

func (h *http1) newConnection(p *post) (*http1Conn, error) {
	ctx := p.ctx
	if p.terms != nil {
		var cancel context.CancelFunc
		ctx, cancel = context.WithDeadline(WithProgress(ctx, &p.terms.Progress), p.terms.Until)
		defer cancel()
	}
	c, err := h.connect(ctx, p.to)
	if err != nil && ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	return c, err
}

// errChooseAgain says that a receiver which had chosen HTTP/1.1 does not agree to a connection for nothing else any
// more. Nothing was sent.
var errChooseAgain = errors.New("the receiver may have to choose its protocol again")

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
	if err := h.secure(ctx, c, to.name); err != nil {
		_ = conn.Close()
		if h.chosen != nil && !isTimeout(err) {
			h.chosen.forget(to.host)
			return nil, errChooseAgain
		}
		return nil, err
	}
	return c, nil
}

// secure lays TLS over a plain connection. It leaves errors as they are, since http.Client looks for the one of a receiver
// that answers in plain HTTP.
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
