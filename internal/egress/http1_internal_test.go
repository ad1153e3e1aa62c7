// A connection that breaks within a write, and one that ends between two looks at the idle ones, are put in from inside: no
// receiver can time them.

package egress

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// brittle is a connection that breaks when it is written to for the second time.
type brittle struct {
	*net.TCPConn
	writes int
	taken  int // bytes that are written nevertheless; from the end if negative
}

func (b *brittle) Write(p []byte) (int, error) {
	if b.writes++; b.writes == 2 {
		if b.taken < 0 {
			p = p[:len(p)+b.taken]
		} else {
			p = p[:b.taken]
		}
		n, _ := b.TCPConn.Write(p)
		_ = b.CloseWrite()
		return n, syscall.EPIPE
	}
	return b.TCPConn.Write(p)
}

// A POST is made again if and only if nothing of it was written to a connection that had been kept, as often as its sender
// agrees to.
func TestHTTP1MakesAPostAgain(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		taken, kept, resends, again, dials int
		answered                           bool
	}{
		"nothing written":        {taken: 0, kept: 1, resends: 1, again: 1, dials: 2, answered: true},
		"nothing written, again": {taken: 0, kept: 1, resends: 2, again: 1, dials: 2, answered: true},
		"nothing written, once":  {taken: 0, kept: 1, resends: 0, again: 0, dials: 1, answered: false},
		"nothing written, new":   {taken: 0, kept: 0, resends: 1, again: 0, dials: 1, answered: false},
		"a byte written":         {taken: 1, kept: 1, resends: 1, again: 0, dials: 1, answered: false},
		"all but a byte":         {taken: -1, kept: 1, resends: 1, again: 0, dials: 1, answered: true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var arrived atomic.Int64
			server := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
				_, _ = io.Copy(io.Discard, r.Body)
				arrived.Add(1)
			}))
			t.Cleanup(server.Close)
			client := newClient(Policy{}, DefaultConfig(), options{})
			h := client.Transport.(*transport).http1
			t.Cleanup(h.idle.closeAll)
			dials := 0
			h.dial = func(ctx context.Context, network, address string) (net.Conn, error) {
				dials++
				conn, err := new(net.Dialer).DialContext(ctx, network, address)
				if err != nil {
					return nil, err
				}
				return &brittle{TCPConn: conn.(*net.TCPConn), taken: tc.taken, writes: 1 - tc.kept}, nil
			}
			to, err := url.Parse(server.URL)
			if err != nil {
				t.Fatal(err)
			}
			route := NewRoute(client.Transport, "", to, nil)
			send := func() (again int, err error) {
				p := Post{Body: []byte("{}"), Until: time.Now().Add(time.Minute), BodyTime: time.Minute, Resends: tc.resends}
				resp, err := route.Post(t.Context(), &p)
				if err == nil {
					err = resp.Body.Close()
				}
				return p.Resent, err
			}
			for range tc.kept {
				if again, err := send(); err != nil || again != 0 {
					t.Fatalf("made again %d times, %v", again, err)
				}
			}
			again, err := send()
			if (err == nil) != tc.answered || err != nil && ClassOf(err) != Reset {
				t.Errorf("got %v", err)
			}
			if kept := h.idle.count; kept != tc.again {
				t.Errorf("%d connections are kept", kept)
			}
			want := tc.kept
			if tc.answered {
				want++
			}
			if again != tc.again || dials != tc.dials || int(arrived.Load()) != want {
				t.Errorf("made again %d times over %d connections, %d arrived", again, dials, arrived.Load())
			}
		})
	}
}

// Who looks after idle connections closes those that the other side closed, and leaves the others alone.
func TestIdleConnsLook(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	i := newIdleConns(4, 4, DefaultConfig().IdleConnTimeout)
	t.Cleanup(i.closeAll)
	var theirs []net.Conn
	var ours []*http1Conn
	for range 3 {
		conn, err := net.Dial("tcp", l.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		other, err := l.Accept()
		if err != nil {
			t.Fatal(err)
		}
		defer other.Close()
		c, err := newHTTP1Conn(conn, destination{address: "a"}, i)
		if err != nil {
			t.Fatal(err)
		}
		theirs, ours = append(theirs, other), append(ours, c)
		i.put(c)
	}
	if err := theirs[1].Close(); err != nil {
		t.Fatal(err)
	}
	since := ours[2].since
	if got := i.take(destination{address: "a"}); got != ours[2] {
		t.Fatal("the one that was used last is not the first to be used again")
	}
	if err := theirs[2].Close(); err != nil {
		t.Fatal(err)
	}
	i.look()
	i.drop(ours[2], since) // as it was seen before it was taken
	if _, err := ours[1].Conn.Write([]byte("a")); !errors.Is(err, net.ErrClosed) {
		t.Errorf("what the other side closed is open: %v", err)
	}
	if err := ours[2].Close(); err != nil {
		t.Errorf("what was in use is closed: %v", err)
	}
	if got := i.take(destination{address: "a"}); got != ours[0] || !got.alive() {
		t.Error("what was alive is gone")
	} else if err := got.Close(); err != nil {
		t.Error(err)
	}
	if got := i.take(destination{address: "a"}); got != nil {
		t.Error("there is one more")
	}
}
