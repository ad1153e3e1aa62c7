package subscriptions

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"net/url"
	"strings"
	"time"
)

// ClientCertificate is what Fanfare shows to a receiver that asks, in the TLS handshake, who connects. Both are PEM.
type ClientCertificate struct {
	Certificate string `json:"certificate"` // the certificate, then those that lead from it to an authority
	Key         string `json:"key"`
}

// Bounds of client certificates.
const (
	maxCertificatePEM = 64 << 10 // bytes
	maxKeyPEM         = 16 << 10 // bytes
	maxChain          = 10
	minRSA            = 2048 // bits
	maxRSA            = 4096 // bits; each handshake signs, and that takes with the cube of it
)

// TLS is the certificate as crypto/tls wants it.
func (c *ClientCertificate) TLS() (tls.Certificate, error) {
	pair, err := tls.X509KeyPair([]byte(c.Certificate), []byte(c.Key))
	if err != nil {
		return pair, errors.New("read client certificate: certificate and key cannot be used") // the cause may quote
	}
	return pair, nil
}

// leaf is the certificate itself; nil if it cannot be read.
func (c *ClientCertificate) leaf() *x509.Certificate {
	block, _ := pem.Decode([]byte(c.Certificate))
	if block == nil {
		return nil
	}
	leaf, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		return nil
	}
	return leaf
}

// fingerprint is the SHA-256 of a certificate in hexadecimal, as openssl prints it but for the colons.
func fingerprint(leaf *x509.Certificate) string {
	sum := sha256.Sum256(leaf.Raw)
	return hex.EncodeToString(sum[:])
}

// validateCertificate judges a client certificate but for its dates, and keeps the needed blocks of the PEM.
func validateCertificate(sub *Subscription, bad *Invalid) {
	c := sub.Certificate
	if c == nil {
		return
	}
	if u, err := url.Parse(sub.URL); err == nil && u.Scheme == "http" {
		bad.addf("client_certificate", "needs an https url")
	}
	certificates, leaf, err := readChain(c.Certificate)
	bad.add("client_certificate.certificate", err)
	key, public, err := readKey(c.Key)
	bad.add("client_certificate.key", err)
	if leaf == nil || public == nil {
		return
	}
	bad.add("client_certificate.certificate", checkPublicKey(leaf.PublicKey))
	if !public.Equal(leaf.PublicKey) {
		bad.addf("client_certificate.key", "is not the certificate's")
	}
	sub.Certificate = &ClientCertificate{Certificate: certificates, Key: key}
}

// validateDates judges a certificate that is new: one that expired since it was saved must not keep its subscription from
// being changed.
func validateDates(c *ClientCertificate, now time.Time, bad *Invalid) {
	leaf := c.leaf()
	switch {
	case leaf == nil:
	case now.After(leaf.NotAfter):
		bad.addf("client_certificate.certificate", "expired at %s", leaf.NotAfter.UTC().Format(time.RFC3339))
	case now.Before(leaf.NotBefore):
		bad.addf("client_certificate.certificate", "is not valid before %s", leaf.NotBefore.UTC().Format(time.RFC3339))
	}
}

// checkDates is validateDates of a certificate that before, if there is one, did not have.
func (s *Store) checkDates(sub, before *Subscription) error {
	if sub.Certificate == nil || before != nil && before.Certificate != nil && *before.Certificate == *sub.Certificate {
		return nil
	}
	bad := &Invalid{}
	validateDates(sub.Certificate, s.now(), bad)
	return bad.orNil()
}

// blocks are the PEM blocks of a text. What stands between them is passed over: tools print certificates for people too.
func blocks(text string, most int) ([]*pem.Block, error) {
	if text == "" {
		return nil, errors.New("is required")
	}
	if len(text) > most {
		return nil, fmt.Errorf("must not be longer than %d bytes", most)
	}
	var found []*pem.Block
	rest := []byte(text)
	for {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			break
		}
		found = append(found, block)
	}
	if len(found) == 0 || strings.Count(text, "-----BEGIN ") != len(found) {
		return nil, errors.New("must be PEM")
	}
	return found, nil
}

// readChain returns the chain and its first certificate.
func readChain(text string) (canonical string, leaf *x509.Certificate, err error) {
	found, err := blocks(text, maxCertificatePEM)
	if err != nil {
		return "", nil, err
	}
	if len(found) > maxChain {
		return "", nil, fmt.Errorf("must not have more than %d certificates", maxChain)
	}
	var out strings.Builder
	for i, block := range found {
		if block.Type != "CERTIFICATE" {
			return "", nil, fmt.Errorf("must hold certificates only, and holds a block of another type: %d of %d", i+1, len(found))
		}
		parsed, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return "", nil, fmt.Errorf("cannot be read: certificate %d of %d", i+1, len(found))
		}
		if leaf == nil {
			leaf = parsed
		}
		out.Write(pem.EncodeToMemory(&pem.Block{Type: block.Type, Bytes: block.Bytes}))
	}
	return out.String(), leaf, nil
}

// publicKey is what all public keys of crypto can do.
type publicKey interface {
	Equal(x crypto.PublicKey) bool
}

// readKey returns the private key's PEM and its public half.
func readKey(text string) (canonical string, public publicKey, err error) {
	found, err := blocks(text, maxKeyPEM)
	if err != nil {
		return "", nil, err
	}
	if found[0].Type == "EC PARAMETERS" { // openssl ecparam writes them before the key, which names them too
		found = found[1:]
	}
	if len(found) != 1 {
		return "", nil, errors.New("must hold one private key and nothing else")
	}
	if found[0].Type == "ENCRYPTED PRIVATE KEY" || found[0].Headers["DEK-Info"] != "" {
		return "", nil, errors.New("must not be encrypted: Fanfare encrypts it")
	}
	private, err := parseKey(found[0])
	if err != nil {
		return "", nil, err
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: found[0].Type, Bytes: found[0].Bytes})), private, nil
}

var errKey = errors.New("must be an RSA, ECDSA or Ed25519 private key")

func parseKey(block *pem.Block) (publicKey, error) {
	var private any
	var err error
	switch block.Type {
	case "PRIVATE KEY":
		private, err = x509.ParsePKCS8PrivateKey(block.Bytes)
	case "RSA PRIVATE KEY":
		private, err = x509.ParsePKCS1PrivateKey(block.Bytes)
	case "EC PRIVATE KEY":
		private, err = x509.ParseECPrivateKey(block.Bytes)
	default:
		return nil, errKey
	}
	if err != nil {
		return nil, errKey // the cause may quote
	}
	switch key := private.(type) {
	case *rsa.PrivateKey:
		return &key.PublicKey, nil
	case *ecdsa.PrivateKey:
		return &key.PublicKey, nil
	case ed25519.PrivateKey:
		return key.Public().(ed25519.PublicKey), nil
	}
	return nil, errKey
}

// checkPublicKey judges what kind of key a certificate is for.
func checkPublicKey(public any) error {
	switch key := public.(type) {
	case *rsa.PublicKey:
		if bits := key.N.BitLen(); bits < minRSA || bits > maxRSA {
			return fmt.Errorf("must have an RSA key of %d to %d bits", minRSA, maxRSA)
		}
		return nil
	case *ecdsa.PublicKey:
		if key.Curve != elliptic.P256() && key.Curve != elliptic.P384() && key.Curve != elliptic.P521() {
			return errors.New("must have an ECDSA key on P-256, P-384 or P-521")
		}
		return nil
	case ed25519.PublicKey:
		return nil
	}
	return errors.New("must have an RSA, ECDSA or Ed25519 key")
}
