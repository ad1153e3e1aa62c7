package ledger_test

import (
	"bytes"
	"net"
	"sync/atomic"
	"testing"

	"github.com/nats-io/nats.go"
	natsjs "github.com/nats-io/nats.go/jetstream"

	"github.com/fanfarehq/fanfare/deliver/ledger"
	"github.com/fanfarehq/fanfare/internal/jetstream"
	"github.com/fanfarehq/fanfare/internal/servertest"
)

// swallowing connects to NATS, and loses the first question about a subject that is set.
type swallowing struct{ about atomic.Pointer[string] }

func (s *swallowing) Dial(network, address string) (net.Conn, error) {
	c, err := net.Dial(network, address)
	return swallowingConn{c, s}, err
}

type swallowingConn struct {
	net.Conn
	from *swallowing
}

func (c swallowingConn) Write(p []byte) (int, error) {
	if about := c.from.about.Load(); about != nil && bytes.Contains(p, []byte(*about)) && c.from.about.CompareAndSwap(about, nil) {
		return len(p), nil
	}
	return c.Conn.Write(p)
}

// A question that is lost with its connection to the broker is asked again, and does not hold up those who wait for the ledger.
func TestALostLookIsRepeated(t *testing.T) {
	t.Parallel()
	server := servertest.NATS(t, servertest.Listen)
	lossy := new(swallowing)
	nc, err := nats.Connect(server.AdminURL(), nats.SetCustomDialer(lossy))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)
	js, err := natsjs.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	if err := jetstream.Apply(t.Context(), js, ledger.Inbox(1<<20)); err != nil {
		t.Fatal(err)
	}
	for _, about := range []string{"STREAM.INFO." + ledger.Stream, "CONSUMER.INFO." + ledger.Stream} {
		lossy.about.Store(&about)
		if err := ledger.CaughtUp(t.Context(), js); err != nil {
			t.Errorf("%s was lost: %v", about, err)
		}
		if lossy.about.Load() != nil {
			t.Errorf("nothing was asked about %s", about)
		}
	}
}
