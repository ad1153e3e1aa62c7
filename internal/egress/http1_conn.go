package egress

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"math"
	"net"
	"net/http"
	"net/netip"
	"os"
	"sync"
	"time"
)

var (
	errHeaderTooLarge = fmt.Errorf("the response's header exceeds %d bytes", maxResponseHeader)
	errNothingWritten = errors.New("the connection was lost before the request was written")
	outgoing          = sync.Pool{New: func() any { return new(bytes.Buffer) }}
)

// http1Conn is a connection. One request has it at a time.
type http1Conn struct {
	net.Conn // the socket, or TLS over it
	pulse
	rest

	socket  net.Conn
	under   *underTLS            // nil without TLS
	state   *tls.ConnectionState // likewise
	to      destination
	remote  netip.AddrPort
	until   time.Time // no request begins on it afterwards
	idle    *idleConns
	in      *bufio.Reader
	watched <-chan struct{} // Done of the context whose end closes the connection; see watch
	unwatch func() bool
	left    int64     // bytes that may yet be read
	read    time.Time // the first byte of the response; zero before it
	written int       // bytes of the request
	kept    bool      // it was idle before
}

func newHTTP1Conn(socket net.Conn, to destination, idle *idleConns) (*http1Conn, error) {
	p, err := pulseOf(socket)
	if err != nil {
		return nil, err
	}
	c := &http1Conn{Conn: socket, socket: socket, pulse: p, to: to, remote: addressOf(socket), idle: idle}
	c.in = bufio.NewReader(c)
	return c, nil
}

// exchange writes a POST and reads the header of its response. The connection is given back, or closed, when the response's body
// has been read or is closed, and closed when ctx ends before that.
func (c *http1Conn) exchange(ctx context.Context, r *Route, p *Post) (*http.Response, error) {
	c.watch(ctx)
	_ = c.socket.SetDeadline(p.Until) // It fails where writing does.
	p.send(c.remote, c.kept)
	sendErr := c.send(r, p)
	var resp *http.Response
	err := sendErr
	// Where some of it was written a receiver may say, before it has read the rest, why it wants none.
	if sendErr == nil || c.written > 0 {
		resp, err = c.receive()
		p.answer(c.read)
	}
	if err != nil {
		_ = c.Close()
		switch {
		case ctx.Err() != nil:
			err = context.Cause(ctx)
		case sendErr != nil:
			err = sendErr
		}
		return nil, err
	}
	body := &http1Body{
		from: resp.Body, conn: c, ctx: ctx,
		// A status below 200 that is not the last is unknown, and so is the form of the bytes after it.
		reusable: sendErr == nil && !resp.Close && resp.StatusCode > 199,
	}
	if resp.Body, resp.TLS = body, c.state; resp.ContentLength == 0 {
		body.end(body.reusable)
	} else {
		c.hurry(resp.ContentLength, p)
	}
	return resp, nil
}

// hurry bounds the time for a body of so many bytes, unknown if negative, unless all of it is there already.
func (c *http1Conn) hurry(length int64, p *Post) {
	if length >= 0 && length <= int64(c.in.Buffered()) {
		return
	}
	if end := time.Now().Add(p.BodyTime); end.Before(p.Until) {
		_ = c.socket.SetReadDeadline(end)
	}
}

// watch sees to it that ctx's end closes the connection, in use or not. Routes make their POSTs with one context that lasts,
// so it is mostly watched already.
func (c *http1Conn) watch(ctx context.Context) {
	if c.watched == ctx.Done() {
		return
	}
	c.leave()
	if c.watched = ctx.Done(); c.watched != nil {
		c.unwatch = context.AfterFunc(ctx, c.abort)
	}
}

// leave ends the watching.
func (c *http1Conn) leave() {
	if c.watched != nil {
		c.watched = nil
		c.unwatch()
	}
}

// abort ends all use of the connection, at once. Close may wait a moment.
func (c *http1Conn) abort() { _ = c.socket.Close() }

// Close ends the connection. Only its holder may call it.
func (c *http1Conn) Close() error {
	c.leave()
	return c.Conn.Close()
}

// send writes a POST in one piece.
func (c *http1Conn) send(r *Route, p *Post) (err error) {
	w := outgoing.Get().(*bytes.Buffer)
	defer outgoing.Put(w)
	w.Reset()
	r.write(w, p)
	if c.written, err = c.Write(w.Bytes()); err != nil && c.written == 0 {
		return fmt.Errorf("%w: %w", errNothingWritten, err)
	}
	return err
}

// receive reads the header of the response, and those of status 1xx before it, which together are no longer than one may be.
func (c *http1Conn) receive() (*http.Response, error) {
	c.left, c.read = maxResponseHeader, time.Time{}
	for {
		resp, err := http.ReadResponse(c.in, nil)
		if err != nil {
			return nil, err
		}
		if resp.StatusCode/100 != 1 || resp.StatusCode == http.StatusSwitchingProtocols {
			c.left = math.MaxInt64
			return resp, nil
		}
	}
}

// Read bounds the header.
func (c *http1Conn) Read(p []byte) (int, error) {
	if c.left <= 0 {
		return 0, errHeaderTooLarge
	}
	n, err := c.Conn.Read(p[:min(int64(len(p)), c.left)])
	if c.left -= int64(n); n > 0 && c.read.IsZero() {
		c.read = time.Now()
	}
	return n, err
}

// spent says whether all that was taken from the socket has been read. What is there beyond a response would else be
// taken for the beginning of the next one, and pulse does not see it.
func (c *http1Conn) spent() bool {
	if c.in.Buffered() > 0 {
		return false
	}
	if c.under == nil {
		return true
	}
	var b [1]byte
	c.under.shut = true
	_, err := c.Conn.Read(b[:])
	c.under.shut = false
	return errors.Is(err, os.ErrDeadlineExceeded)
}
