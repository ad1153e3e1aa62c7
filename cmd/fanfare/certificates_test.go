package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// authority is a private CA, with the files of one certificate that it signed for loopback.
type authority struct {
	ca, cert, key string // paths, in PEM
	pool          *x509.CertPool
	leaf          tls.Certificate
}

func newAuthority(t *testing.T) authority {
	t.Helper()
	dir := t.TempDir()
	template := func(serial int64, name string) *x509.Certificate {
		return &x509.Certificate{
			SerialNumber: big.NewInt(serial), Subject: pkix.Name{CommonName: name},
			NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
			IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
			ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}, BasicConstraintsValid: true,
		}
	}
	root, leaf := template(1, "CA of a test"), template(2, "fanfare")
	root.IsCA = true
	rootKey, leafKey := newECDSA(t), newECDSA(t)
	rootDER := sign(t, root, root, rootKey, rootKey)
	leafDER := sign(t, leaf, root, leafKey, rootKey)
	keyDER, err := x509.MarshalPKCS8PrivateKey(leafKey)
	if err != nil {
		t.Fatal(err)
	}
	a := authority{
		ca: writeBlock(t, dir, "CERTIFICATE", "ca.pem", rootDER), cert: writeBlock(t, dir, "CERTIFICATE", "cert.pem", leafDER),
		key: writeBlock(t, dir, "PRIVATE KEY", "key.pem", keyDER), pool: x509.NewCertPool(),
	}
	parsed, err := x509.ParseCertificate(rootDER)
	if err != nil {
		t.Fatal(err)
	}
	a.pool.AddCert(parsed)
	if a.leaf, err = tls.LoadX509KeyPair(a.cert, a.key); err != nil {
		t.Fatal(err)
	}
	return a
}

// writePEM is the path of some CA's certificate.
func writePEM(t *testing.T) string { return newAuthority(t).ca }

func newECDSA(t *testing.T) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func sign(t *testing.T, cert, parent *x509.Certificate, key, by *ecdsa.PrivateKey) []byte {
	t.Helper()
	der, err := x509.CreateCertificate(rand.Reader, cert, parent, &key.PublicKey, by)
	if err != nil {
		t.Fatal(err)
	}
	return der
}

func writeBlock(t *testing.T, dir, kind, name string, der []byte) string {
	t.Helper()
	path := filepath.Join(dir, name)
	if err := os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}
