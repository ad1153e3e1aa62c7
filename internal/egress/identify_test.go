package egress_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"io"
	"math/big"
	"net/http"
	"testing"
	"time"

	"github.com/fanfarehq/fanfare/internal/egress"
)

// newCertificate signs itself.
func newCertificate(t *testing.T, name string) tls.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name}, NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

// Each client presents its own certificate or none, directly and through a proxy, over HTTP/1.1 and HTTP/2, also where
// the receiver lists authorities of which none made it. The guard stays.
func TestIdentify(t *testing.T) {
	t.Parallel()
	r := newReceiver(t, func(w http.ResponseWriter, req *http.Request) {
		name := "nobody"
		if peer := req.TLS.PeerCertificates; len(peer) > 0 {
			name = peer[0].Subject.CommonName
		}
		_, _ = io.WriteString(w, name)
	})
	r.EnableHTTP2 = true
	roots := x509.NewCertPool()
	r.TLS = &tls.Config{ClientAuth: tls.RequestClientCert, ClientCAs: roots}
	r.StartTLS()
	roots.AddCert(r.Certificate())
	p := newProxy(t, map[string]string{r.Listener.Addr().String(): r.Listener.Addr().String()})
	p.StartTLS()
	for _, http2 := range []bool{true, false} {
		for _, proxyURL := range []string{"", p.address("https")} {
			cfg := egress.DefaultConfig()
			cfg.HTTP2, cfg.ProxyURL = http2, proxyURL
			base := egress.NewClient(mustPolicy(t, "127.0.0.0/8"), cfg, egress.WithRootCAs(roots))
			t.Cleanup(base.CloseIdleConnections)
			clients := map[string]*http.Client{"nobody": base}
			for _, name := range []string{"one", "two"} {
				c, err := egress.Identify(base, newCertificate(t, name))
				if err != nil {
					t.Fatal(err)
				}
				t.Cleanup(c.CloseIdleConnections)
				clients[name] = c
			}
			for range 3 {
				for name, c := range clients {
					resp, body, err := post(t, c, r.URL)
					if err != nil || body != name || resp.ProtoMajor == 2 != http2 {
						t.Errorf("%s, HTTP/2 %t, proxy %t: got %q, %v", name, http2, proxyURL != "", body, err)
					}
					if _, _, err := post(t, c, "https://10.0.0.1/"); egress.ClassOf(err) != egress.Blocked {
						t.Errorf("a private address: %v", err)
					}
				}
			}
		}
	}
	if _, err := egress.Identify(&http.Client{}, newCertificate(t, "x")); err == nil {
		t.Error("a client that nothing guards is taken")
	}
}
