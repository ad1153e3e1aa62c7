package tenantkeys

import (
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"database/sql"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"strings"

	"github.com/google/uuid"
	lru "github.com/hashicorp/golang-lru/v2"

	"github.com/fanfarehq/fanfare/internal/group"
	"github.com/fanfarehq/fanfare/internal/seal"
)

// ErrDestroyed says that the key of a tenant and day does not exist any more: the tenant was erased, or the day is no
// longer kept.
var ErrDestroyed = errors.New("the tenant's key of the day is destroyed")

const (
	// mark begins sealed bytes. No UTF-8 text begins with it, so responses of earlier versions are told apart.
	mark     = 0xff
	version  = 1
	headSize = 2 + 4 // mark, version, day
	keySize  = 32
	// textMark begins sealed text, which is in base64. Texts of earlier versions have no control characters.
	textMark = "\x01"
	// cached bounds the keys in memory, at about 1 KiB each.
	cached = 1 << 15
	// Overhead is how much longer sealed bytes are than plain ones.
	Overhead = headSize + 12 + 16
)

// Place says where bytes belong.
type Place struct {
	Tenant string
	ID     uuid.UUID // of the event, delivery or message; its time gives the day
	What   string    // "event", "response"...
}

// Keys seals and opens with the keys of tenants. It may be used concurrently.
type Keys struct {
	db     *sql.DB
	ring   *seal.Ring
	log    *slog.Logger
	cache  *lru.Cache[name, cipher.AEAD]
	asking *group.Committer[*request]
}

// name names a key.
type name struct {
	tenant string
	day    int32
}

// New makes Keys; Run keeps them fresh.
func New(db *sql.DB, ring *seal.Ring, log *slog.Logger) (*Keys, error) {
	cache, err := lru.New[name, cipher.AEAD](cached)
	if err != nil {
		return nil, fmt.Errorf("make key cache: %w", err)
	}
	k := &Keys{db: db, ring: ring, log: log, cache: cache}
	k.asking = group.New(group.Limits{Count: askAtOnce, Timeout: askTimeout}, nil, k.ask)
	return k, nil
}

// Seal encrypts bytes for a place. Nil stays nil. It fails with ErrDestroyed for an erased tenant, and with the error
// of Postgres where the key is not in memory.
func (k *Keys) Seal(ctx context.Context, at Place, plain []byte) ([]byte, error) {
	if k == nil || plain == nil {
		return plain, nil
	}
	n := name{at.Tenant, dayOf(at.ID)}
	key, err := k.get(ctx, n, true)
	if err != nil {
		return nil, err
	}
	sealed := make([]byte, headSize, headSize+len(plain)+key.Overhead())
	sealed[0], sealed[1] = mark, version
	binary.BigEndian.PutUint32(sealed[2:], uint32(n.day))
	return key.Seal(sealed, nil, plain, at.bind()), nil
}

// Open decrypts what Seal made for the same place. Bytes that are not sealed are returned as they are. It fails with
// ErrDestroyed, with seal.ErrCorrupt, and with the error of Postgres where the key is not in memory.
func (k *Keys) Open(ctx context.Context, at Place, sealed []byte) ([]byte, error) {
	if !Sealed(sealed) {
		return sealed, nil
	}
	if k == nil || len(sealed) < Overhead || sealed[1] != version {
		return nil, seal.ErrCorrupt
	}
	key, err := k.get(ctx, name{at.Tenant, int32(binary.BigEndian.Uint32(sealed[2:]))}, false)
	if err != nil {
		return nil, err
	}
	plain, err := key.Open(nil, nil, sealed[headSize:], at.bind())
	if err != nil {
		return nil, seal.ErrCorrupt // the cause says nothing more
	}
	return plain, nil
}

// SealText is Seal for a text; the empty text stays empty.
func (k *Keys) SealText(ctx context.Context, at Place, plain string) (string, error) {
	if k == nil || plain == "" {
		return plain, nil
	}
	sealed, err := k.Seal(ctx, at, []byte(plain))
	if err != nil {
		return "", err
	}
	return textMark + base64.RawStdEncoding.EncodeToString(sealed), nil
}

// OpenText is Open for a text.
func (k *Keys) OpenText(ctx context.Context, at Place, sealed string) (string, error) {
	encoded, ok := strings.CutPrefix(sealed, textMark)
	if !ok {
		return sealed, nil
	}
	raw, err := base64.RawStdEncoding.DecodeString(encoded)
	if err != nil || !Sealed(raw) {
		return "", seal.ErrCorrupt
	}
	plain, err := k.Open(ctx, at, raw)
	return string(plain), err
}

// Sealed reports whether bytes are sealed. Bytes that are not may begin alike only if they are not UTF-8.
func Sealed(b []byte) bool { return len(b) > 0 && b[0] == mark }

// Gone reports whether an error of Open is final: no retry opens the bytes.
func Gone(err error) bool { return errors.Is(err, ErrDestroyed) || errors.Is(err, seal.ErrCorrupt) }

// bind is what the bytes are bound to.
func (at Place) bind() []byte {
	aad := make([]byte, 0, len(at.Tenant)+1+len(at.ID)+len(at.What))
	aad = append(append(aad, at.Tenant...), 0)
	aad = append(aad, at.ID[:]...)
	return append(aad, at.What...)
}

// dayOf is the day of a UUIDv7, counted from 1970.
func dayOf(id uuid.UUID) int32 {
	const dayMillis = 24 * 60 * 60 * 1000
	return int32(binary.BigEndian.Uint64(id[:8]) >> 16 / dayMillis)
}

// aead makes a cipher of a key.
func aead(key []byte) (cipher.AEAD, error) {
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, fmt.Errorf("use tenant key: %w", err)
	}
	return cipher.NewGCMWithRandomNonce(block)
}

// random makes a key.
func random() []byte {
	key := make([]byte, keySize)
	_, _ = rand.Read(key) // it never fails
	return key
}
