package egress_test

import (
	"context"
	"crypto/x509"
	"errors"
	"io"
	"net/http"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/fanfarehq/fanfare/internal/egress"
)

// noted makes a POST by the client with a body of a size and returns how it went.
func noted(t *testing.T, c *http.Client, to string, size int) (e egress.Exchange, err error) {
	t.Helper()
	var p egress.Progress
	ctx, cancel := context.WithTimeout(egress.WithProgress(t.Context(), &p), time.Minute)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, to, strings.NewReader(strings.Repeat("x", size)))
	if err != nil {
		t.Fatal(err)
	}
	resp, err := c.Do(req)
	if err == nil {
		_, err = io.Copy(io.Discard, resp.Body)
		_ = resp.Body.Close()
	}
	return p.Exchange(), err
}

// steps names the steps that happened.
func steps(e egress.Exchange) string {
	var names []string
	for _, s := range []struct {
		name string
		took time.Duration
	}{{"dns", e.DNS}, {"connect", e.Connect}, {"tls", e.TLS}, {"first_byte", e.FirstByte}} {
		if s.took > 0 {
			names = append(names, s.name)
		}
	}
	return strings.TrimSpace(string(e.Connection) + " " + strings.Join(names, " "))
}

// By each way the steps of a request are noted, and that it has a connection that another one had.
func TestExchange(t *testing.T) {
	t.Parallel()
	dns := newNameServer(t, map[string][][]netip.Addr{"example.com.": {addrs("127.0.0.1")}})
	for name, way := range ways {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newReceiver(t, func(w http.ResponseWriter, req *http.Request) {
				_, _ = io.Copy(io.Discard, req.Body)
				time.Sleep(2 * time.Millisecond) // so that the first byte takes some time
				_, _ = io.WriteString(w, req.Proto)
			})
			r.EnableHTTP2 = way.http2
			pool, scheme, dialed := x509.NewCertPool(), "http", "new dns connect first_byte"
			if way.secure {
				r.StartTLS()
				pool.AddCert(r.Certificate())
				scheme, dialed = "https", "new dns connect tls first_byte"
			} else {
				r.Start()
			}
			c := newClient(t, "127.0.0.0/8", egress.WithRootCAs(pool), egress.WithResolver(dns.resolver()))
			to, remote := scheme+"://example.com:"+r.port(), netip.MustParseAddrPort(r.Listener.Addr().String())
			check := func(e egress.Exchange, err error, want string) {
				t.Helper()
				if err != nil || steps(e) != want || e.Remote != remote || e.FirstByte < 2*time.Millisecond {
					t.Errorf("got %s, %+v, error %v, want %s and %s", steps(e), e, err, want, remote)
				}
			}
			e, err := noted(t, c, to, way.size)
			check(e, err, dialed)
			e, err = noted(t, c, to, way.size)
			check(e, err, "reused first_byte")
			if way.http2 || way.size > 2 {
				return // not for a route
			}
			route := routeTo(t, c, to, nil)
			for _, want := range []string{dialed, "reused first_byte"} {
				p := patient()
				_, _, err := byRoute(t, route, p)
				check(p.Exchange(), err, want)
			}
			// An address is not resolved.
			p := patient()
			if !way.secure {
				_, _, err := byRoute(t, routeTo(t, c, r.URL, nil), p)
				check(p.Exchange(), err, "new connect first_byte")
			}
		})
	}
}

// What fails shows the steps up to there, and an address only of a connection.
func TestExchangeThatFails(t *testing.T) {
	t.Parallel()
	dns := newNameServer(t, map[string][][]netip.Addr{"example.com.": {addrs("127.0.0.1")}, "blocked.example.": {addrs("10.0.0.1")}})
	c := newClient(t, "127.0.0.0/8", egress.WithResolver(dns.resolver()))
	plain, distrusted := newReceiver(t, func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }), newReceiver(t, nil)
	plain.Start()
	distrusted.StartTLS()
	gone := newReceiver(t, nil)
	gone.Start()
	gone.Close()
	for _, tc := range []struct {
		to, want string
		remote   bool
	}{
		{"http://nowhere.example/", "dns", false},
		{"http://blocked.example/", "dns", false},
		{"http://10.0.0.1/", "", false},
		{"http://example.com:" + gone.port(), "dns connect", false},
		{"https://example.com:" + distrusted.port(), "new dns connect tls", true},
		{"http://example.com:" + plain.port(), "new dns connect", true},
	} {
		e, err := noted(t, c, tc.to, 2)
		if err == nil || steps(e) != tc.want || e.Remote.IsValid() != tc.remote {
			t.Errorf("%s: got %s, %+v, error %v, want %s", tc.to, steps(e), e, err, tc.want)
		}
		route := newRoute(t, c, tc.to, nil)
		p := patient()
		if !route.Takes(p) {
			continue // Over TLS nobody knows yet that it speaks HTTP/1.1.
		}
		if _, err := route.Post(t.Context(), p); err == nil || steps(p.Exchange()) != tc.want || p.Exchange().Remote.IsValid() != tc.remote {
			t.Errorf("%s by a route: got %s, %+v, error %v, want %s", tc.to, steps(p.Exchange()), p.Exchange(), err, tc.want)
		}
	}
}

// A connection that was lost before anything was written to it is forgotten: the exchange is that of the next one.
func TestExchangeOfAPostThatIsMadeAgain(t *testing.T) {
	t.Parallel()
	r := newReceiver(t, nil)
	r.Start()
	route := routeTo(t, newClient(t, "127.0.0.0/8"), r.URL, nil)
	if _, _, err := byRoute(t, route, patient()); err != nil {
		t.Fatal(err)
	}
	r.CloseClientConnections()
	r.Close()
	p := patient()
	p.Resends = 8
	_, err := route.Post(t.Context(), p)
	if e := p.Exchange(); err == nil || errors.Is(err, egress.ErrOffRoute) || steps(e) != "connect" || e.Remote.IsValid() {
		t.Errorf("got %s, %+v, error %v", steps(e), e, err)
	}
}

// Behind a proxy the only address known is the proxy's, which is not shown.
func TestExchangeBehindAProxy(t *testing.T) {
	t.Parallel()
	plain, secure := newReceiver(t, nil), newReceiver(t, nil)
	plain.Start()
	secure.StartTLS()
	roots := x509.NewCertPool()
	roots.AddCert(secure.Certificate())
	p := newProxy(t, map[string]string{"receiver.example": plain.Listener.Addr().String(), "example.com:443": secure.Listener.Addr().String()})
	p.Start()
	cfg := egress.DefaultConfig()
	cfg.ProxyURL = p.address("http")
	c := egress.NewClient(egress.Policy{}, cfg, egress.WithRootCAs(roots))
	t.Cleanup(c.CloseIdleConnections)
	for to, want := range map[string]string{
		"http://receiver.example/": "new connect first_byte", "https://example.com/": "new connect tls first_byte", "https://away.example/": "connect",
	} {
		if e, _ := noted(t, c, to, 2); steps(e) != want || e.Remote.IsValid() {
			t.Errorf("%s: got %s, %+v, want %s", to, steps(e), e, want)
		}
	}
}
