package servertest

import (
	"net"
	"testing"
)

// FreeAddress returns an address of loopback that nobody listens on, for a server that a test starts, stops and starts again.
// On Linux it belongs to the test until that ends: neither the kernel nor another test of any process gives it to somebody else, and
// connections to it are refused while the server does not run. Elsewhere somebody may take it before the server does.
func FreeAddress(t testing.TB) string {
	t.Helper()
	return FreeAddressOf(t, net.IPv4(127, 0, 0, 1))
}
