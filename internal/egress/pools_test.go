package egress_test

import (
	"context"
	"crypto/x509"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/fanfarehq/fanfare/internal/egress"
)

// ways are the ways by which a client's request reaches a receiver.
var ways = map[string]struct {
	secure, http2 bool
	proto         string
	size          int // of the body
}{
	"HTTP/1.1":                      {proto: "HTTP/1.1", size: 2},
	"HTTP/1.1 with a large body":    {proto: "HTTP/1.1", size: 200 << 10},
	"HTTP/1.1 over TLS":             {secure: true, proto: "HTTP/1.1", size: 2},
	"HTTP/1.1 over TLS, large body": {secure: true, proto: "HTTP/1.1", size: 64 << 10},
	"HTTP/2":                        {secure: true, http2: true, proto: "HTTP/2.0", size: 2},
	"HTTP/2 with a large body":      {secure: true, http2: true, proto: "HTTP/2.0", size: 64 << 10},
}

// everyWay runs f for each way, with a receiver and a client that is not shared.
func everyWay(t *testing.T, cfg egress.Config, f func(t *testing.T, r *receiver, send func(tenant string))) {
	for name, way := range ways {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newReceiver(t, func(w http.ResponseWriter, req *http.Request) {
				_, _ = io.Copy(io.Discard, req.Body)
				_, _ = io.WriteString(w, req.Proto)
			})
			r.EnableHTTP2 = way.http2
			pool := x509.NewCertPool()
			if way.secure {
				r.StartTLS()
				pool.AddCert(r.Certificate())
			} else {
				r.Start()
			}
			c := egress.NewClient(mustPolicy(t, "127.0.0.0/8"), cfg, egress.WithRootCAs(pool))
			t.Cleanup(c.CloseIdleConnections)
			f(t, r, func(tenant string) {
				t.Helper()
				body := strings.Repeat("x", way.size)
				req, err := http.NewRequestWithContext(egress.WithTenant(t.Context(), tenant), http.MethodPost, r.URL, strings.NewReader(body))
				if err != nil {
					t.Fatal(err)
				}
				resp, err := c.Do(req)
				if err != nil {
					t.Fatal(err)
				}
				defer resp.Body.Close()
				if got, err := io.ReadAll(resp.Body); err != nil || string(got) != way.proto {
					t.Fatalf("got %q, %v", got, err)
				}
			})
		})
	}
}

// No connection serves two tenants: a receiver that answers twice would answer another tenant's request.
func TestAConnectionServesOneTenant(t *testing.T) {
	t.Parallel()
	everyWay(t, egress.DefaultConfig(), func(t *testing.T, r *receiver, send func(tenant string)) {
		send("a")
		of1 := r.connections.Load()
		send("b")
		if n := r.connections.Load() - of1; n != 1 {
			t.Errorf("%d connections for the second tenant, want 1", n)
		}
	})
}

// A connection that is in steady use is replaced when it reaches its age, whatever protocol it speaks.
func TestAConnectionIsReplacedByAge(t *testing.T) {
	t.Parallel()
	t.Run("old", func(t *testing.T) {
		t.Parallel()
		cfg := egress.DefaultConfig()
		cfg.MaxConnAge = time.Nanosecond
		everyWay(t, cfg, func(t *testing.T, r *receiver, send func(tenant string)) {
			for range 4 {
				send("a")
			}
			if n := r.connections.Load(); n != 4 {
				t.Errorf("%d connections, want 4", n)
			}
		})
	})
	t.Run("young", func(t *testing.T) {
		t.Parallel()
		everyWay(t, egress.DefaultConfig(), func(t *testing.T, r *receiver, send func(tenant string)) {
			for range 4 {
				send("a")
			}
			if n := r.connections.Load(); n > 3 { // one whose request is still being written is not used again
				t.Errorf("%d connections for 4 requests, want that one is used again", n)
			}
		})
	})
}

// A route replaces its connections too, and so does a tunnel through a proxy.
func TestRoutesAndTunnelsAreReplacedByAge(t *testing.T) {
	t.Parallel()
	cfg := egress.DefaultConfig()
	cfg.MaxConnAge = time.Nanosecond
	r := newReceiver(t, nil)
	r.Start()
	c := egress.NewClient(mustPolicy(t, "127.0.0.0/8"), cfg)
	t.Cleanup(c.CloseIdleConnections)
	route := routeTo(t, c, r.URL, nil)
	for range 3 {
		if _, _, err := byRoute(t, route, &egress.Post{}); err != nil {
			t.Fatal(err)
		}
	}
	if n := r.connections.Load(); n != 3 {
		t.Errorf("%d connections, want 3", n)
	}

	secure := newReceiver(t, nil)
	secure.StartTLS()
	p := newProxy(t, map[string]string{"example.com:443": secure.Listener.Addr().String()})
	p.Start()
	cfg.ProxyURL = p.address("http")
	pool := x509.NewCertPool()
	pool.AddCert(secure.Certificate())
	c = egress.NewClient(egress.Policy{}, cfg, egress.WithRootCAs(pool))
	t.Cleanup(c.CloseIdleConnections)
	for range 3 {
		if _, _, err := post(t, c, "https://example.com/"); err != nil {
			t.Fatal(err)
		}
	}
	if n := secure.connections.Load(); n != 3 {
		t.Errorf("%d tunnels, want 3", n)
	}
}

// Routes of two tenants to one URL share no connection.
func TestRoutesOfTwoTenants(t *testing.T) {
	t.Parallel()
	r := newReceiver(t, nil)
	r.Start()
	c := newClient(t, "127.0.0.0/8")
	to, err := url.Parse(r.URL)
	if err != nil {
		t.Fatal(err)
	}
	for range 3 {
		for _, tenant := range []string{"a", "b"} {
			if _, _, err := byRoute(t, egress.NewRoute(c.Transport, tenant, to, nil), &egress.Post{}); err != nil {
				t.Fatal(err)
			}
		}
	}
	if n := r.connections.Load(); n != 2 {
		t.Errorf("%d connections, want 2", n)
	}
}

// countStates reports how many connections a server has open.
func countStates(open chan<- int) func(net.Conn, http.ConnState) {
	var mu sync.Mutex
	total := 0
	return func(_ net.Conn, state http.ConnState) {
		mu.Lock()
		defer mu.Unlock()
		switch state {
		case http.StateNew:
			total++
		case http.StateClosed, http.StateHijacked:
			total--
		default:
			return
		}
		open <- total
	}
}

// Unused connections of all tenants together are bounded: those of the tenant that was not seen for longest are closed.
func TestIdleConnectionsOfManyTenantsAreBounded(t *testing.T) {
	t.Parallel()
	r := newReceiver(t, func(_ http.ResponseWriter, req *http.Request) { _, _ = io.Copy(io.Discard, req.Body) })
	open := make(chan int, 1000)
	r.Config.ConnState = countStates(open)
	r.Start()
	cfg := egress.DefaultConfig()
	cfg.MaxIdleConns = 4
	c := egress.NewClient(mustPolicy(t, "127.0.0.0/8"), cfg)
	t.Cleanup(c.CloseIdleConnections)
	for i := range 20 {
		ctx := egress.WithTenant(context.Background(), string(rune('a'+i)))
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, r.URL, nil)
		if err != nil {
			t.Fatal(err)
		}
		resp, err := c.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		_ = resp.Body.Close()
	}
	deadline := time.After(2 * time.Minute)
	for begun, total := 0, 0; begun < 20 || total > 5; {
		select {
		case now := <-open:
			if now > total {
				begun++
			}
			total = now
		case <-deadline:
			t.Fatalf("%d connections stay open, want at most 5", total)
		}
	}
}
