package seal

import (
	"crypto/cipher"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"slices"
	"strings"

	"golang.org/x/crypto/chacha20poly1305"
)

// Errors of Open. Neither reveals the sealed text.
var (
	// ErrUnknownKey says that the ring lacks the key that sealed.
	ErrUnknownKey = errors.New("sealed with a key that is not in the ring")
	// ErrCorrupt says that the bytes, or what they are bound to, are not those that were sealed.
	ErrCorrupt = errors.New("sealed bytes are damaged or belong elsewhere")
)

// Ring holds the keys: the first one seals, each of them opens. It may be used concurrently.
type Ring struct {
	keys     []key
	failures failures
}

type key struct {
	id   string
	aead cipher.AEAD
}

const (
	version  = 1
	maxKeyID = 64
)

// ParseRing reads a key ring: "id:base64,id:base64", each key of 32 bytes, the first one for sealing. Its errors
// name a key by its id or its place in the list, never by its bytes.
func ParseRing(s string) (*Ring, error) {
	ring := &Ring{}
	for i, entry := range strings.Split(s, ",") {
		id, encoded, found := strings.Cut(strings.TrimSpace(entry), ":")
		if !found || !validID(id) {
			return nil, fmt.Errorf("key %d of the ring: want id:base64, the id 1-%d of [A-Za-z0-9_-]", i+1, maxKeyID)
		}
		if ring.Has(id) {
			return nil, fmt.Errorf("key %q is twice in the ring", id)
		}
		raw, err := decode(encoded)
		if err != nil || len(raw) != chacha20poly1305.KeySize {
			return nil, fmt.Errorf("key %q of the ring: want %d bytes in base64", id, chacha20poly1305.KeySize)
		}
		aead, err := chacha20poly1305.NewX(raw)
		if err != nil {
			return nil, fmt.Errorf("key %q of the ring: %w", id, err)
		}
		ring.keys = append(ring.keys, key{id, aead})
	}
	return ring, nil
}

// decode reads base64, standard or URL-safe, padded or not.
func decode(s string) ([]byte, error) {
	s = strings.NewReplacer("-", "+", "_", "/").Replace(strings.TrimRight(s, "="))
	return base64.RawStdEncoding.Strict().DecodeString(s)
}

func validID(id string) bool {
	return id != "" && len(id) <= maxKeyID && !strings.ContainsFunc(id, func(r rune) bool {
		return (r < '0' || r > '9') && (r < 'A' || r > 'Z') && (r < 'a' || r > 'z') && r != '_' && r != '-'
	})
}

// NewKey makes an entry for a ring: a random id and a random key.
func NewKey() string {
	var raw [chacha20poly1305.KeySize]byte
	var id [4]byte
	_, _ = rand.Read(raw[:]) // it never fails
	_, _ = rand.Read(id[:])
	return fmt.Sprintf("k%x:%s", id, base64.StdEncoding.EncodeToString(raw[:]))
}

// Has says whether the ring holds the key.
func (r *Ring) Has(id string) bool {
	return slices.ContainsFunc(r.keys, func(k key) bool { return k.id == id })
}

// Seal encrypts with the first key. What aad holds must be given to Open again: the name of the row, so that
// sealed bytes cannot be moved to another one.
func (r *Ring) Seal(plain, aad []byte) ([]byte, error) { return r.keys[0].seal(plain, aad) }

// SealWith is Seal with the key of an id.
func (r *Ring) SealWith(id string, plain, aad []byte) ([]byte, error) {
	i := slices.IndexFunc(r.keys, func(k key) bool { return k.id == id })
	if i < 0 {
		return nil, fmt.Errorf("key %q: %w", id, ErrUnknownKey)
	}
	return r.keys[i].seal(plain, aad)
}

func (with key) seal(plain, aad []byte) ([]byte, error) {
	head := 2 + len(with.id)
	sealed := make([]byte, head+chacha20poly1305.NonceSizeX, head+chacha20poly1305.NonceSizeX+len(plain)+with.aead.Overhead())
	sealed[0], sealed[1] = version, byte(len(with.id))
	copy(sealed[2:], with.id)
	nonce := sealed[head:]
	if _, err := rand.Read(nonce); err != nil {
		return nil, fmt.Errorf("make a nonce: %w", err)
	}
	return with.aead.Seal(sealed, nonce, plain, bind(sealed[:head], aad)), nil
}

// Open decrypts what Seal made with the same aad. It returns ErrUnknownKey or ErrCorrupt.
func (r *Ring) Open(sealed, aad []byte) ([]byte, error) {
	plain, err := r.open(sealed, aad)
	if err != nil {
		r.failures.note(err)
	}
	return plain, err
}

func (r *Ring) open(sealed, aad []byte) ([]byte, error) {
	id, err := r.KeyID(sealed)
	if err != nil {
		return nil, err
	}
	i := slices.IndexFunc(r.keys, func(k key) bool { return k.id == id })
	if i < 0 {
		return nil, fmt.Errorf("key %q: %w", id, ErrUnknownKey)
	}
	head := 2 + len(id)
	nonce, box := sealed[head:head+chacha20poly1305.NonceSizeX], sealed[head+chacha20poly1305.NonceSizeX:]
	plain, err := r.keys[i].aead.Open(nil, nonce, box, bind(sealed[:head], aad))
	if err != nil {
		return nil, ErrCorrupt // the cause says nothing more
	}
	return plain, nil
}

// KeyID is the id of the key that sealed. What is not the first key's ought to be sealed anew.
func (r *Ring) KeyID(sealed []byte) (string, error) {
	if len(sealed) < 2 || sealed[0] != version || sealed[1] == 0 {
		return "", ErrCorrupt
	}
	head := 2 + int(sealed[1])
	if len(sealed) < head+chacha20poly1305.NonceSizeX+chacha20poly1305.Overhead {
		return "", ErrCorrupt
	}
	id := string(sealed[2:head])
	if !validID(id) {
		return "", ErrCorrupt
	}
	return id, nil
}

// IDs are those of all keys, in their order.
func (r *Ring) IDs() []string {
	ids := make([]string, len(r.keys))
	for i, k := range r.keys {
		ids[i] = k.id
	}
	return ids
}

// Current is the id of the key that seals.
func (r *Ring) Current() string { return r.keys[0].id }

// bind authenticates the header together with the caller's aad; the header tells its own length.
func bind(head, aad []byte) []byte {
	return slices.Concat(head, aad)
}
