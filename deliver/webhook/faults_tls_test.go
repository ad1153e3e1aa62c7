package webhook_test

import (
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"math/big"
	"net"
	"testing"
	"time"

	"github.com/fanfarehq/fanfare/deliver/outcome"
)

// tlsFaults are handshakes that must not succeed.
func tlsFaults(t *testing.T) []fault {
	t.Helper()
	trusted, stranger := newAuthority(t), newAuthority(t)
	bad := func(change func(*x509.Certificate)) *tls.Config { return trusted.config(t, change) }
	old := bad(nil)
	old.MinVersion, old.MaxVersion = tls.VersionTLS10, tls.VersionTLS11 //nolint:gosec // what an old receiver has
	mutual := bad(nil)
	mutual.ClientAuth = tls.RequireAnyClientCert
	faults := []fault{
		{id: "F082", name: "a good certificate", tls: bad(nil), want: outcome.ReasonOK, status: 200},
		{id: "F082", name: "of an unknown authority", tls: stranger.config(t, nil), want: outcome.ReasonTLS},
		{id: "F082", name: "self-signed", tls: selfSigned(t), want: outcome.ReasonTLS},
		{id: "F082", name: "expired", want: outcome.ReasonTLS, tls: bad(func(c *x509.Certificate) { c.NotAfter = time.Now().Add(-30 * time.Minute) })},
		{id: "F082", name: "not yet valid", want: outcome.ReasonTLS, tls: bad(func(c *x509.Certificate) { c.NotBefore = time.Now().Add(30 * time.Minute) })},
		{id: "F082", name: "of another host", want: outcome.ReasonTLS, tls: bad(func(c *x509.Certificate) { c.IPAddresses = []net.IP{{127, 0, 0, 9}} })},
		{id: "F082", name: "for clients only", want: outcome.ReasonTLS,
			tls: bad(func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth} })},
		{id: "F082", name: "TLS 1.1", tls: old, want: outcome.ReasonTLS},
		{id: "F083", name: "handshake never answered", url: "https://127.0.0.1:{port}/", stuck: true, want: outcome.ReasonTimeout,
			serve: func(c *rawConn) { c.hold() }},
		{id: "F083", name: "handshake closed", url: "https://127.0.0.1:{port}/", want: outcome.ReasonReset, serve: func(c *rawConn) {
			_, _ = c.in.Peek(1)
			_, _ = c.in.Discard(c.in.Buffered())
		}},
		{id: "F083", name: "handshake of garbage", url: "https://127.0.0.1:{port}/", want: outcome.ReasonTLS,
			serve: func(c *rawConn) { c.send("garbage, and more of it\r\n"); c.hold() }},
		{id: "F083", name: "a huge chain", tls: huge(bad(nil)), want: outcome.ReasonTLS, floods: true},
		{id: "F084", name: "a client certificate demanded", tls: mutual, want: outcome.ReasonTLS,
			serve: func(c *rawConn) {
				// The alert must not be overtaken by the reset of a connection that still has bytes to read.
				_ = c.Conn.(*tls.Conn).Handshake()
				raw := c.Conn.(*tls.Conn).NetConn()
				for buf := make([]byte, 4096); ; {
					if _, err := raw.Read(buf); err != nil {
						return
					}
				}
			}},
	}
	for i := range faults {
		if faults[i].tls != nil {
			faults[i].roots = trusted.pool
		}
	}
	return faults
}

// selfSigned is a certificate that nobody but its owner vouches for, with an RSA key as such ones often have.
func selfSigned(t *testing.T) *tls.Config {
	t.Helper()
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(3), IPAddresses: []net.IP{{127, 0, 0, 1}},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	return &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}}
}
