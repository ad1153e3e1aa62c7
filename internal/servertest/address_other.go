//go:build !linux

package servertest

import (
	"net"
	"testing"
)

// FreeAddressOf is FreeAddress for another IPv4 address.
func FreeAddressOf(t testing.TB, ip net.IP) string {
	t.Helper()
	listener, err := net.ListenTCP("tcp", &net.TCPAddr{IP: ip})
	if err != nil {
		t.Fatalf("servertest: %v", err)
	}
	defer listener.Close()
	return listener.Addr().String()
}
