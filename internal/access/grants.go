package access

import (
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"database/sql"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/fanfarehq/fanfare/internal/api"
)

// Grants are the tokens of clients that begin with an OAuth 2.0 token endpoint and know no other way in. A token stands
// for a key, names it and ends by itself; it is signed with the deployment's peppers and stored nowhere. Whoever
// finds one in a log has it for two hours, and has not the key.
//
// The key behind a token is judged with every use, so that a revoked key ends its tokens in every process within seconds.
// A token that is itself revoked ends at once, together with all that came of the same exchange. A refresh token is good
// once: if it is shown again, somebody else has a copy of it, and all tokens of the exchange end.
type Grants struct {
	access *Access
	db     *sql.DB
}

// Grants are those over the keys of a. They take what a takes as well: they are an api.Authenticator in its place,
// for the APIs of vendors. The native API takes no tokens of theirs.
func (a *Access) Grants() *Grants { return &Grants{access: a, db: a.store.db} }

// Grant is a pair of tokens.
type Grant struct {
	AccessToken string
	// RefreshToken gets another pair, and nothing else.
	RefreshToken string
	// ExpiresIn is how long the access token lasts, in whole seconds.
	ExpiresIn time.Duration
}

// How long tokens last; never longer than their key.
const (
	accessFor = 2 * time.Hour
	renewFor  = 30 * 24 * time.Hour
)

// tokenKind is what a token is good for.
type tokenKind byte

const (
	accessToken  tokenKind = 'a'
	refreshToken tokenKind = 'r'
)

// token is what a token says: of which key, until when, and of which exchange.
type token struct {
	kind     tokenKind
	keyID    string
	exchange uuid.UUID
	expires  time.Time
	// generation counts the refreshes of the exchange.
	generation uint32
}

const (
	tokenPrefix  = "fft_"
	tokenVersion = 2
	// Tokens of the former version have no generation, but four more random bytes.
	tokenVersionFormer = 1
	// tokenHead is the version, the kind, the time of expiry, the exchange's id, the generation and a nonce, so that no two
	// tokens are the same; the key's id follows, then the MAC.
	tokenHead  = 2 + 8 + 16 + 4 + tokenNonce
	tokenNonce = 4
	// tokenMark keeps the MACs of tokens apart from the hashes of keys, which begin with keyPrefix.
	tokenMark = "fanfare token\x00"
)

// Exchange makes tokens for a whole key. It is api.ErrUnauthenticated for anything else, also for the admin key of
// the environment, which has no id that a token could name.
func (g *Grants) Exchange(ctx context.Context, credential string) (api.Caller, Grant, error) {
	remote := api.RemoteAddr(ctx)
	id, ok := idOf(credential)
	if !ok {
		return api.Caller{}, Grant{}, g.access.refuse(ctx, remote, "")
	}
	caller, err := g.access.byKey(ctx, remote, id, credential)
	if err != nil {
		return api.Caller{}, Grant{}, err
	}
	return caller, g.grant(caller, token{exchange: uuid.New()}), nil
}

// Refresh makes another pair of tokens for a refresh token, and ends that. It is api.ErrUnauthenticated if that, or the
// key behind it, holds no longer; if the token was used before, all of its exchange end.
func (g *Grants) Refresh(ctx context.Context, text string) (api.Caller, Grant, error) {
	caller, t, err := g.caller(ctx, text, refreshToken)
	if err != nil {
		return api.Caller{}, Grant{}, err
	}
	used, err := g.rotate(ctx, t)
	if err != nil {
		return api.Caller{}, Grant{}, err
	}
	if !used {
		return caller, g.grant(caller, token{exchange: t.exchange, generation: t.generation + 1}), nil
	}
	g.access.log.WarnContext(ctx, "refresh token reused: tokens of its exchange are revoked", "key", t.keyID)
	return api.Caller{}, Grant{}, errors.Join(api.ErrUnauthenticated, g.end(ctx, t))
}

// Authenticate says who holds the credential: an access token, or whatever Access takes.
func (g *Grants) Authenticate(ctx context.Context, credential string) (api.Caller, error) {
	if !strings.HasPrefix(credential, tokenPrefix) {
		return g.access.Authenticate(ctx, credential)
	}
	caller, t, err := g.caller(ctx, credential, accessToken)
	if err == nil && (caller.ExpiresAt.IsZero() || t.expires.Before(caller.ExpiresAt)) {
		caller.ExpiresAt = t.expires
	}
	return caller, err
}

// UseTenant makes the tenant exist; see Access.UseTenant.
func (g *Grants) UseTenant(ctx context.Context, tenant string) error {
	return g.access.UseTenant(ctx, tenant)
}

// Revoke ends a token and all of the same exchange. What is no token, or none any more, is nobody's to revoke and no
// error. It is not the key that ends: others may hold it.
func (g *Grants) Revoke(ctx context.Context, text string) error {
	t, ok := g.open(text)
	if !ok {
		return nil
	}
	return g.end(ctx, t)
}

// caller is who holds a token of this kind.
func (g *Grants) caller(ctx context.Context, text string, kind tokenKind) (api.Caller, token, error) {
	t, ok := g.open(text)
	if !ok || t.kind != kind {
		return api.Caller{}, t, g.access.refuse(ctx, api.RemoteAddr(ctx), "")
	}
	caller, err := g.access.holder(ctx, t.keyID)
	if err != nil {
		return api.Caller{}, t, err
	}
	var revoked bool
	err = g.db.QueryRowContext(ctx, `SELECT EXISTS (SELECT FROM revoked_grants WHERE id = $1)`, t.exchange).Scan(&revoked)
	if err != nil {
		return api.Caller{}, t, away(fmt.Errorf("look up token of key %s: %w", t.keyID, err))
	}
	if revoked {
		return api.Caller{}, t, api.ErrUnauthenticated
	}
	return caller, t, nil
}

// holder is the caller of a key that was judged before, if the key still holds.
func (a *Access) holder(ctx context.Context, id string) (api.Caller, error) {
	k, known := a.keys.cached(id)
	if !known {
		var err error
		if k, err = a.keys.load(ctx, id); err != nil {
			return api.Caller{}, away(fmt.Errorf("look up key %s: %w", id, err))
		}
	}
	if k == nil || k.ended(a.now()) || a.tenants.isErased(k.Tenant) {
		return api.Caller{}, api.ErrUnauthenticated
	}
	a.keys.used(k, a.now())
	return k.caller(), nil
}

// grant makes the tokens of an exchange.
func (g *Grants) grant(caller api.Caller, of token) Grant {
	now := g.access.now()
	lasts := func(most time.Duration) time.Time {
		end := now.Add(most)
		if !caller.ExpiresAt.IsZero() && caller.ExpiresAt.Before(end) {
			end = caller.ExpiresAt
		}
		return end
	}
	expires := lasts(accessFor)
	return Grant{
		AccessToken:  g.seal(token{accessToken, caller.KeyID, of.exchange, expires, of.generation}),
		RefreshToken: g.seal(token{refreshToken, caller.KeyID, of.exchange, lasts(renewFor), of.generation}),
		ExpiresIn:    max(0, expires.Sub(now).Truncate(time.Second)),
	}
}

func (g *Grants) seal(t token) string {
	raw := make([]byte, 0, tokenHead+len(t.keyID)+sha256.Size)
	raw = append(raw, tokenVersion, byte(t.kind))
	raw = binary.BigEndian.AppendUint64(raw, uint64(t.expires.Unix()))
	raw = append(raw, t.exchange[:]...)
	raw = binary.BigEndian.AppendUint32(raw, t.generation)
	nonce := raw[len(raw) : len(raw)+tokenNonce]
	_, _ = rand.Read(nonce) // it never fails
	raw = raw[:len(raw)+tokenNonce]
	raw = append(raw, t.keyID...)
	raw = append(raw, g.access.hasher.peppers[0].mac(tokenMark+string(raw))...)
	return tokenPrefix + base64.RawURLEncoding.EncodeToString(raw)
}

// open reads a token that one of the peppers signed and that has not expired.
func (g *Grants) open(text string) (t token, ok bool) {
	encoded, ok := strings.CutPrefix(text, tokenPrefix)
	if !ok || len(encoded) > 512 {
		return t, false
	}
	raw, err := base64.RawURLEncoding.Strict().DecodeString(encoded)
	if err != nil || len(raw) <= tokenHead+sha256.Size || raw[0] != tokenVersion && raw[0] != tokenVersionFormer {
		return t, false
	}
	said, mac := raw[:len(raw)-sha256.Size], raw[len(raw)-sha256.Size:]
	signed := false
	for _, p := range g.access.hasher.peppers {
		signed = signed || hmac.Equal(mac, p.mac(tokenMark+string(said)))
	}
	t = token{
		kind: tokenKind(said[1]), expires: time.Unix(int64(binary.BigEndian.Uint64(said[2:])), 0),
		exchange: uuid.UUID(said[10:26]), keyID: string(said[tokenHead:]),
	}
	if raw[0] == tokenVersion {
		t.generation = binary.BigEndian.Uint32(said[26:])
	}
	return t, signed && g.access.now().Before(t.expires)
}
