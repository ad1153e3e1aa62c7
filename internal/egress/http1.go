package egress

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
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
	otherwise http.RoundTripper
}

func newHTTP1(t *http.Transport, cfg Config) *http1 {
	secure := t.TLSClientConfig.Clone()
	secure.NextProtos = []string{"http/1.1"}
	h := &http1{
		dial: t.DialContext, tls: secure, handshake: cfg.TLSHandshakeTimeout, otherwise: t,
		idle: newIdleConns(cfg.MaxIdleConns, cfg.MaxIdleConnsPerHost, cfg.IdleConnTimeout),
	}
	if cfg.HTTP2 {
		h.chosen = newChosen()
	}
	return h
}

// RoundTrip makes a request that takes agreed to. It makes it again, with the body of GetBody, only if nothing of it was written
// to a connection that had been kept.
func (h *http1) RoundTrip(r *http.Request) (*http.Response, error) {
	target := r.URL.RequestURI()
	if !onOneLine(target) {
		_ = r.Body.Close()
		return nil, errTarget
	}
	for again := r; ; {
		c, err := h.connection(again)
		if errors.Is(err, errChooseAgain) {
			return h.otherwise.RoundTrip(again)
		}
		if err != nil {
			_ = again.Body.Close()
			return nil, err
		}
		resp, err := c.exchange(again, target)
		if err == nil {
			resp.Request = r
			return resp, nil
		}
		if c.to.secure && h.chosen != nil && ClassOf(err) == Protocol {
			h.chosen.forget(r.URL.Host) // it may speak HTTP/2 by now, whatever it chose in the handshake
		}
		if !c.kept || !errors.Is(err, errNothingWritten) {
			return nil, err
		}
		next := *r
		if next.Body, err = r.GetBody(); err != nil {
			return nil, err
		}
		again = &next
	}
}

// connection returns one that was kept and still lives, or else a new one.
func (h *http1) connection(r *http.Request) (*http1Conn, error) {
	ctx := r.Context()
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	to := destinationOf(r)
	for {
		c := h.idle.take(to)
		if c == nil {
			break
		}
		if c.alive() {
			c.kept = true
			return c, nil
		}
		_ = c.Close()
	}
	c, err := h.connect(r, to)
	if err != nil && ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	return c, err
}

// errChooseAgain says that a receiver which had chosen HTTP/1.1 does not agree to a connection for nothing else any
// more. Nothing was sent.
var errChooseAgain = errors.New("the receiver may have to choose its protocol again")

func (h *http1) connect(r *http.Request, to destination) (*http1Conn, error) {
	conn, err := h.dial(r.Context(), "tcp", to.address)
	if err != nil {
		return nil, err
	}
	c, err := newHTTP1Conn(conn, to, h.idle)
	if err != nil {
		_ = conn.Close()
		return nil, err
	}
	if !to.secure {
		return c, nil
	}
	if err := h.secure(r.Context(), c, r.URL.Hostname()); err != nil {
		_ = conn.Close()
		if h.chosen != nil && !isTimeout(err) {
			h.chosen.forget(r.URL.Host)
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
	address string // host:port
	secure  bool
}

func destinationOf(r *http.Request) destination {
	to := destination{address: r.URL.Host, secure: r.URL.Scheme == "https"}
	if r.URL.Port() == "" {
		port := "80"
		if to.secure {
			port = "443"
		}
		to.address = net.JoinHostPort(r.URL.Hostname(), port)
	}
	return to
}
