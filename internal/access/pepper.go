package access

import (
	"crypto/hkdf"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"hash"
	"io"
	"slices"
	"strings"
	"sync"
)

// Pepper keys the hashes of API keys. Its id is part of each hash, so that hashes of several peppers live side by side.
type Pepper struct {
	ID  string
	Key []byte
}

// DeploymentPepper is the id of the pepper that hashes: that of the deployment, which no rotation of the key ring changes. No key
// of a ring has such an id.
const DeploymentPepper = ".deployment"

// ParsePeppers derives the peppers of earlier versions from the key ring (FANFARE_SECRET_KEYS: "id:base64,id:base64"), one from each
// key. A hash by another than the first pepper of Deps is replaced when its key is next used.
func ParsePeppers(secretKeys string) ([]Pepper, error) {
	var peppers []Pepper
	for i, entry := range strings.Split(secretKeys, ",") {
		id, encoded, found := strings.Cut(strings.TrimSpace(entry), ":")
		if !found || id == "" || len(id) > 255 {
			return nil, fmt.Errorf("key %d of the ring: want id:base64", i+1)
		}
		if slices.ContainsFunc(peppers, func(p Pepper) bool { return p.ID == id }) {
			return nil, fmt.Errorf("key %q is twice in the ring", id)
		}
		secret, err := decode(encoded)
		if err != nil || len(secret) < sha256.Size {
			return nil, fmt.Errorf("key %q of the ring: want %d bytes in base64", id, sha256.Size)
		}
		pepper, err := hkdf.Key(sha256.New, secret, nil, "fanfare: hashes of API keys", sha256.Size)
		if err != nil {
			return nil, fmt.Errorf("derive pepper %q: %w", id, err)
		}
		peppers = append(peppers, Pepper{ID: id, Key: pepper})
	}
	return peppers, nil
}

// decode reads base64, standard or URL-safe, padded or not.
func decode(s string) ([]byte, error) {
	s = strings.NewReplacer("-", "+", "_", "/").Replace(strings.TrimRight(s, "="))
	return base64.RawStdEncoding.Strict().DecodeString(s)
}

// A stored hash is: the version, the length of the pepper's id, the id, HMAC-SHA256 of the whole key.
const hashVersion = 1

// errUnknownPepper says that a hash was made with a pepper that this process does not have: the key can be judged neither
// right nor wrong.
var errUnknownPepper = errors.New("the key's hash was made with a secret key that is not in FANFARE_SECRET_KEYS")

// hasher makes and compares hashes.
type hasher struct {
	peppers []*keyed
}

// keyed is a pepper with its HMACs, which are costlier to set up than to use.
type keyed struct {
	id    string
	ready sync.Pool
}

func newKeyed(p Pepper) *keyed {
	return &keyed{id: p.ID, ready: sync.Pool{New: func() any { return hmac.New(sha256.New, p.Key) }}}
}

func (k *keyed) mac(key string) []byte {
	m := k.ready.Get().(hash.Hash)
	defer k.ready.Put(m)
	m.Reset()
	_, _ = io.WriteString(m, key) // a hash never fails
	return m.Sum(nil)
}

func newHasher(peppers []Pepper) (hasher, error) {
	if len(peppers) == 0 {
		return hasher{}, errors.New("no pepper: FANFARE_SECRET_KEYS is empty")
	}
	var h hasher
	for _, p := range peppers {
		h.peppers = append(h.peppers, newKeyed(p))
	}
	return h, nil
}

// hash is the stored form of a key.
func (h hasher) hash(key string) []byte {
	p := h.peppers[0]
	out := append([]byte{hashVersion, byte(len(p.id))}, p.id...)
	return append(out, p.mac(key)...)
}

// matches compares in constant time. stale says that the hash is not by the first pepper.
func (h hasher) matches(hash []byte, key string) (ok, stale bool, err error) {
	if len(hash) < 2 || hash[0] != hashVersion || len(hash) != 2+int(hash[1])+sha256.Size {
		return false, false, errors.New("the key's hash is not of a known form")
	}
	id, mac := string(hash[2:2+hash[1]]), hash[2+hash[1]:]
	for i, p := range h.peppers {
		if p.id == id {
			return hmac.Equal(mac, p.mac(key)), i > 0, nil
		}
	}
	return false, false, errUnknownPepper
}

// idle spends the time of a comparison, for ids that do not exist.
func (h hasher) idle(key string) {
	hmac.Equal(make([]byte, sha256.Size), h.peppers[0].mac(key))
}

// secretEqual compares a credential with the admin key without telling by the time how much of it is right, nor how long
// it is.
type secretEqual struct {
	key *keyed
	mac []byte
	// keyShaped says that the secret looks like an API key. A credential that looks otherwise need not be compared, nor the
	// other way around.
	keyShaped bool
}

func newSecretEqual(secret string) *secretEqual {
	k := newKeyed(Pepper{Key: []byte(rand.Text())})
	_, shaped := idOf(secret)
	return &secretEqual{key: k, mac: k.mac(secret), keyShaped: shaped}
}

func (s *secretEqual) equal(credential string) bool { return hmac.Equal(s.mac, s.key.mac(credential)) }
