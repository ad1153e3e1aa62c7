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
	until   time.Time // no request begins on it afterwards
	idle    *idleConns
	in      *bufio.Reader
	watched <-chan struct{} // Done of the context whose end closes the connection; see watch
	unwatch func() bool
	left    int64 // bytes that may yet be read
	written int   // bytes of the request
	kept    bool  // it was idle before
	limited bool  // it has a deadline
}

func newHTTP1Conn(socket net.Conn, to destination, idle *idleConns) (*http1Conn, error) {
	p, err := pulseOf(socket)
	if err != nil {
		return nil, err
	}
	c := &http1Conn{Conn: socket, socket: socket, pulse: p, to: to, idle: idle}
	c.in = bufio.NewReader(c)
	return c, nil
}

// exchange writes a request and reads the header of its response. The connection is given back, or closed, when the
// response's body has been read or is closed, and closed when the request's context ends before that.
func (c *http1Conn) exchange(p *post) (*http.Response, error) {
	c.watch(p.ctx)
	c.limit(p.terms)
	sendErr := c.send(p)
	var resp *http.Response
	err := sendErr
	// Where some of it was written a receiver may say, before it has read the rest, why it wants none.
	if sendErr == nil || c.written > 0 {
		resp, err = c.receive()
	}
	if err != nil {
		_ = c.Close()
		switch {
		case p.ctx.Err() != nil:
			err = context.Cause(p.ctx)
		case sendErr != nil:
			err = sendErr
		}
		return nil, err
	}
	body := &http1Body{
		from: resp.Body, conn: c, ctx: p.ctx, lasting: p.terms != nil,
		// A status below 200 that is not the last is none that is known: so is what follows it.
		reusable: sendErr == nil && !resp.Close && resp.StatusCode > 199,
	}
	if resp.Body, resp.TLS = body, c.state; resp.ContentLength == 0 {
		body.end(body.reusable)
	} else if p.terms != nil {
		c.hurry(resp.ContentLength, p.terms)
	}
	return resp, nil
}

// limit bounds the time of a request by its terms, or not at all if it has none. Setting a deadline fails where writing does.
func (c *http1Conn) limit(terms *Post) {
	if terms != nil {
		c.limited = true
		_ = c.socket.SetDeadline(terms.Until)
	} else if c.limited {
		c.limited = false
		_ = c.socket.SetDeadline(time.Time{})
	}
}

// hurry bounds the time for a body of so many bytes, unknown if negative, unless all of it is there already.
func (c *http1Conn) hurry(length int64, terms *Post) {
	if length >= 0 && length <= int64(c.in.Buffered()) {
		return
	}
	if end := time.Now().Add(terms.BodyTime); end.Before(terms.Until) {
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

// leave ends the watching. It returns false if the connection is being closed.
func (c *http1Conn) leave() bool {
	if c.watched == nil {
		return true
	}
	c.watched = nil
	return c.unwatch()
}

// abort ends all use of the connection, at once. Close may wait a moment.
func (c *http1Conn) abort() { _ = c.socket.Close() }

// Close ends the connection. Only its holder may call it.
func (c *http1Conn) Close() error {
	c.leave()
	return c.Conn.Close()
}

// send writes a request in one piece, or nothing of one that is not whole.
func (c *http1Conn) send(p *post) error {
	w := outgoing.Get().(*bytes.Buffer)
	defer outgoing.Put(w)
	w.Reset()
	c.written = 0
	err := p.write(w)
	if err != nil {
		return err
	}
	if c.written, err = c.Write(w.Bytes()); err != nil && c.written == 0 {
		return fmt.Errorf("%w: %w", errNothingWritten, err)
	}
	return err
}

// receive reads the header of the response, and those of status 1xx before it, which together are no longer than one may be.
func (c *http1Conn) receive() (*http.Response, error) {
	c.left = maxResponseHeader
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
	c.left -= int64(n)
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
