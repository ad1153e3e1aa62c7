package servertest_test

import (
	"errors"
	"net"
	"testing"
	"time"

	"github.com/fanfarehq/fanfare/internal/servertest"
)

// A server may listen on a reserved address again and again; in between, nobody answers there and nobody else gets it.
func TestAReservedAddressIsOneServers(t *testing.T) {
	t.Parallel()
	address := servertest.FreeAddress(t)
	// A process that another test starts has this one's sockets as well, until it runs its own program.
	soon := func(what string, so func() error) {
		t.Helper()
		for deadline := time.Now().Add(time.Minute); ; time.Sleep(time.Millisecond) {
			err := so()
			if err == nil {
				return
			}
			if time.Now().After(deadline) {
				t.Fatalf("%s: %v", what, err)
			}
		}
	}
	for range 3 {
		var listener net.Listener
		soon("listen", func() (err error) {
			listener, err = net.Listen("tcp", address)
			return err
		})
		conn, err := net.Dial("tcp", address)
		if err != nil {
			t.Fatal(err)
		}
		conn.Close()
		listener.Close()
		soon("be refused", func() error {
			conn, err := net.Dial("tcp", address)
			if err != nil {
				return nil
			}
			conn.Close()
			return errors.New("somebody answers")
		})
		if other := servertest.FreeAddress(t); other == address {
			t.Error("the address was given away twice")
		}
	}
}
