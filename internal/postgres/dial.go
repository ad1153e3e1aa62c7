package postgres

import (
	"context"
	"net"
	"time"
)

// dialer opens connections that notice a server which went away without a word.
type dialer struct {
	// answer bounds each read and write; 0 means no bound.
	answer time.Duration
}

func (d dialer) Dial(network, address string) (net.Conn, error) {
	return d.DialContext(context.Background(), network, address)
}

func (d dialer) DialTimeout(network, address string, timeout time.Duration) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	defer cancel()
	return d.DialContext(ctx, network, address)
}

func (d dialer) DialContext(ctx context.Context, network, address string) (net.Conn, error) {
	to := net.Dialer{
		Timeout: connectTimeout,
		// An idle connection whose peer is gone is found out within 25 s.
		KeepAliveConfig: net.KeepAliveConfig{Enable: true, Idle: 10 * time.Second, Interval: 5 * time.Second, Count: 3},
	}
	conn, err := to.DialContext(ctx, network, address)
	if err != nil || d.answer == 0 {
		return conn, err
	}
	return &boundedConn{Conn: conn, answer: d.answer}, nil
}

// boundedConn bounds each read and write. The driver itself waits for the server's answer for ever, even when
// the caller's context has ended: it asks the server to cancel and then waits for that.
type boundedConn struct {
	net.Conn
	answer time.Duration
	set    bool // the driver has set a deadline of its own, for the handshake
}

func (c *boundedConn) SetDeadline(t time.Time) error {
	c.set = !t.IsZero()
	return c.Conn.SetDeadline(t)
}

func (c *boundedConn) Read(p []byte) (int, error) {
	if !c.set {
		if err := c.Conn.SetReadDeadline(time.Now().Add(c.answer)); err != nil {
			return 0, err
		}
	}
	return c.Conn.Read(p)
}

func (c *boundedConn) Write(p []byte) (int, error) {
	if !c.set {
		if err := c.Conn.SetWriteDeadline(time.Now().Add(c.answer)); err != nil {
			return 0, err
		}
	}
	return c.Conn.Write(p)
}
