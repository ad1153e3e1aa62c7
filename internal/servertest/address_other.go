//go:build !linux

package servertest

import (
	"net"
	"testing"
)

// FreeAddress returns an address of loopback that nobody listens on at the moment.
func FreeAddress(t testing.TB) string {
	t.Helper()
	return FreeAddressOf(t, net.IPv4(127, 0, 0, 1))
}

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
