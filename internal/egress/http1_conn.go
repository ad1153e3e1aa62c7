package egress

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"net"
	"net/http"
	"strconv"
	"sync"
	"time"
)

var (
	errHeaderTooLarge   = fmt.Errorf("the response's header exceeds %d bytes", maxResponseHeader)
	errTooInformational = errors.New("too many responses of status 1xx")
	errNothingWritten   = errors.New("the connection was lost before the request was written")
	longAgo             = time.Unix(1, 0)
	writers             = sync.Pool{New: func() any { return bufio.NewWriter(nil) }}
)

// http1Conn is a connection. One request has it at a time.
type http1Conn struct {
	net.Conn
	pulse

	to      destination
	idle    *idleConns
	in      *bufio.Reader
	left    int64 // bytes that may yet be read
	written int64 // of the request
	kept    bool  // it was idle before
}

// exchange writes a request and reads the header of its response. The connection is given back, or closed, when the
// response's body has been read or is closed.
func (c *http1Conn) exchange(r *http.Request) (*http.Response, error) {
	ctx := r.Context()
	stop := context.AfterFunc(ctx, func() { _ = c.SetDeadline(longAgo) })
	sendErr := c.send(r)
	var resp *http.Response
	err := sendErr
	// Where some of it was written a receiver may say, before it has read the rest, why it wants none.
	if sendErr == nil || c.written > 0 {
		resp, err = c.receive(r)
	}
	if err != nil {
		stop()
		_ = c.Close()
		return nil, c.reason(ctx, sendErr, err)
	}
	body := &http1Body{
		from: resp.Body, conn: c, ctx: ctx, stop: stop,
		reusable: sendErr == nil && !resp.Close && resp.StatusCode != http.StatusSwitchingProtocols,
	}
	if resp.Body = body; resp.ContentLength == 0 {
		body.end(body.reusable)
	}
	return resp, nil
}

// reason says why there is no response.
func (c *http1Conn) reason(ctx context.Context, sendErr, err error) error {
	switch {
	case ctx.Err() != nil:
		return context.Cause(ctx)
	case sendErr != nil && c.written == 0:
		return fmt.Errorf("%w: %w", errNothingWritten, sendErr)
	case sendErr != nil:
		return sendErr
	}
	return err
}

func (c *http1Conn) send(r *http.Request) error {
	c.written = 0
	w := writers.Get().(*bufio.Writer)
	w.Reset(c)
	defer func() {
		w.Reset(nil)
		writers.Put(w)
	}()
	_, _ = w.WriteString("POST " + r.URL.RequestURI() + " HTTP/1.1\r\nHost: " + r.Host + "\r\n")
	_, _ = w.WriteString("Content-Length: " + strconv.FormatInt(r.ContentLength, 10) + "\r\n")
	_ = r.Header.Write(w)
	_, _ = w.WriteString("\r\n")
	n, err := io.Copy(w, r.Body)
	if err == nil && n != r.ContentLength {
		err = fmt.Errorf("the body has %d bytes instead of %d", n, r.ContentLength)
	}
	// The writer keeps the first error of the connection.
	return errors.Join(err, r.Body.Close(), w.Flush())
}

// receive reads the header of the response, and those of status 1xx before it, which together are no longer than one may be.
func (c *http1Conn) receive(r *http.Request) (*http.Response, error) {
	c.left = maxResponseHeader
	for {
		resp, err := http.ReadResponse(c.in, r)
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

// Write counts.
func (c *http1Conn) Write(p []byte) (int, error) {
	n, err := c.Conn.Write(p)
	c.written += int64(n)
	return n, err
}

// http1Body is the body of a response. It gives the connection back when it ends.
type http1Body struct {
	from     io.Reader
	conn     *http1Conn // nil once it ended
	ctx      context.Context
	stop     func() bool // whether the request's context has not ended
	reusable bool
}

// Read reads on, until the body or the request's context ends.
func (b *http1Body) Read(p []byte) (int, error) {
	if b.conn == nil {
		return 0, io.EOF
	}
	n, err := b.from.Read(p)
	switch {
	case errors.Is(err, io.EOF):
		b.end(b.reusable)
	case err != nil && b.ctx.Err() != nil:
		err = context.Cause(b.ctx)
	}
	return n, err
}

// Close closes the connection too, unless the body was read to its end.
func (b *http1Body) Close() error {
	if b.conn != nil {
		b.end(false)
	}
	return nil
}

func (b *http1Body) end(reusable bool) {
	c := b.conn
	b.conn = nil
	if b.stop() && reusable && c.in.Buffered() == 0 {
		c.idle.put(c)
		return
	}
	_ = c.Close()
}
