package subscriptions

import (
	"bytes"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/fanfarehq/fanfare/internal/seal"
)

// The prefixes of Standard Webhooks.
const (
	prefixSecret  = "whsec_" // a shared secret
	prefixPrivate = "whsk_"  // an ed25519 private key
	prefixPublic  = "whpk_"  // its public key
)

// Bounds of secrets.
const (
	minSecretBytes     = 24
	maxSecretBytes     = 64
	newSecretBytes     = 32
	maxDialectSecret   = 1024 // bytes of text that a dialect may store
	maxOldSecrets      = 10
	maxOverlap         = 7 * 24 * time.Hour
	defaultOverlap     = 24 * time.Hour
	columnSecrets      = "secrets" // what sealed bytes are bound to, beside tenant and id
	errSecretLength    = "must be 24 to 64 bytes in base64 after whsec_"
	errPrivateKey      = "must be an ed25519 private key of 64 bytes, or its seed of 32, in base64 after whsk_"
	errSecretOfNoKnown = "must begin with whsec_"
)

// ErrTooManySecrets refuses a rotation while ten old secrets still sign.
var ErrTooManySecrets = fmt.Errorf("there are %d old secrets that have not expired yet", maxOldSecrets)

// NewSecret makes a random secret for a signing scheme.
func NewSecret(scheme Signing) Secret {
	if scheme == SignEd25519 {
		_, private, err := ed25519.GenerateKey(rand.Reader)
		if err != nil { // crypto/rand does not fail.
			panic(err)
		}
		return Secret{Value: prefixPrivate + base64.StdEncoding.EncodeToString(private)}
	}
	key := make([]byte, newSecretBytes)
	_, _ = rand.Read(key) // It never fails.
	return Secret{Value: prefixSecret + base64.StdEncoding.EncodeToString(key)}
}

// readSecret judges a secret that a caller gave and returns it in the form that is stored and shown: standard base64 with
// padding, and of an ed25519 key all 64 bytes. It takes unpadded and URL-safe base64, and an ed25519 key as its 32-byte
// seed, as other implementations write them. Its errors do not repeat the secret.
func readSecret(value string, scheme Signing) (string, error) {
	if scheme == SignEd25519 {
		raw, err := decodeSecret(value, prefixPrivate)
		switch {
		case err == nil && len(raw) == ed25519.SeedSize:
			raw = ed25519.NewKeyFromSeed(raw)
		case err != nil || len(raw) != ed25519.PrivateKeySize || !bytes.Equal(ed25519.NewKeyFromSeed(raw[:ed25519.SeedSize]), raw):
			return "", errors.New(errPrivateKey)
		}
		return prefixPrivate + base64.StdEncoding.EncodeToString(raw), nil
	}
	if !strings.HasPrefix(value, prefixSecret) {
		return "", errors.New(errSecretOfNoKnown)
	}
	raw, err := decodeSecret(value, prefixSecret)
	if err != nil || len(raw) < minSecretBytes || len(raw) > maxSecretBytes {
		return "", errors.New(errSecretLength)
	}
	return prefixSecret + base64.StdEncoding.EncodeToString(raw), nil
}

// unURL turns the URL-safe alphabet of base64 into the standard one.
var unURL = strings.NewReplacer("-", "+", "_", "/")

// decodeSecret decodes base64 after a prefix: with padding or without, in either alphabet, but not in both.
func decodeSecret(value, prefix string) ([]byte, error) {
	encoded, ok := strings.CutPrefix(value, prefix)
	if !ok {
		return nil, errors.New("prefix is missing")
	}
	if len(encoded)%4 == 0 {
		encoded = strings.TrimSuffix(strings.TrimSuffix(encoded, "="), "=")
	}
	if strings.ContainsAny(encoded, "+/") && strings.ContainsAny(encoded, "-_") {
		return nil, errors.New("mixes both alphabets")
	}
	encoded = unURL.Replace(encoded)
	raw, err := base64.RawStdEncoding.DecodeString(encoded)
	if err == nil && base64.RawStdEncoding.EncodeToString(raw) != encoded {
		err = errors.New("not canonical") // The decoder ignores line breaks.
	}
	return raw, err
}

// PublicKey is the "whpk_" key that verifies an ed25519 secret's signatures; empty for any other.
func (s Secret) PublicKey() string {
	raw, err := decodeSecret(s.Value, prefixPrivate)
	if err != nil || len(raw) != ed25519.PrivateKeySize {
		return ""
	}
	return prefixPublic + base64.StdEncoding.EncodeToString(raw[ed25519.SeedSize:])
}

// rotate puts a new secret in front. The one before it signs until the overlap ends, and so do older ones
// whose overlap has not ended.
func rotate(old []Secret, fresh Secret, overlap time.Duration, now time.Time) ([]Secret, error) {
	secrets := []Secret{fresh}
	for i, s := range old {
		if i == 0 {
			s.ExpiresAt = now.Add(overlap)
		}
		if s.ExpiresAt.After(now) {
			secrets = append(secrets, s)
		}
	}
	if len(secrets) > 1+maxOldSecrets {
		return nil, ErrTooManySecrets
	}
	return secrets, nil
}

// binding is what a column of sealed bytes is bound to: moved to another row or column, they do not open.
func binding(tenant string, id uuid.UUID, column string) []byte {
	return []byte(tenant + "|" + id.String() + "|" + column)
}

// confidential is all of a subscription that must not be read by who reads the database, in the form that is sealed. It
// is one, so that one key and one binding hold for all of it.
type confidential struct {
	Secrets     []Secret           `json:"secrets,omitempty"`
	Auth        *Auth              `json:"auth,omitempty"`
	Certificate *ClientCertificate `json:"client_certificate,omitempty"`
	// Headers and URL are absent in rows of earlier versions, which have them in columns in the clear, and URL also
	// where nothing in it needs to be masked.
	Headers map[string]string `json:"headers,omitempty"`
	URL     string            `json:"url,omitempty"`
}

// confidentialOf is what of a subscription is sealed.
func confidentialOf(s *Subscription) confidential {
	c := confidential{Secrets: s.Secrets, Auth: s.Auth, Certificate: s.Certificate}
	if len(s.Headers) > 0 {
		c.Headers = s.Headers
	}
	if maskURL(s.URL) != s.URL {
		c.URL = s.URL
	}
	return c
}

func (c confidential) isEmpty() bool {
	return len(c.Secrets) == 0 && c.Auth == nil && c.Certificate == nil && len(c.Headers) == 0 && c.URL == ""
}

// into sets the opened values.
func (c confidential) into(s *Subscription) {
	s.Secrets, s.Auth, s.Certificate = c.Secrets, c.Auth, c.Certificate
	if len(c.Headers) > 0 {
		s.Headers = c.Headers
	}
	if c.URL != "" {
		s.URL = c.URL
	}
}

// sealSecrets encrypts the confidential fields for their row; without any it returns no bytes.
func sealSecrets(ring *seal.Ring, s *Subscription) ([]byte, error) {
	c := confidentialOf(s)
	if c.isEmpty() {
		return []byte{}, nil
	}
	plain, err := json.Marshal(c)
	if err != nil {
		return nil, fmt.Errorf("encode secrets: %w", err)
	}
	sealed, err := ring.Seal(plain, binding(s.Tenant, s.ID, columnSecrets))
	if err != nil {
		return nil, fmt.Errorf("seal secrets: %w", err)
	}
	return sealed, nil
}

// openSecrets decrypts what sealSecrets made.
func openSecrets(ring *seal.Ring, sealed []byte, tenant string, id uuid.UUID) (confidential, error) {
	var c confidential
	if len(sealed) == 0 {
		return c, nil
	}
	plain, err := ring.Open(sealed, binding(tenant, id, columnSecrets))
	if err != nil {
		return c, fmt.Errorf("open secrets of subscription %s: %w", id, err)
	}
	if err := json.Unmarshal(plain, &c); err != nil {
		// The cause could quote a secret.
		return confidential{}, fmt.Errorf("open secrets of subscription %s: not in the form that they are stored in", id)
	}
	c.Secrets = slices.Clip(c.Secrets)
	return c, nil
}
