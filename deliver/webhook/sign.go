package webhook

import (
	"crypto/ed25519"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"hash"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/fanfarehq/fanfare/internal/event"
	"github.com/fanfarehq/fanfare/subscriptions"
)

// Message is what a Signer signs.
type Message struct {
	Event *event.Event
	Body  []byte
	At    time.Time // the attempt's
	// TraceParent goes to the receiver, if it is one.
	TraceParent string
}

// Signer sets the headers of an attempt that depend on its event, bytes or time. It is made once for a
// subscription as it stands, and used by many goroutines. What it sets replaces a header of the same name
// that the subscription asked for.
type Signer interface {
	Sign(h http.Header, m Message) error
}

// The headers of Standard Webhooks, in the spelling of http.Header; their case means nothing on the wire.
const (
	headerID        = "Webhook-Id"
	headerTimestamp = "Webhook-Timestamp"
	headerSignature = "Webhook-Signature"
)

// The prefixes of secrets: symmetric, and an ed25519 private key.
const (
	symmetricPrefix  = "whsec_"
	asymmetricPrefix = "whsk_"
)

var (
	errNoSecret = errors.New("no secret to sign with")
	errSecret   = errors.New("it is no whsec_ or whsk_ key")
	errEventID  = errors.New("the event's id cannot be a header")
)

// standardSigner signs by Standard Webhooks 1.0 with every secret that has not expired, in the order of
// the subscription: the newest first.
type standardSigner struct {
	keys []signingKey
	// scratches spare each attempt the buffer of its signatures.
	scratches sync.Pool
}

// signingKey is one secret, ready to sign. One of macs and private is set.
type signingKey struct {
	expires time.Time // zero: never
	// macs keeps keyed hashes: to reset one costs a fraction of making it.
	macs    *sync.Pool
	private ed25519.PrivateKey
}

// keyedHash is an HMAC with room for its sum.
type keyedHash struct {
	hash.Hash
	sum [sha256.Size]byte
}

// newStandardSigner reads the secrets. It fails rather than to leave a signature out: the receiver may
// have switched to any one of them.
func newStandardSigner(secrets []subscriptions.Secret) (Signer, error) {
	if len(secrets) == 0 {
		return nil, errNoSecret
	}
	s := &standardSigner{
		keys:      make([]signingKey, 0, len(secrets)),
		scratches: sync.Pool{New: func() any { return new(make([]byte, 0, 512)) }},
	}
	for i, secret := range secrets {
		key, err := newSigningKey(secret)
		if err != nil {
			return nil, fmt.Errorf("read secret %d: %w", i+1, err)
		}
		s.keys = append(s.keys, key)
	}
	return s, nil
}

// newSigningKey reads one secret. Its errors never hold any part of it.
func newSigningKey(secret subscriptions.Secret) (signingKey, error) {
	key := signingKey{expires: secret.ExpiresAt}
	if text, ok := strings.CutPrefix(secret.Value, symmetricPrefix); ok {
		raw, err := base64.StdEncoding.DecodeString(text)
		if err != nil || len(raw) == 0 {
			return key, errSecret
		}
		key.macs = &sync.Pool{New: func() any { return &keyedHash{Hash: hmac.New(sha256.New, raw)} }}
		return key, nil
	}
	text, ok := strings.CutPrefix(secret.Value, asymmetricPrefix)
	if !ok {
		return key, errSecret
	}
	raw, err := base64.StdEncoding.DecodeString(text)
	if err != nil || len(raw) != ed25519.PrivateKeySize {
		return key, errSecret
	}
	key.private = ed25519.NewKeyFromSeed(raw[:ed25519.SeedSize])
	if !key.private.Equal(ed25519.PrivateKey(raw)) {
		// Signing with a public half that is not the seed's would give the private key away.
		return key, errSecret
	}
	return key, nil
}

// Sign sets the three headers of Standard Webhooks.
func (s *standardSigner) Sign(h http.Header, m Message) error {
	if !validEventID(m.Event.ID) {
		return errEventID
	}
	scratch := s.scratches.Get().(*[]byte)
	defer s.scratches.Put(scratch)
	// The scratch holds the timestamp, then the signatures, so that one string serves both headers.
	buf := strconv.AppendInt((*scratch)[:0], m.At.Unix(), 10)
	stamp := len(buf)
	for i := range s.keys {
		if key := &s.keys[i]; key.valid(m.At) {
			if len(buf) > stamp {
				buf = append(buf, ' ')
			}
			buf = key.appendSignature(buf, buf[:stamp], m)
		}
	}
	*scratch = buf
	if len(buf) == stamp {
		return errNoSecret
	}
	text := string(buf)
	values := []string{m.Event.ID, text[:stamp], text[stamp:]}
	h[headerID], h[headerTimestamp], h[headerSignature] = values[0:1:1], values[1:2:2], values[2:3:3]
	return nil
}

func (k *signingKey) valid(at time.Time) bool { return k.expires.IsZero() || at.Before(k.expires) }

// appendSignature appends "v1,<base64>" or "v1a,<base64>" of "id.timestamp.body".
func (k *signingKey) appendSignature(dst, stamp []byte, m Message) []byte {
	if k.private != nil {
		signed := make([]byte, 0, len(m.Event.ID)+len(stamp)+2+len(m.Body))
		signed = append(append(signed, m.Event.ID...), '.')
		signed = append(append(signed, stamp...), '.')
		signed = append(signed, m.Body...)
		return base64.StdEncoding.AppendEncode(append(dst, "v1a,"...), ed25519.Sign(k.private, signed))
	}
	mac := k.macs.Get().(*keyedHash)
	defer k.macs.Put(mac)
	mac.Reset()
	start := len(dst)
	// A hash reads bytes only: the id passes through the free end of dst.
	dst = append(append(dst, m.Event.ID...), '.')
	mac.Write(dst[start:])
	dst = append(append(dst[:start], stamp...), '.')
	mac.Write(dst[start:])
	mac.Write(m.Body)
	dst = append(dst[:start], "v1,"...)
	return base64.StdEncoding.AppendEncode(dst, mac.Sum(mac.sum[:0]))
}

// validEventID says whether an id is 1-128 of [A-Za-z0-9_-]. A dot would let two messages share a
// signature; anything else may split a header.
func validEventID(id string) bool {
	if id == "" || len(id) > 128 {
		return false
	}
	for i := range len(id) {
		c := id[i]
		if (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && (c < '0' || c > '9') && c != '_' && c != '-' {
			return false
		}
	}
	return true
}

// unsigned adds nothing; what a format without secrets uses.
type unsigned struct{}

func (unsigned) Sign(http.Header, Message) error { return nil }

// NoSigner is the Signer of formats that sign nothing.
func NoSigner([]subscriptions.Secret) (Signer, error) { return unsigned{}, nil }
