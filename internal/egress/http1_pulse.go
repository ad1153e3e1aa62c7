package egress

import (
	"fmt"
	"net"
	"syscall"
)

// pulse tells whether a connection that nobody uses is still good for a request: nothing reads from it that would notice.
type pulse struct {
	raw   syscall.RawConn
	quiet bool
	look  func(fd uintptr) bool // made once: it is needed for each request
}

// watch prepares for looking at the connection below TLS.
func (p *pulse) watch(conn net.Conn) error {
	c, ok := conn.(syscall.Conn)
	if !ok {
		return fmt.Errorf("a connection of type %T is not a socket", conn)
	}
	raw, err := c.SyscallConn()
	if err != nil {
		return err
	}
	p.raw = raw
	p.look = func(fd uintptr) bool {
		p.quiet = silent(fd)
		return true // not to be called again
	}
	return nil
}

// alive says whether the other side has neither closed the connection nor sent anything unasked.
func (p *pulse) alive() bool {
	return p.raw.Read(p.look) == nil && p.quiet
}
