package servertest

import (
	"testing"

	"github.com/nats-io/nats.go"

	"github.com/fanfarehq/fanfare/internal/embedded"
)

// NATS is a server in this process, with JetStream that syncs every write, in a directory of the test's own.
// It listens nowhere, unless a Listen option says so, and ends with the test.
func NATS(t testing.TB, options ...NATSOption) *embedded.NATS {
	t.Helper()
	cfg := embedded.NATSConfig{Dir: t.TempDir(), Listen: "off", SyncAlways: true}
	for _, option := range options {
		option(&cfg)
	}
	n, err := embedded.StartNATS(cfg)
	if err != nil {
		t.Fatalf("servertest: %v", err)
	}
	t.Cleanup(n.Shutdown)
	return n
}

// NATSOption changes how NATS starts its server.
type NATSOption func(*embedded.NATSConfig)

// Listen makes the server listen on a free port of loopback; see its ClientURL.
func Listen(cfg *embedded.NATSConfig) { cfg.Listen = "127.0.0.1:0" }

// Connect connects to the server and closes the connection when the test ends.
func Connect(t testing.TB, n *embedded.NATS, options ...nats.Option) *nats.Conn {
	t.Helper()
	nc, err := n.Connect(options...)
	if err != nil {
		t.Fatalf("servertest: %v", err)
	}
	t.Cleanup(nc.Close)
	return nc
}
