package egress_test

import (
	"bufio"
	"context"
	"crypto/tls"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// wire is one connection of a scripted receiver.
type wire struct {
	net.Conn
	in *bufio.Reader
}

// request reads a whole request. It is nil once there are no more.
func (w *wire) request() *http.Request {
	r, err := http.ReadRequest(w.in)
	if err != nil {
		return nil
	}
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return nil
	}
	r.Body = io.NopCloser(strings.NewReader(string(body)))
	return r
}

// ended waits for the client to end the connection.
func (w *wire) ended() { _, _ = io.Copy(io.Discard, w.in) }

func (w *wire) say(text string) { _, _ = io.WriteString(w, text) }

// scripted is a receiver that follows a script for each connection.
type scripted struct {
	url         string
	connections atomic.Int64
}

// script serves each connection by f, which is told how many there were before it.
func script(t testing.TB, secure *tls.Config, f func(before int, w *wire)) *scripted {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &scripted{url: "http://" + l.Addr().String()}
	if secure != nil {
		s.url = "https://" + l.Addr().String()
	}
	over, stop := context.WithCancel(context.Background())
	var all sync.WaitGroup
	all.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			before := int(s.connections.Add(1)) - 1
			context.AfterFunc(over, func() { _ = conn.Close() })
			all.Go(func() {
				defer conn.Close()
				w := &wire{Conn: conn, in: bufio.NewReader(conn)}
				if secure != nil {
					w.Conn = tls.Server(&corked{Conn: conn}, secure)
					w.in.Reset(w.Conn)
				}
				f(before, w)
			})
		}
	})
	t.Cleanup(func() { stop(); _ = l.Close(); all.Wait() })
	return s
}

// corked is a connection that can hold back what is written, so that it goes out together.
type corked struct {
	net.Conn
	held []byte
	cork bool
}

func (c *corked) Write(p []byte) (int, error) {
	if c.cork {
		c.held = append(c.held, p...)
		return len(p), nil
	}
	return c.Conn.Write(p)
}

func (c *corked) uncork() {
	c.cork = false
	_ = c.SetWriteDeadline(time.Time{}) // TLS lets it pass once it has said goodbye
	_, _ = c.Conn.Write(c.held)
	c.held = nil
}

// posted makes a POST by the client that must succeed.
func posted(t testing.TB, c *http.Client, to, want string) {
	t.Helper()
	resp, body, err := post(t, c, to)
	if err != nil || resp.Status+" "+body != want {
		t.Fatalf("got %v %q, %v, want %q", resp, body, err, want)
	}
}
