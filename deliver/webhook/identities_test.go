package webhook_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/fanfarehq/fanfare/deliver/outcome"
	"github.com/fanfarehq/fanfare/deliver/webhook"
	"github.com/fanfarehq/fanfare/internal/egress"
	"github.com/fanfarehq/fanfare/subscriptions"
)

// client makes a client certificate that the authority vouches for.
func (a *authority) client(t testing.TB, name string, until time.Duration) *subscriptions.ClientCertificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(9), Subject: pkix.Name{CommonName: name}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(until),
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, a.cert, &key.PublicKey, a.key)
	if err != nil {
		t.Fatal(err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return &subscriptions.ClientCertificate{
		Certificate: string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})),
		Key:         string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private})),
	}
}

// mutual is a receiver that demands a certificate of an authority, and answers with the name in it.
type mutual struct {
	*httptest.Server
	opened, closed atomic.Int32
	changed        chan struct{} // sent to, if there is room, when a connection was closed
}

func newMutual(t testing.TB, a *authority, http2 bool) *mutual {
	t.Helper()
	m := &mutual{changed: make(chan struct{}, 1)}
	m.Server = httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.WriteString(w, r.TLS.PeerCertificates[0].Subject.CommonName+" "+r.Header.Get("Authorization"))
	}))
	m.Config.ErrorLog = nil
	m.Config.ConnState = func(_ net.Conn, state http.ConnState) {
		switch state {
		case http.StateNew:
			m.opened.Add(1)
		case http.StateClosed:
			m.closed.Add(1)
			select {
			case m.changed <- struct{}{}:
			default:
			}
		}
	}
	m.TLS = a.config(t, nil)
	m.TLS.ClientAuth, m.TLS.ClientCAs = tls.RequireAndVerifyClientCert, a.pool
	m.EnableHTTP2 = http2
	m.StartTLS()
	t.Cleanup(m.Close)
	return m
}

// untilClosed waits until so many connections were closed.
func (m *mutual) untilClosed(t testing.TB, n int32) {
	t.Helper()
	deadline := time.After(2 * time.Minute)
	for m.closed.Load() < n {
		select {
		case <-m.changed:
		case <-deadline:
			t.Fatalf("%d connections were closed, want %d", m.closed.Load(), n)
		}
	}
}

func mutualPoster(t testing.TB, a *authority, change func(*webhook.PosterConfig)) *webhook.Poster {
	t.Helper()
	egressCfg := egress.DefaultConfig()
	egressCfg.IdleConnTimeout = time.Hour // Only the Poster closes connections.
	client := egress.NewClient(allowLoopback(t), egressCfg, egress.WithRootCAs(a.pool))
	t.Cleanup(client.CloseIdleConnections)
	cfg := webhook.DefaultPosterConfig()
	if change != nil {
		change(&cfg)
	}
	poster := must(webhook.NewPoster(client, cfg, time.Now))(t)
	t.Cleanup(poster.Close)
	return poster
}

func certified(to string, c *subscriptions.ClientCertificate) webhook.Attempt {
	attempt := testAttempt(to)
	attempt.Subscription.Certificate = c
	return attempt
}

// Each subscription is known by its own certificate, however many send to the same receiver at once; a bearer token goes
// along; connections are used again.
func TestSendMutualTLS(t *testing.T) {
	t.Parallel()
	a := newAuthority(t)
	for _, http2 := range []bool{false, true} {
		m := newMutual(t, a, http2)
		poster := mutualPoster(t, a, nil)
		var attempts []webhook.Attempt
		for n := range 4 {
			attempt := certified(m.URL, a.client(t, fmt.Sprintf("client-%d", n), time.Hour))
			attempt.Subscription.Auth = &subscriptions.Auth{Type: subscriptions.AuthBearer, Token: fmt.Sprintf("b-%d", n)}
			attempts = append(attempts, attempt)
		}
		for range 3 {
			var wg sync.WaitGroup
			for n, attempt := range attempts {
				wg.Go(func() {
					for range 5 {
						r := poster.Send(t.Context(), attempt)
						if want := fmt.Sprintf("client-%d Bearer b-%d", n, n); r.Reason != outcome.ReasonOK || string(r.Response) != want {
							t.Errorf("HTTP/2 %t: got %+v, %v, %s; want %s", http2, r, cause(r), r.Response, want)
						}
					}
				})
			}
			wg.Wait()
		}
		if n := m.opened.Load(); n != 4 {
			t.Errorf("HTTP/2 %t: %d connections for 4 certificates", http2, n)
		}
	}
}

// A receiver that wants another certificate, or none is there, is a matter of TLS, and retried. TLS 1.3 refuses a
// certificate after the client's handshake is over: HTTP/2 may see the end of the connection before the alert.
func TestSendMutualTLSRefused(t *testing.T) {
	t.Parallel()
	a, stranger := newAuthority(t), newAuthority(t)
	m := newMutual(t, a, true)
	poster := mutualPoster(t, a, nil)
	for name, c := range map[string]*subscriptions.ClientCertificate{
		"none": nil, "a stranger's": stranger.client(t, "x", time.Hour), "expired": a.client(t, "x", -time.Minute),
	} {
		r := poster.Send(t.Context(), certified(m.URL, c))
		if r.Reason != outcome.ReasonTLS && r.Reason != outcome.ReasonReset || r.Err == nil || r.Status != 0 {
			t.Errorf("%s: got %+v, %v", name, r, cause(r))
		}
	}
	broken := &subscriptions.ClientCertificate{Certificate: "x", Key: "hidden"}
	if r := poster.Send(t.Context(), certified(m.URL, broken)); r.Reason != outcome.ReasonConfig || strings.Contains(r.Err.Error(), "hidden") {
		t.Errorf("one that cannot be read: got %+v, %v", r, r.Err)
	}
}

// At most so many certificates have connections; what goes, and what a subscription no longer has, is closed, at once or
// when its last request is done.
func TestIdentitiesAreBounded(t *testing.T) {
	t.Parallel()
	a := newAuthority(t)
	for _, http2 := range []bool{false, true} {
		m := newMutual(t, a, http2)
		poster := mutualPoster(t, a, func(c *webhook.PosterConfig) { c.Identities = 2 })
		send := func(attempt webhook.Attempt) {
			t.Helper()
			if r := poster.Send(t.Context(), attempt); r.Reason != outcome.ReasonOK {
				t.Fatalf("got %+v, %v", r, cause(r))
			}
		}
		one, two, three := certified(m.URL, a.client(t, "1", time.Hour)), certified(m.URL, a.client(t, "2", time.Hour)), certified(m.URL, a.client(t, "3", time.Hour))
		send(one)
		send(two)
		send(three)
		m.untilClosed(t, 1)
		send(one) // in the place of two
		m.untilClosed(t, 2)
		changed := *one.Subscription
		changed.Certificate = a.client(t, "4", time.Hour)
		one.Subscription = &changed
		send(one)
		m.untilClosed(t, 3)
		poster.Close()
		m.untilClosed(t, 5)
		if n := m.opened.Load(); n != 5 {
			t.Errorf("HTTP/2 %t: %d connections", http2, n)
		}
		// One that goes while a request is under way, before that has a connection.
		asked, release := make(chan struct{}), make(chan struct{})
		tokens := newEndpoint(t, func(w http.ResponseWriter, _ *http.Request) {
			asked <- struct{}{}
			<-release
			give(w, "token")
		})
		two.Subscription.Auth = tokens.auth()
		two.Subscription.ID = uuid.New()
		answered := make(chan webhook.Result, 1)
		go func() { answered <- poster.Send(t.Context(), two) }()
		<-asked
		poster.Close()
		close(release)
		if r := <-answered; r.Reason != outcome.ReasonOK {
			t.Fatalf("got %+v, %v", r, cause(r))
		}
		m.untilClosed(t, 6)
	}
}
