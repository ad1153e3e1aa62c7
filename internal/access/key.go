package access

import (
	"crypto/rand"
	"hash/crc32"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/fanfarehq/fanfare/internal/api"
)

// Key is one key, without its secret. One without a tenant is an admin's or, with scopes, an operator's.
type Key struct {
	ID         string
	Tenant     string // empty for keys over all tenants
	Name       string
	Scopes     []string
	Admin      bool
	CreatedAt  time.Time
	ExpiresAt  time.Time // zero: never
	LastUsedAt time.Time // zero: not yet; up to a minute late

	hash    []byte
	revoked bool
}

func (k *Key) caller() api.Caller {
	return api.Caller{
		Tenant: k.Tenant, Scopes: k.Scopes, Admin: k.Admin, AllTenants: k.Tenant == "" && !k.Admin,
		KeyID: k.ID, Name: k.Name, ExpiresAt: k.ExpiresAt,
	}
}

// ended reports whether the key was revoked or has expired.
func (k *Key) ended(now time.Time) bool {
	return k.revoked || !k.ExpiresAt.IsZero() && !now.Before(k.ExpiresAt)
}

const (
	keyPrefix    = "ff_"
	idLength     = 12 // 71 random bits: no two keys ever meet, and nobody finds one by counting
	secretLength = 43 // 256 random bits
	// sumLength is how long the checksum at the end of a secret is. Keys of the former form have none.
	sumLength = 6
	alphabet  = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
)

// newKey makes an id and the whole key that it is part of.
func newKey() (id, key string) {
	id = randomText(idLength)
	key = keyPrefix + id + "_" + randomText(secretLength)
	return id, key + checksum(key)
}

// checksum tells a key from garbage without a query. It is no secret: it protects no key, only Postgres.
func checksum(key string) string {
	sum := crc32.ChecksumIEEE([]byte(key))
	var out [sumLength]byte
	for i := range out {
		out[i] = alphabet[sum%uint32(len(alphabet))]
		sum /= uint32(len(alphabet))
	}
	return string(out[:])
}

// randomText is evenly distributed over the alphabet: bytes beyond its last whole multiple are thrown away.
func randomText(n int) string {
	const limit = 256 / len(alphabet) * len(alphabet)
	out := make([]byte, 0, n)
	for len(out) < n {
		var buf [64]byte
		_, _ = rand.Read(buf[:]) // it never fails
		for _, b := range buf {
			if int(b) < limit && len(out) < n {
				out = append(out, alphabet[int(b)%len(alphabet)])
			}
		}
	}
	return string(out)
}

// idOf takes the id out of a key, and reports whether it has the form of one, checksum included.
func idOf(key string) (string, bool) {
	id, secret, found := strings.Cut(strings.TrimPrefix(key, keyPrefix), "_")
	if !found || !strings.HasPrefix(key, keyPrefix) || len(id) != idLength || strings.Trim(id, alphabet) != "" ||
		strings.Trim(secret, alphabet) != "" {
		return id, false
	}
	switch len(secret) {
	case secretLength: // the former form
		return id, true
	case secretLength + sumLength:
		body := key[:len(key)-sumLength]
		return id, checksum(body) == key[len(body):]
	}
	return id, false
}

// scopeForm is what a scope looks like: those of the API and those that event types demand.
var scopeForm = regexp.MustCompile(`^[a-z_:]{1,64}$`)

func validScope(scope string) bool { return scopeForm.MatchString(scope) && scope != api.Admin }

// normalScopes are sorted and without repetition.
func normalScopes(scopes []string) []string {
	out := slices.Clone(scopes)
	slices.Sort(out)
	return slices.Compact(out)
}
