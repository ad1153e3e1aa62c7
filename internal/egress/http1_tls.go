package egress

import (
	"net"
	"os"
	"time"
)

// farewell is how long closing may wait for TLS to say goodbye to a receiver that does not read. Crypto/tls would give it 5 s,
// in which the closing goroutine, perhaps another receiver's delivery, does nothing else.
const farewell = 10 * time.Millisecond

// underTLS is the socket as TLS sees it.
type underTLS struct {
	net.Conn

	shut bool // for looking into what TLS has in its own buffer
}

// Read fails while it is shut, in a way that TLS does not hold to be the connection's end.
func (u *underTLS) Read(p []byte) (int, error) {
	if u.shut {
		return 0, os.ErrDeadlineExceeded
	}
	return u.Conn.Read(p)
}

// SetWriteDeadline is what TLS does before it says goodbye, and nobody else does.
func (u *underTLS) SetWriteDeadline(t time.Time) error {
	if soon := time.Now().Add(farewell); t.After(soon) {
		t = soon
	}
	return u.Conn.SetWriteDeadline(t)
}
