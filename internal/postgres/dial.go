package postgres

import (
	"context"
	"net"
	"sync"
	"time"
)

// dialer opens connections that notice a server which went away without a word. It is used for one connection
// and for the cancel requests of that one.
type dialer struct {
	// answer bounds each read and write; 0 means no bound.
	answer    time.Duration
	keepAlive net.KeepAliveConfig

	mu   sync.Mutex
	last *boundedConn
}

func (d *dialer) Dial(network, address string) (net.Conn, error) {
	return d.DialContext(context.Background(), network, address)
}

func (d *dialer) DialTimeout(network, address string, timeout time.Duration) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	defer cancel()
	return d.DialContext(ctx, network, address)
}

func (d *dialer) DialContext(ctx context.Context, network, address string) (net.Conn, error) {
	to := net.Dialer{
		Timeout:         connectTimeout,
		KeepAliveConfig: d.keepAlive,
	}
	conn, err := to.DialContext(ctx, network, address)
	if err != nil {
		return nil, err
	}
	bounded := &boundedConn{Conn: conn, answer: d.answer}
	d.mu.Lock()
	d.last = bounded
	d.mu.Unlock()
	return bounded, nil
}

// abort ends a handshake that is under way.
func (d *dialer) abort() {
	if conn := d.conn(); conn != nil {
		conn.setLimit(time.Now())
	}
}

// conn is the connection that was dialled last.
func (d *dialer) conn() *boundedConn {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.last
}

// boundedConn bounds each read and write by a time, and by a limit that may come while it waits.
type boundedConn struct {
	net.Conn
	answer time.Duration // 0: no bound

	mu    sync.Mutex
	own   bool      // the driver has set a deadline of its own, for the handshake
	limit time.Time // zero: none
}

// SetDeadline is for the driver.
func (c *boundedConn) SetDeadline(t time.Time) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.own = !t.IsZero()
	return c.Conn.SetDeadline(t)
}

// setLimit ends reads and writes at that time, also later ones; a zero time lifts it.
func (c *boundedConn) setLimit(t time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.limit = t
	_ = c.Conn.SetDeadline(t) // it fails on a closed connection only
}

func (c *boundedConn) Read(p []byte) (int, error) {
	if err := c.bound(c.Conn.SetReadDeadline); err != nil {
		return 0, err
	}
	return c.Conn.Read(p)
}

func (c *boundedConn) Write(p []byte) (int, error) {
	if err := c.bound(c.Conn.SetWriteDeadline); err != nil {
		return 0, err
	}
	return c.Conn.Write(p)
}

// bound sets the deadline of one read or write.
func (c *boundedConn) bound(set func(time.Time) error) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.own || c.answer == 0 || !c.limit.IsZero() {
		return nil // the deadline holds
	}
	return set(time.Now().Add(c.answer))
}
