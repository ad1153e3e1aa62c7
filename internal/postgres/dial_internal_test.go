// What bounds a connection stands alone here, without the driver, which adds deadlines of its own.

package postgres

import (
	"errors"
	"io"
	"net"
	"os"
	"testing"
	"time"
)

// pipe is a bounded connection to a peer that says nothing.
func pipe(t *testing.T, answer time.Duration) (conn *boundedConn, peer net.Conn) {
	t.Helper()
	near, far := net.Pipe()
	t.Cleanup(func() { _ = errors.Join(near.Close(), far.Close()) })
	return &boundedConn{Conn: near, answer: answer}, far
}

func TestReadsAndWritesAreBounded(t *testing.T) {
	t.Parallel()
	conn, _ := pipe(t, time.Millisecond)
	if _, err := conn.Read(make([]byte, 1)); !errors.Is(err, os.ErrDeadlineExceeded) || !IsUnavailable(err) {
		t.Errorf("read: got %v", err)
	}
	if _, err := conn.Write([]byte("x")); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("write: got %v", err)
	}
}

func TestALimitEndsWhatWaits(t *testing.T) {
	t.Parallel()
	conn, _ := pipe(t, time.Hour)
	ended := make(chan error, 1)
	go func() {
		_, err := conn.Read(make([]byte, 1))
		ended <- err
	}()
	conn.setLimit(time.Now())
	if err := <-ended; !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("got %v", err)
	}
	if _, err := conn.Write([]byte("x")); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("what follows: got %v", err)
	}
}

func TestALiftedLimitIsNone(t *testing.T) {
	t.Parallel()
	conn, peer := pipe(t, time.Hour)
	conn.setLimit(time.Now())
	conn.setLimit(time.Time{})
	go func() { _, _ = peer.Write([]byte("x")) }()
	if _, err := io.ReadFull(conn, make([]byte, 1)); err != nil {
		t.Errorf("got %v", err)
	}
}

func TestTheDriversDeadlineHoldsForTheHandshake(t *testing.T) {
	t.Parallel()
	conn, _ := pipe(t, time.Hour)
	if err := conn.SetDeadline(time.Now().Add(time.Millisecond)); err != nil {
		t.Fatal(err)
	}
	if _, err := conn.Read(make([]byte, 1)); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("got %v", err)
	}
}
