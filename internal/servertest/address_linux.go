package servertest

import (
	"fmt"
	"net"
	"syscall"
	"testing"
)

// FreeAddressOf is FreeAddress for another IPv4 address.
func FreeAddressOf(t testing.TB, ip net.IP) string {
	t.Helper()
	fd, port, err := reserve([4]byte(ip.To4()))
	if err != nil {
		t.Fatalf("servertest: reserve a port: %v", err)
	}
	t.Cleanup(func() { _ = syscall.Close(fd) })
	return net.JoinHostPort(ip.String(), fmt.Sprint(port))
}

// reserve binds a socket that never listens. It allows that its address is used again only once it has it: so nobody else's
// reservation can be the same, but a server can listen there.
func reserve(ip [4]byte) (fd, port int, err error) {
	fd, err = syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		return 0, 0, err
	}
	var name syscall.Sockaddr
	if err = syscall.Bind(fd, &syscall.SockaddrInet4{Addr: ip}); err == nil {
		err = syscall.SetsockoptInt(fd, syscall.SOL_SOCKET, syscall.SO_REUSEADDR, 1)
	}
	if err == nil {
		name, err = syscall.Getsockname(fd)
	}
	if err != nil {
		_ = syscall.Close(fd)
		return 0, 0, err
	}
	return fd, name.(*syscall.SockaddrInet4).Port, nil
}
