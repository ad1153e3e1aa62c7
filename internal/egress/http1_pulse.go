package egress

import (
	"fmt"
	"net"
	"syscall"
)

// pulse tells whether a connection that nobody uses is still good for a request: nothing reads from it that would notice.
type pulse struct{ raw syscall.RawConn }

// pulseOf looks at the connection below TLS.
func pulseOf(conn net.Conn) (pulse, error) {
	c, ok := conn.(syscall.Conn)
	if !ok {
		return pulse{}, fmt.Errorf("a connection of type %T is not a socket", conn)
	}
	raw, err := c.SyscallConn()
	return pulse{raw: raw}, err
}

// alive says whether the other side has neither closed the connection nor sent anything unasked. It waits for nobody, not
// even for one who reads.
func (p pulse) alive() bool {
	quiet := false
	err := p.raw.Control(func(fd uintptr) { quiet = silent(fd) })
	return err == nil && quiet
}
