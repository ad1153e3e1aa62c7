package egress

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"net"
	"net/http"
	"strings"
	"time"

	"golang.org/x/net/http/httpguts"
)

// maxInline is the longest body that http1 sends, in bytes: what the buffers of two sockets hold, so that writing it
// does not wait for a receiver that answers without reading.
const maxInline = 32 << 10

// http1 makes POSTs by HTTP/1.1 in the goroutine of whoever asks for them: it writes the request in one piece and waits for the
// response. The transport of net/http hands each request to two goroutines of its connection, and that is half of what a small
// POST costs. Reading and judging the response is left to http.ReadResponse. What is out of the ordinary is
// left to the transport of net/http altogether; see takes.
type http1 struct {
	dial      func(ctx context.Context, network, address string) (net.Conn, error)
	tls       *tls.Config
	handshake time.Duration
	idle      *idleConns
	chosen    *chosen // which receivers speak HTTP/1.1 over TLS
}

func newHTTP1(t *http.Transport, cfg Config) *http1 {
	secure := t.TLSClientConfig.Clone()
	secure.NextProtos = []string{"http/1.1"}
	h := &http1{
		dial: t.DialContext, tls: secure, handshake: cfg.TLSHandshakeTimeout,
		idle: newIdleConns(cfg.MaxIdleConns, cfg.MaxIdleConnsPerHost, cfg.IdleConnTimeout),
	}
	if cfg.HTTP2 {
		h.chosen = newChosen()
	}
	return h
}

// takes says whether a request is one for http1. Over TLS it is, once the receiver was seen to choose HTTP/1.1.
func (h *http1) takes(r *http.Request) bool {
	return r.Method == http.MethodPost && r.Body != nil && r.ContentLength > 0 && r.ContentLength <= maxInline &&
		!r.Close && r.TransferEncoding == nil && r.Trailer == nil && r.URL.Opaque == "" &&
		// Names that are not ASCII yet, and zones, need more care.
		httpguts.ValidHostHeader(r.Host) && !strings.Contains(r.Host, "%") &&
		(r.URL.Scheme == "http" || r.URL.Scheme == "https" && (h.chosen == nil || h.chosen.has(r.URL.Host)))
}

// RoundTrip makes a request that takes agreed to. It makes it again, with the body of GetBody, only if nothing of it was written
// to a connection that had been kept.
func (h *http1) RoundTrip(r *http.Request) (*http.Response, error) {
	for {
		c, err := h.connection(r)
		if err != nil {
			_ = r.Body.Close()
			return nil, err
		}
		resp, err := c.exchange(r)
		if !c.kept || r.GetBody == nil || !errors.Is(err, errNothingWritten) {
			return resp, err
		}
		again := *r
		if again.Body, err = r.GetBody(); err != nil {
			return nil, err
		}
		r = &again
	}
}

// connection returns one that was kept and still lives, or else a new one.
func (h *http1) connection(r *http.Request) (*http1Conn, error) {
	to := destinationOf(r)
	for {
		c := h.idle.take(to)
		if c == nil {
			return h.connect(r, to)
		}
		if c.alive() {
			c.kept = true
			return c, nil
		}
		_ = c.Close()
	}
}

func (h *http1) connect(r *http.Request, to destination) (*http1Conn, error) {
	conn, err := h.dial(r.Context(), "tcp", to.address)
	if err != nil {
		return nil, err
	}
	c := &http1Conn{Conn: conn, to: to, idle: h.idle}
	if err := c.watch(conn); err != nil {
		_ = conn.Close()
		return nil, err
	}
	if to.secure {
		if c.Conn, err = h.secure(r.Context(), conn, r.URL.Hostname()); err != nil {
			if h.chosen != nil {
				h.chosen.forget(r.URL.Host) // it may speak something else by now
			}
			_ = conn.Close()
			return nil, err
		}
	}
	c.in = bufio.NewReader(c)
	return c, nil
}

// secure makes a TLS connection of a plain one.
func (h *http1) secure(ctx context.Context, conn net.Conn, host string) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, h.handshake)
	defer cancel()
	cfg := h.tls.Clone()
	cfg.ServerName = host
	secure := tls.Client(conn, cfg)
	if err := secure.HandshakeContext(ctx); err != nil {
		if record, ok := errors.AsType[tls.RecordHeaderError](err); ok && string(record.RecordHeader[:]) == "HTTP/" {
			return nil, http.ErrSchemeMismatch
		}
		return nil, err
	}
	return secure, nil
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
