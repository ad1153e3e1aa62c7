package access_test

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math/big"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"github.com/fanfarehq/fanfare/internal/access"
	"github.com/fanfarehq/fanfare/internal/api"
	"github.com/fanfarehq/fanfare/internal/servertest"
)

func b64(b []byte) string { return base64.RawURLEncoding.EncodeToString(b) }

// provider is an identity provider: keys by their id, and the key set that it publishes.
type provider struct {
	*httptest.Server
	keys    map[string]crypto.Signer
	fetches atomic.Int64

	mu     sync.Mutex
	answer func(http.ResponseWriter)
}

func jwk(kid string, key crypto.Signer) map[string]string {
	switch public := key.Public().(type) {
	case *rsa.PublicKey:
		return map[string]string{"kty": "RSA", "kid": kid, "use": "sig", "n": b64(public.N.Bytes()), "e": b64(big.NewInt(int64(public.E)).Bytes())}
	case *ecdsa.PublicKey:
		point, err := public.Bytes()
		if err != nil {
			panic(err)
		}
		half := len(point) / 2
		return map[string]string{"kty": "EC", "kid": kid, "crv": public.Curve.Params().Name, "x": b64(point[1 : 1+half]), "y": b64(point[1+half:])}
	case ed25519.PublicKey:
		return map[string]string{"kty": "OKP", "kid": kid, "crv": "Ed25519", "x": b64(public), "alg": "EdDSA"}
	}
	panic("unknown key")
}

func mustSigner[K crypto.Signer](key K, err error) crypto.Signer {
	if err != nil {
		panic(err)
	}
	return key
}

func newProvider(t *testing.T) *provider {
	t.Helper()
	_, ed, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	p := &provider{keys: map[string]crypto.Signer{
		"rsa":  mustSigner(rsa.GenerateKey(rand.Reader, 2048)),
		"ec":   mustSigner(ecdsa.GenerateKey(elliptic.P256(), rand.Reader)),
		"ed":   ed,
		"p384": mustSigner(ecdsa.GenerateKey(elliptic.P384(), rand.Reader)),
	}}
	p.publish("rsa", "ec", "ed", "p384")
	p.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		p.fetches.Add(1)
		p.mu.Lock()
		defer p.mu.Unlock()
		p.answer(w)
	}))
	t.Cleanup(p.Close)
	return p
}

func (p *provider) respond(answer func(http.ResponseWriter)) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.answer = answer
}

// publish makes these keys the set, beside some that must not be used.
func (p *provider) publish(kids ...string) {
	set := []any{
		map[string]string{"kty": "oct", "kid": "shared", "k": b64([]byte("secret")), "alg": "HS256"},
		map[string]string{"kty": "RSA", "kid": "broken", "n": "!"},
		"nonsense",
	}
	for _, kid := range kids {
		set = append(set, jwk(kid, p.keys[kid]))
	}
	encryption := jwk("encryption", p.keys["rsa"])
	encryption["use"] = "enc"
	body, err := json.Marshal(map[string]any{"keys": append(set, encryption)})
	if err != nil {
		panic(err)
	}
	p.respond(func(w http.ResponseWriter) { _, _ = w.Write(body) })
}

func goodClaims(now time.Time) jwt.MapClaims {
	return jwt.MapClaims{
		"iss": "https://idp.example", "aud": "fanfare", "sub": "user-1", "exp": now.Add(time.Hour).Unix(), "iat": now.Unix(),
		"tenant": "acme", "scope": "events:write view:purchases",
	}
}

// sign makes a token; header fields replace the usual ones, and nil removes them.
func (p *provider) sign(t testing.TB, method jwt.SigningMethod, kid string, header map[string]any, claims jwt.MapClaims) string {
	t.Helper()
	token := jwt.NewWithClaims(method, claims)
	token.Header["kid"] = kid
	for name, value := range header {
		token.Header[name] = value
		if value == nil {
			delete(token.Header, name)
		}
	}
	var key any = p.keys[kid]
	if other, ok := header["-key"]; ok {
		key = other
		delete(token.Header, "-key")
	}
	signed, err := token.SignedString(key)
	if err != nil {
		t.Fatal(err)
	}
	return signed
}

func withProvider(p *provider) func(*access.Config, *access.Deps) {
	return func(cfg *access.Config, _ *access.Deps) {
		cfg.JWKSURL, cfg.JWTIssuer, cfg.JWTAudience = p.URL, "https://idp.example", "fanfare"
	}
}

func TestTokens(t *testing.T) {
	t.Parallel()
	idp := newProvider(t)
	p := start(t, servertest.Postgres(t), withProvider(idp))
	for kid, method := range map[string]jwt.SigningMethod{"rsa": jwt.SigningMethodRS256, "ec": jwt.SigningMethodES256, "ed": jwt.SigningMethodEdDSA} {
		c, err := p.who(t, idp.sign(t, method, kid, nil, goodClaims(p.now())))
		if err != nil || c.Tenant != "acme" || c.Admin || fmt.Sprint(c.Scopes) != "[events:write view:purchases]" || c.KeyID != "user-1" {
			t.Errorf("%s: %+v, %v", kid, c, err)
		}
	}
	for name, change := range map[string]func(jwt.MapClaims){
		"scopes as a list":        func(c jwt.MapClaims) { c["scope"] = []string{"events:write"} },
		"scopes that cannot be":   func(c jwt.MapClaims) { c["scope"] = "events:write admin admin:read Bad openid.profile" },
		"audience in a list":      func(c jwt.MapClaims) { c["aud"] = []string{"other", "fanfare"}; c["scope"] = "events:write" },
		"ended within the leeway": func(c jwt.MapClaims) { c["exp"] = p.now().Add(-10 * time.Second).Unix(); c["scope"] = "events:write" },
	} {
		claims := goodClaims(p.now())
		change(claims)
		c, err := p.who(t, idp.sign(t, jwt.SigningMethodES256, "ec", nil, claims))
		if err != nil || fmt.Sprint(c.Scopes) != "[events:write]" || c.Admin {
			t.Errorf("%s: %+v, %v", name, c, err)
		}
	}
	without := idp.sign(t, jwt.SigningMethodES256, "ec", map[string]any{"kid": nil}, goodClaims(p.now()))
	if _, err := p.who(t, without); !errors.Is(err, api.ErrUnauthenticated) {
		t.Errorf("no kid, of several keys: %v", err)
	}
	if n := idp.fetches.Load(); n != 1 {
		t.Errorf("the key set was fetched %d times", n)
	}
	idp.publish("ec")
	alone := start(t, servertest.Postgres(t), withProvider(idp))
	if _, err := alone.who(t, without); err != nil {
		t.Errorf("no kid, of one key: %v", err)
	}
}

// forgeries are tokens that must not pass. Each is made of a good one.
func forgeries(t *testing.T, idp *provider, now time.Time) map[string]string {
	claims := func(change func(jwt.MapClaims)) string {
		c := goodClaims(now)
		change(c)
		return idp.sign(t, jwt.SigningMethodES256, "ec", nil, c)
	}
	header := func(h map[string]any) string { return idp.sign(t, jwt.SigningMethodES256, "ec", h, goodClaims(now)) }
	good := header(nil)
	parts := strings.Split(good, ".")
	stranger := mustSigner(ecdsa.GenerateKey(elliptic.P256(), rand.Reader))
	modulus := idp.keys["rsa"].Public().(*rsa.PublicKey).N.Bytes()
	list := map[string]string{
		"alg none":                     idp.sign(t, jwt.SigningMethodNone, "ec", map[string]any{"-key": jwt.UnsafeAllowNoneSignatureType}, goodClaims(now)),
		"alg none, signature kept":     b64([]byte(`{"alg":"none","kid":"ec"}`)) + "." + parts[1] + "." + parts[2],
		"alg None":                     b64([]byte(`{"alg":"None","kid":"ec"}`)) + "." + parts[1] + ".",
		"no alg":                       b64([]byte(`{"kid":"ec"}`)) + "." + parts[1] + "." + parts[2],
		"HS256 by the public key":      idp.sign(t, jwt.SigningMethodHS256, "rsa", map[string]any{"-key": modulus}, goodClaims(now)),
		"HS256 by a shared key":        idp.sign(t, jwt.SigningMethodHS256, "shared", map[string]any{"-key": []byte("secret")}, goodClaims(now)),
		"RS512":                        idp.sign(t, jwt.SigningMethodRS512, "rsa", nil, goodClaims(now)),
		"PS256":                        idp.sign(t, jwt.SigningMethodPS256, "rsa", nil, goodClaims(now)),
		"ES384":                        idp.sign(t, jwt.SigningMethodES384, "p384", nil, goodClaims(now)),
		"the kid of another type":      header(map[string]any{"kid": "rsa"}),
		"the kid of an encryption key": idp.sign(t, jwt.SigningMethodRS256, "rsa", map[string]any{"kid": "encryption"}, goodClaims(now)),
		"a stranger's key":             header(map[string]any{"-key": stranger}),
		"a key in the header":          header(map[string]any{"-key": stranger, "jwk": jwk("ec", stranger)}),
		"a key set in the header":      header(map[string]any{"-key": stranger, "jku": "http://127.0.0.1/keys"}),
		"a path as kid":                header(map[string]any{"kid": "../../../../dev/null"}),
		"SQL as kid":                   header(map[string]any{"kid": "' OR 1=1 --"}),
		"a number as kid":              header(map[string]any{"kid": 1}),
		"a critical extension":         header(map[string]any{"crit": []string{"x"}, "x": 1}),
		"another issuer":               claims(func(c jwt.MapClaims) { c["iss"] = "https://evil.example" }),
		"no issuer":                    claims(func(c jwt.MapClaims) { delete(c, "iss") }),
		"another audience":             claims(func(c jwt.MapClaims) { c["aud"] = "other" }),
		"no audience":                  claims(func(c jwt.MapClaims) { delete(c, "aud") }),
		"ended":                        claims(func(c jwt.MapClaims) { c["exp"] = now.Add(-time.Minute).Unix() }),
		"no end":                       claims(func(c jwt.MapClaims) { delete(c, "exp") }),
		"an end as text":               claims(func(c jwt.MapClaims) { c["exp"] = "tomorrow" }),
		"an end as a number in text":   claims(func(c jwt.MapClaims) { c["exp"] = fmt.Sprint(now.Add(time.Hour).Unix()) }),
		"a beginning in text":          claims(func(c jwt.MapClaims) { c["nbf"] = fmt.Sprint(now.Unix()) }),
		"an end far ahead":             claims(func(c jwt.MapClaims) { c["exp"] = now.Add(25 * time.Hour).Unix() }),
		"an end beyond all time":       claims(func(c jwt.MapClaims) { c["exp"] = 1e300 }),
		"not yet":                      claims(func(c jwt.MapClaims) { c["nbf"] = now.Add(time.Hour).Unix() }),
		"issued in the future":         claims(func(c jwt.MapClaims) { c["iat"] = now.Add(time.Hour).Unix() }),
		"no tenant":                    claims(func(c jwt.MapClaims) { delete(c, "tenant") }),
		"an empty tenant":              claims(func(c jwt.MapClaims) { c["tenant"] = "" }),
		"a wild tenant":                claims(func(c jwt.MapClaims) { c["tenant"] = "*" }),
		"a tenant of two tokens":       claims(func(c jwt.MapClaims) { c["tenant"] = "acme.other" }),
		"several tenants":              claims(func(c jwt.MapClaims) { c["tenant"] = []string{"acme", "other"} }),
		"a huge token":                 claims(func(c jwt.MapClaims) { c["x"] = strings.Repeat("a", 8<<10) }),
		"no signature":                 parts[0] + "." + parts[1] + ".",
		"a claim changed":              parts[0] + "." + b64([]byte(`{"tenant":"other"}`)) + "." + parts[2],
		"padding":                      good + "=",
		"a newline":                    good + "\n",
		"four parts":                   good + ".x",
		"two dots":                     "..",
		"no JSON":                      b64([]byte("x")) + "." + parts[1] + "." + parts[2],
	}
	maps.Copy(list, respelt(idp.sign(t, jwt.SigningMethodRS256, "rsa", nil, goodClaims(now))))
	return list
}

// respelt are other spellings of the same signature: the last character of base64 holds bits that stand for nothing.
func respelt(good string) map[string]string {
	const letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
	list := map[string]string{}
	last := strings.IndexByte(letters, good[len(good)-1])
	for bit := range 4 { // 256 bytes leave four such bits
		if other := last ^ 1<<bit; other != last {
			list[fmt.Sprintf("another spelling %d", bit)] = good[:len(good)-1] + string(letters[other])
		}
	}
	return list
}

func TestForgedTokens(t *testing.T) {
	t.Parallel()
	idp := newProvider(t)
	p := start(t, servertest.Postgres(t), withProvider(idp))
	for name, token := range forgeries(t, idp, p.now()) {
		if c, err := p.who(t, token); !errors.Is(err, api.ErrUnauthenticated) {
			t.Errorf("%s: want ErrUnauthenticated, got %+v, %v", name, c, err)
		}
	}
	if _, err := p.who(t, idp.sign(t, jwt.SigningMethodRS256, "rsa", nil, goodClaims(p.now()))); err != nil {
		t.Errorf("a good one: %v", err)
	}
	if n := idp.fetches.Load(); n != 1 {
		t.Errorf("unknown kids made %d fetches", n)
	}
}

func TestNewKeyOfTheProvider(t *testing.T) {
	t.Parallel()
	idp := newProvider(t)
	p := start(t, servertest.Postgres(t), withProvider(idp))
	token := func(kid string) string {
		return idp.sign(t, jwt.SigningMethodES256, kid, nil, goodClaims(p.now()))
	}
	idp.keys["next"] = mustSigner(ecdsa.GenerateKey(elliptic.P256(), rand.Reader))
	if _, err := p.who(t, token("ec")); err != nil {
		t.Fatal(err)
	}
	if _, err := p.who(t, token("next")); !errors.Is(err, api.ErrUnauthenticated) {
		t.Errorf("before it is published: %v", err)
	}
	idp.publish("next")
	p.advance(10 * time.Second)
	if _, err := p.who(t, token("next")); err != nil {
		t.Errorf("after it is published: %v", err)
	}
	if _, err := p.who(t, token("ec")); !errors.Is(err, api.ErrUnauthenticated) {
		t.Errorf("the old one: %v", err)
	}
}

func TestProviderAway(t *testing.T) {
	t.Parallel()
	idp := newProvider(t)
	idp.respond(func(w http.ResponseWriter) { w.WriteHeader(http.StatusInternalServerError) })
	p := start(t, servertest.Postgres(t), withProvider(idp))
	token := func() string { return idp.sign(t, jwt.SigningMethodES256, "ec", nil, goodClaims(p.now())) }
	status := func() int { return p.call(t, token(), "GET /v1/keys", "", nil) }
	if got := status(); got != 503 {
		t.Errorf("no key set yet: want 503, got %d", got)
	}
	for name, answer := range map[string]func(http.ResponseWriter){
		"no JSON":    func(w http.ResponseWriter) { _, _ = w.Write([]byte("<html>")) },
		"no keys":    func(w http.ResponseWriter) { _, _ = w.Write([]byte(`{"keys":[]}`)) },
		"no end":     func(w http.ResponseWriter) { _, _ = w.Write([]byte(strings.Repeat(" ", 2<<20))) },
		"a redirect": func(w http.ResponseWriter) { w.Header().Set("Location", "/x"); w.WriteHeader(http.StatusFound) },
	} {
		idp.respond(answer)
		p.advance(10 * time.Second)
		if got := status(); got != 503 {
			t.Errorf("%s: want 503, got %d", name, got)
		}
	}
	idp.publish("ec")
	p.advance(10 * time.Second)
	if got := status(); got != 403 { // no keys:write among its scopes
		t.Errorf("back: want 403, got %d", got)
	}
	idp.Close()
	p.advance(23 * time.Hour)
	if got := status(); got != 403 {
		t.Errorf("away for some hours: want 403, got %d", got)
	}
	p.advance(2 * time.Hour)
	if got := status(); got != 503 {
		t.Errorf("away for more than a day: want 503, got %d", got)
	}
}

func TestRunFetchesTheKeySet(t *testing.T) {
	t.Parallel()
	idp := newProvider(t)
	p := start(t, servertest.Postgres(t), withProvider(idp))
	p.run(t)
	p.eventually(t, "the key set", func() bool { return idp.fetches.Load() > 0 })
}

func TestTokenOfAnErasedTenant(t *testing.T) {
	t.Parallel()
	idp := newProvider(t)
	p := start(t, servertest.Postgres(t), withProvider(idp))
	token := idp.sign(t, jwt.SigningMethodES256, "ec", nil, goodClaims(p.now()))
	if err := p.UseTenant(t.Context(), "acme"); err != nil {
		t.Fatal(err)
	}
	if status := p.call(t, adminKey, "DELETE /v1/tenants/acme", "", nil); status != 202 {
		t.Fatal(status)
	}
	if _, err := p.who(t, token); !errors.Is(err, api.ErrUnauthenticated) {
		t.Errorf("got %v", err)
	}
}

// A key that a token makes ends with the token.
func TestKeyEndsWithTheTokenThatMadeIt(t *testing.T) {
	t.Parallel()
	idp := newProvider(t)
	p := start(t, servertest.Postgres(t), withProvider(idp))
	end := p.now().Add(5 * time.Second).Truncate(time.Second)
	claims := goodClaims(p.now())
	claims["exp"], claims["scope"] = end.Unix(), "keys:write"
	token := idp.sign(t, jwt.SigningMethodES256, "ec", nil, claims)
	k := p.create(t, token, `{"name":"n","scopes":["keys:write"]}`)
	if k.ExpiresAt == nil || !k.ExpiresAt.Equal(end) {
		t.Errorf("ends at %v, want %v", k.ExpiresAt, end)
	}
	later := `{"name":"n","scopes":["keys:write"],"expires_at":"` + end.Add(time.Second).UTC().Format(time.RFC3339) + `"}`
	if status := p.call(t, token, "POST /v1/keys", later, nil); status != http.StatusForbidden {
		t.Errorf("a later end: %d", status)
	}
	p.advance(10 * time.Second) // within the leeway
	if status := p.call(t, token, "POST /v1/keys", `{"name":"n","scopes":["keys:write"]}`, nil); status != http.StatusUnauthorized {
		t.Errorf("after the end: %d", status)
	}
	if _, err := p.who(t, k.Key); !errors.Is(err, api.ErrUnauthenticated) {
		t.Errorf("the key after its end: %v", err)
	}
}

func TestTokensWithoutAProvider(t *testing.T) {
	t.Parallel()
	idp := newProvider(t)
	p := start(t, servertest.Postgres(t))
	if _, err := p.who(t, idp.sign(t, jwt.SigningMethodES256, "ec", nil, goodClaims(p.now()))); !errors.Is(err, api.ErrUnauthenticated) {
		t.Errorf("got %v", err)
	}
}

func FuzzAuthenticate(f *testing.F) {
	p := start(f, nil, func(cfg *access.Config, d *access.Deps) { cfg.JWKSURL = "http://127.0.0.1:1/"; d.DB = nil })
	for _, seed := range []string{"a.b.c", "ff_000000000000_x", "..", "eyJhbGciOiJub25lIn0.e30.", adminKey[:10]} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, credential string) {
		if strings.HasPrefix(credential, "ff_") && len(credential) == 59 {
			return // would ask Postgres
		}
		if c, err := p.Authenticate(t.Context(), credential); err == nil {
			t.Fatalf("%q is %+v", credential, c)
		}
	})
}
