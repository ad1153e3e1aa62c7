package access

import (
	"context"
	"encoding/base64"
	"encoding/binary"
	"time"

	"github.com/google/uuid"
)

// Every sets how often Run does its round, and what it calls after each.
func (a *Access) Every(d time.Duration, afterRound func()) { a.every, a.afterRound = d, afterRound }

// Remembered is how many keys and unknown ids are remembered.
func (a *Access) Remembered() (keys, unknown int) { return a.keys.entries.Len(), a.keys.unknown.Len() }

// FormerKey stores a key of the former form, without a checksum, and returns it.
func FormerKey(ctx context.Context, a *Access, tenant string) string {
	id := randomText(idLength)
	whole := keyPrefix + id + "_" + randomText(secretLength)
	k := &Key{ID: id, Tenant: tenant, Name: "former", Scopes: []string{"events:write"}, CreatedAt: a.now(), hash: a.hasher.hash(whole)}
	if err := a.store.insertKey(ctx, k); err != nil {
		panic(err)
	}
	return whole
}

// FormerRefreshToken is a refresh token of the former version, of an exchange of the key.
func (g *Grants) FormerRefreshToken(keyID string, exchange uuid.UUID) string {
	raw := append([]byte{tokenVersionFormer, byte(refreshToken)}, binary.BigEndian.AppendUint64(nil, uint64(g.access.now().Add(renewFor).Unix()))...)
	raw = append(append(append(raw, exchange[:]...), randomText(8)...), keyID...)
	raw = append(raw, g.access.hasher.peppers[0].mac(tokenMark+string(raw))...)
	return tokenPrefix + base64.RawURLEncoding.EncodeToString(raw)
}
