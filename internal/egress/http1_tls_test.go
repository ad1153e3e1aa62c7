package egress_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/fanfarehq/fanfare/internal/egress"
)

// choosy is a receiver over TLS that agrees to the protocol it is told to.
func choosy(t *testing.T, protocol *atomic.Pointer[string]) (*receiver, *x509.CertPool) {
	t.Helper()
	r := newReceiver(t, func(w http.ResponseWriter, req *http.Request) {
		_, _ = io.Copy(io.Discard, req.Body)
		_, _ = io.WriteString(w, req.Proto+" "+req.TLS.ServerName)
	})
	r.EnableHTTP2 = true
	r.TLS = &tls.Config{MinVersion: tls.VersionTLS12}
	r.TLS.GetConfigForClient = func(hello *tls.ClientHelloInfo) (*tls.Config, error) {
		only := *protocol.Load()
		if !slices.Contains(hello.SupportedProtos, only) {
			return nil, errors.New("no protocol in common") // where crypto/tls would fall back to HTTP/1.1
		}
		cfg := r.TLS.Clone()
		cfg.NextProtos = []string{only}
		return cfg, nil
	}
	r.StartTLS()
	pool := x509.NewCertPool()
	pool.AddCert(r.Certificate())
	return r, pool
}

// onlyHTTP1 is a client that offers receivers nothing else.
func onlyHTTP1(t *testing.T, handshake time.Duration, opts ...egress.Option) *http.Client {
	t.Helper()
	cfg := egress.DefaultConfig()
	cfg.HTTP2, cfg.TLSHandshakeTimeout = false, handshake
	c := egress.NewClient(mustPolicy(t, "127.0.0.0/8"), cfg, opts...)
	t.Cleanup(c.CloseIdleConnections)
	return c
}

// What comes together with a response, in a record of its own, is not taken for the next response; nor is the connection
// used whose end comes so.
func TestHTTP1MoreThanTheResponseOverTLS(t *testing.T) {
	t.Parallel()
	certified := newReceiver(t, nil)
	certified.StartTLS()
	pool := x509.NewCertPool()
	pool.AddCert(certified.Certificate())
	for name, more := range map[string]func(w *wire){
		"nothing":         func(*wire) {},
		"a response":      func(w *wire) { w.say(forged) },
		"the end":         func(w *wire) { _ = w.Conn.(*tls.Conn).CloseWrite() },
		"half a response": func(w *wire) { w.say("H") },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := script(t, &tls.Config{MinVersion: tls.VersionTLS12, Certificates: certified.TLS.Certificates}, func(_ int, w *wire) {
				for w.request() != nil {
					c := w.Conn.(*tls.Conn).NetConn().(*corked)
					c.cork = true
					w.say(fine)
					more(w)
					c.uncork()
				}
			})
			r := routeTo(t, onlyHTTP1(t, time.Minute, egress.WithRootCAs(pool)), s.url, nil)
			for range 3 {
				routed(t, r, "200 OK ok")
			}
			want := int64(3)
			if name == "nothing" {
				want = 1
			}
			if n := s.connections.Load(); n != want {
				t.Errorf("%d connections, want %d", n, want)
			}
		})
	}
}

// A handshake that nobody answers ends with its own time, or with the request's.
func TestHTTP1HandshakeEnds(t *testing.T) {
	t.Parallel()
	enough := errors.New("enough")
	ctx, cancel := context.WithCancelCause(t.Context())
	s := script(t, nil, func(before int, w *wire) {
		_, _ = w.in.Peek(1)
		if before == 1 {
			cancel(enough)
		}
		w.ended()
	})
	r := routeTo(t, onlyHTTP1(t, 200*time.Millisecond), strings.Replace(s.url, "http:", "https:", 1), nil)
	if _, _, err := byRoute(t, r, &egress.Post{}); egress.ClassOf(err) != egress.Timeout || !strings.Contains(err.Error(), "TLS handshake") {
		t.Errorf("got %v", err)
	}
	if _, err := r.Post(ctx, patient()); !errors.Is(err, enough) {
		t.Errorf("got %v", err)
	}
}

// A receiver that speaks plainly is told from one whose certificate is wrong, as net/http tells them.
func TestHTTP1HandshakeErrors(t *testing.T) {
	t.Parallel()
	plain := newReceiver(t, nil)
	plain.Start()
	secure := newReceiver(t, nil)
	secure.StartTLS()
	c := onlyHTTP1(t, time.Minute)
	_, _, err := byRoute(t, routeTo(t, c, strings.Replace(plain.URL, "http:", "https:", 1), nil), &egress.Post{})
	if _, ok := errors.AsType[tls.RecordHeaderError](err); !ok || egress.ClassOf(err) != egress.TLS {
		t.Errorf("got %v", err)
	}
	if _, _, err := byRoute(t, routeTo(t, c, secure.URL, nil), &egress.Post{}); egress.ClassOf(err) != egress.TLS {
		t.Errorf("got %v", err)
	}
}
