package egress_test

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"syscall"
	"testing"
	"time"

	"github.com/fanfarehq/fanfare/internal/egress"
)

// deaf returns an address that answers no attempt to connect, as if a firewall dropped it: its queue is full.
func deaf(t *testing.T) string {
	t.Helper()
	fd, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = syscall.Close(fd) })
	if err := syscall.Bind(fd, &syscall.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Listen(fd, 0); err != nil {
		t.Fatal(err)
	}
	bound, err := syscall.Getsockname(fd)
	if err != nil {
		t.Fatal(err)
	}
	address := fmt.Sprintf("127.0.0.1:%d", bound.(*syscall.SockaddrInet4).Port)
	for range 16 {
		conn, err := net.DialTimeout("tcp", address, 300*time.Millisecond)
		if err != nil {
			return address
		}
		t.Cleanup(func() { conn.Close() })
	}
	t.Fatal("the queue does not fill")
	return ""
}

func TestProgressTellsWhoNeverConnects(t *testing.T) {
	t.Parallel()
	to := "http://" + deaf(t) + "/"
	if got := late(t, newClient(t, "127.0.0.0/8"), to); got != egress.Connect {
		t.Errorf("the deadline passed: got %s, want %s", got, egress.Connect)
	}
	cfg := egress.DefaultConfig()
	cfg.DialTimeout = 100 * time.Millisecond
	c := egress.NewClient(mustPolicy(t, "127.0.0.0/8"), cfg)
	t.Cleanup(c.CloseIdleConnections)
	req, err := http.NewRequestWithContext(context.Background(), http.MethodGet, to, nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.Do(req); egress.ClassOf(err) != egress.Connect {
		t.Errorf("the dialer's time passed: got %s (%v), want %s", egress.ClassOf(err), err, egress.Connect)
	}
}
