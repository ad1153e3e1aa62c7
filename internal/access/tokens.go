package access

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/MicahParks/keyfunc/v3"
	"github.com/golang-jwt/jwt/v5"
	"golang.org/x/sync/singleflight"

	"github.com/fanfarehq/fanfare/internal/api"
	"github.com/fanfarehq/fanfare/internal/egress"
)

const (
	// maxToken is the longest token that is looked at, in bytes.
	maxToken = 8 << 10
	// maxKeySet is the largest key set that is read, in bytes.
	maxKeySet = 1 << 20
	// keySetTimeout bounds one fetch.
	keySetTimeout = 5 * time.Second
	// keySetEvery is how often the key set is fetched when nothing asks for it.
	keySetEvery = 10 * time.Minute
	// keySetPause is the least time between two fetches that an unknown key id or a failure causes.
	keySetPause = 10 * time.Second
	// keySetMaxAge is how long a key set is believed while the provider is away.
	keySetMaxAge = 24 * time.Hour
	// leeway allows for clocks that differ.
	leeway = 30 * time.Second
)

// tokens verifies JWTs by the key set of an identity provider.
type tokens struct {
	url    string
	maxTTL time.Duration
	client *http.Client
	parser *jwt.Parser
	now    func() time.Time
	log    *slog.Logger

	set       atomic.Pointer[keySet]
	attempted atomic.Int64 // Unix time in ns of the last fetch, whatever came of it
	fetches   singleflight.Group
}

type keySet struct {
	keys      keyfunc.Keyfunc
	count     int
	fetchedAt time.Time
}

// claims are what a token says of its bearer.
type claims struct {
	jwt.RegisteredClaims
	Tenant string    `json:"tenant"`
	Scope  scopeList `json:"scope"`
}

// UnmarshalJSON refuses times that are not numbers, which the library takes as text too.
func (c *claims) UnmarshalJSON(data []byte) error {
	var times struct {
		Expires   json.RawMessage `json:"exp"`
		NotBefore json.RawMessage `json:"nbf"`
		Issued    json.RawMessage `json:"iat"`
	}
	if err := json.Unmarshal(data, &times); err != nil {
		return err
	}
	for _, at := range []json.RawMessage{times.Expires, times.NotBefore, times.Issued} {
		if len(at) > 0 && at[0] == '"' {
			return errors.New("exp, nbf and iat must be numbers")
		}
	}
	type plain claims // without this method
	return json.Unmarshal(data, (*plain)(c))
}

// scopeList is one text with spaces (RFC 8693), or a list.
type scopeList []string

// UnmarshalJSON reads both forms.
func (l *scopeList) UnmarshalJSON(data []byte) error {
	var text string
	if err := json.Unmarshal(data, &text); err == nil {
		*l = strings.Fields(text)
		return nil
	}
	return json.Unmarshal(data, (*[]string)(l))
}

func newTokens(cfg Config, deps Deps) *tokens {
	options := []jwt.ParserOption{
		// Pinned: the header of a token must not choose how it is judged.
		jwt.WithValidMethods([]string{"RS256", "ES256", "EdDSA"}),
		jwt.WithExpirationRequired(), jwt.WithIssuedAt(), jwt.WithLeeway(leeway), jwt.WithTimeFunc(deps.Now),
		// One token has one spelling.
		jwt.WithStrictDecoding(),
	}
	if cfg.JWTIssuer != "" {
		options = append(options, jwt.WithIssuer(cfg.JWTIssuer))
	}
	if cfg.JWTAudience != "" {
		options = append(options, jwt.WithAudience(cfg.JWTAudience))
	}
	maxTTL := cfg.JWTMaxTTL
	if maxTTL == 0 {
		maxTTL = DefaultConfig().JWTMaxTTL
	}
	return &tokens{
		url: cfg.JWKSURL, maxTTL: maxTTL, client: deps.Client, parser: jwt.NewParser(options...), now: deps.Now, log: deps.Logger,
	}
}

// verify returns ErrUnauthenticated, with the reason for the log, or an unavailability where there is no key set.
func (t *tokens) verify(ctx context.Context, token string) (api.Caller, error) {
	if len(token) > maxToken {
		return api.Caller{}, fmt.Errorf("%w: the token is too long", api.ErrUnauthenticated)
	}
	if strings.Trim(token, alphabet+"-_.") != "" {
		// The decoder passes over line breaks, which would give one token several spellings.
		return api.Caller{}, fmt.Errorf("%w: the token is not base64url", api.ErrUnauthenticated)
	}
	set, err := t.current(ctx)
	if err != nil {
		return api.Caller{}, err
	}
	c, err := t.parse(ctx, set, token)
	if errors.Is(err, errUnknownKID) {
		// The provider may have begun to sign with a new key.
		if set, err = t.renewed(ctx, set); err != nil {
			return api.Caller{}, err
		}
		c, err = t.parse(ctx, set, token)
	}
	if err != nil {
		return api.Caller{}, fmt.Errorf("%w: %w", api.ErrUnauthenticated, err)
	}
	return c, nil
}

// errUnknownKID says that the token names a key which the set does not hold.
var errUnknownKID = errors.New("the key set does not hold the token's key")

func (t *tokens) parse(ctx context.Context, set *keySet, token string) (api.Caller, error) {
	var c claims
	_, err := t.parser.ParseWithClaims(token, &c, func(parsed *jwt.Token) (any, error) {
		if _, critical := parsed.Header["crit"]; critical {
			return nil, errors.New("the token has critical extensions")
		}
		// Which of several keys signed it, the token must say.
		if _, named := parsed.Header["kid"]; !named && set.count != 1 {
			return nil, errors.New("the token names no key, and the key set holds several")
		}
		key, err := set.keys.KeyfuncCtx(ctx)(parsed)
		if err != nil {
			return nil, errors.Join(errUnknownKID, err)
		}
		return key, nil
	})
	if err != nil {
		return api.Caller{}, err
	}
	if c.ExpiresAt.After(t.now().Add(t.maxTTL + leeway)) {
		return api.Caller{}, errors.New("the token's exp lies too far ahead")
	}
	if !api.ValidTenant(c.Tenant) {
		return api.Caller{}, errors.New("the token names no tenant")
	}
	scopes := slices.DeleteFunc(normalScopes(c.Scope), func(s string) bool { return !validScope(s) || s == api.AdminRead })
	return api.Caller{Tenant: c.Tenant, Scopes: scopes, KeyID: c.Subject, Token: true, ExpiresAt: c.ExpiresAt.UTC()}, nil
}

// current is the key set, fetched if there is none yet.
func (t *tokens) current(ctx context.Context) (*keySet, error) {
	set := t.set.Load()
	if set == nil {
		return t.renewed(ctx, nil)
	}
	if t.now().Sub(set.fetchedAt) > keySetMaxAge {
		return nil, api.Unavailable(errors.New("the identity provider's key set is too old"))
	}
	return set, nil
}

// renewed fetches the key set, unless that was tried a moment ago, and returns what there is then: maybe before.
func (t *tokens) renewed(ctx context.Context, before *keySet) (*keySet, error) {
	if t.now().UnixNano()-t.attempted.Load() >= int64(keySetPause) {
		// It serves all that wait, so it is nobody's context alone.
		done := t.fetches.DoChan("", func() (any, error) { return nil, t.fetch(context.WithoutCancel(ctx)) })
		select {
		case <-done:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	if set := t.set.Load(); set != nil {
		return set, nil
	}
	if before != nil {
		return before, nil
	}
	return nil, api.Unavailable(errors.New("the identity provider's key set could not be fetched"))
}

// run fetches the key set now and then.
func (t *tokens) run(ctx context.Context) {
	for {
		pause := keySetEvery
		if err := t.fetch(ctx); err != nil {
			pause = keySetPause
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(pause):
		}
	}
}

// fetch replaces the key set. It logs its error, since nobody else does.
func (t *tokens) fetch(ctx context.Context) error {
	t.attempted.Store(t.now().UnixNano())
	ctx, cancel := context.WithTimeout(ctx, keySetTimeout)
	defer cancel()
	set, err := t.read(ctx)
	if err != nil {
		if ctx.Err() == nil || errors.Is(ctx.Err(), context.DeadlineExceeded) {
			t.log.WarnContext(ctx, "the identity provider's key set cannot be fetched", "error", egress.RedactURL(err))
		}
		return err
	}
	set.fetchedAt = t.now()
	t.set.Store(set)
	return nil
}

func (t *tokens) read(ctx context.Context) (*keySet, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, t.url, nil)
	if err != nil {
		return nil, err
	}
	resp, err := t.client.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("status %d", resp.StatusCode)
	}
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxKeySet+1))
	if err != nil {
		return nil, err
	}
	if len(body) > maxKeySet {
		return nil, fmt.Errorf("the key set is larger than %d bytes", maxKeySet)
	}
	return parseKeySet(body)
}

// parseKeySet keeps the public keys that sign. Others are left out, rather than spoiling the set.
func parseKeySet(body []byte) (*keySet, error) {
	var document struct {
		Keys []json.RawMessage `json:"keys"`
	}
	if err := json.Unmarshal(body, &document); err != nil {
		return nil, fmt.Errorf("decode the key set: %w", err)
	}
	document.Keys = slices.DeleteFunc(document.Keys, func(raw json.RawMessage) bool { return !signing(raw) })
	if len(document.Keys) == 0 {
		return nil, errors.New("the key set holds no public key that signs with RS256, ES256 or EdDSA")
	}
	kept, err := json.Marshal(document)
	if err != nil {
		return nil, fmt.Errorf("encode the key set: %w", err)
	}
	keys, err := keyfunc.NewJWKSetJSON(kept)
	return &keySet{keys: keys, count: len(document.Keys)}, err
}

func signing(raw json.RawMessage) bool {
	var key struct {
		Type  string `json:"kty"`
		Use   string `json:"use"`
		Curve string `json:"crv"`
		D     string `json:"d"`
	}
	if json.Unmarshal(raw, &key) != nil || key.Use != "" && key.Use != "sig" || key.D != "" {
		return false
	}
	fits := key.Type == "RSA" || key.Type == "EC" && key.Curve == "P-256" || key.Type == "OKP" && key.Curve == "Ed25519"
	if !fits {
		return false
	}
	_, err := keyfunc.NewJWKJSON(raw)
	return err == nil
}
