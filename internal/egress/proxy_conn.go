package egress

import (
	"bufio"
	"errors"
	"fmt"
	"net"
	"regexp"
)

// proxyConn is a connection to the proxy that leaves out the informational responses (1xx) before the first final one.
// Net/http would take the first of them for the answer to CONNECT.
type proxyConn struct {
	net.Conn
	in    *bufio.Reader
	begun bool
}

var informational = regexp.MustCompile(`^HTTP/1\.[0-9] 1[0-9][02-9][ \r\n]`) // not 101, which is final

var errProxyHeader = fmt.Errorf("informational responses exceed %d bytes", maxResponseHeader)

func newProxyConn(conn net.Conn) *proxyConn {
	return &proxyConn{Conn: conn, in: bufio.NewReader(conn)}
}

// Read has one caller at a time, as every connection of net/http has.
func (c *proxyConn) Read(p []byte) (int, error) {
	if !c.begun {
		if err := c.skip(); err != nil {
			return 0, err
		}
		c.begun = true
	}
	if c.in.Buffered() > 0 {
		return c.in.Read(p)
	}
	return c.Conn.Read(p)
}

// skip reads on to the first response that is not informational.
func (c *proxyConn) skip() error {
	const shortest = len("HTTP/1.1 100 ")
	for left := maxResponseHeader; ; {
		// A response that ends before that many bytes is nothing to skip; its end shows when it is read.
		if start, err := c.in.Peek(shortest); err != nil || !informational.Match(start) {
			return nil
		}
		for last := false; !last; {
			line, err := c.in.ReadSlice('\n')
			if left -= len(line); left < 0 || errors.Is(err, bufio.ErrBufferFull) {
				return errProxyHeader
			}
			if err != nil {
				return err
			}
			last = len(line) <= len("\r\n")
		}
	}
}
