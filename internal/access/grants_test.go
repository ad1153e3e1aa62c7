package access_test

import (
	"encoding/base64"
	"errors"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/fanfarehq/fanfare/internal/access"
	"github.com/fanfarehq/fanfare/internal/api"
	"github.com/fanfarehq/fanfare/internal/postgres"
	"github.com/fanfarehq/fanfare/internal/servertest"
)

// exchange gets tokens for a key.
func exchange(t testing.TB, g *access.Grants, key string) access.Grant {
	t.Helper()
	_, grant, err := g.Exchange(t.Context(), key)
	if err != nil {
		t.Fatal(err)
	}
	return grant
}

func TestGrantStandsForItsKey(t *testing.T) {
	t.Parallel()
	p := start(t, servertest.Postgres(t))
	k := p.create(t, adminKey, acmeKeys)
	g := p.Grants()
	grant := exchange(t, g, k.Key)
	if grant.ExpiresIn != 2*time.Hour || strings.Contains(grant.AccessToken, k.Key) {
		t.Errorf("got %+v", grant)
	}
	caller, err := g.Authenticate(t.Context(), grant.AccessToken)
	if err != nil || caller.KeyID != k.ID || caller.Tenant != "acme" || !caller.Has("view:purchases") || caller.Admin {
		t.Errorf("got %+v, %v", caller, err)
	}
	// What Access takes is taken as well; the other way around it is not.
	if caller, err := g.Authenticate(t.Context(), k.Key); err != nil || caller.KeyID != k.ID {
		t.Errorf("the key itself: %+v, %v", caller, err)
	}
	if caller, err := g.Authenticate(t.Context(), adminKey); err != nil || !caller.Admin {
		t.Errorf("the admin key: %+v, %v", caller, err)
	}
	if _, err := p.Authenticate(t.Context(), grant.AccessToken); !errors.Is(err, api.ErrUnauthenticated) {
		t.Errorf("the native API took a token: %v", err)
	}
	if status := p.call(t, grant.AccessToken, "GET /v1/keys", "", nil); status != http.StatusUnauthorized {
		t.Errorf("the native API answered a token with %d", status)
	}
}

func TestGrantIsForWholeKeysOnly(t *testing.T) {
	t.Parallel()
	p := start(t, servertest.Postgres(t))
	k := p.create(t, adminKey, acmeKeys)
	g := p.Grants()
	grant := exchange(t, g, k.Key)
	for _, credential := range []string{"", "x", k.ID, adminKey, k.Key + "x", k.Key[:len(k.Key)-1] + "_", grant.AccessToken, grant.RefreshToken} {
		if _, _, err := g.Exchange(t.Context(), credential); !errors.Is(err, api.ErrUnauthenticated) {
			t.Errorf("%.20q: %v", credential, err)
		}
	}
	// Each token is good for one thing.
	if _, err := g.Authenticate(t.Context(), grant.RefreshToken); !errors.Is(err, api.ErrUnauthenticated) {
		t.Errorf("a refresh token opened the API: %v", err)
	}
	if _, _, err := g.Refresh(t.Context(), grant.AccessToken); !errors.Is(err, api.ErrUnauthenticated) {
		t.Errorf("an access token was refreshed: %v", err)
	}
}

// Whatever is changed of a token, it is no token any more.
func TestGrantCannotBeForged(t *testing.T) {
	t.Parallel()
	db := servertest.Postgres(t)
	p := start(t, db)
	other := p.create(t, adminKey, `{"name":"n","tenant":"globex","scopes":["keys:write"]}`)
	g := p.Grants()
	token := exchange(t, g, p.create(t, adminKey, acmeKeys).Key).AccessToken
	const prefix = "fft_"
	raw, err := base64.RawURLEncoding.DecodeString(strings.TrimPrefix(token, prefix))
	if err != nil {
		t.Fatal(err)
	}
	refused := func(what, token string) {
		t.Helper()
		if _, err := g.Authenticate(t.Context(), token); !errors.Is(err, api.ErrUnauthenticated) {
			t.Errorf("%s: %v", what, err)
		}
	}
	for i := range raw {
		changed := append([]byte{}, raw...)
		changed[i] ^= 1
		refused("a changed byte", prefix+base64.RawURLEncoding.EncodeToString(changed))
	}
	for _, n := range []int{0, 1, 25, 26, 34, len(raw) - 1} {
		refused("a short one", prefix+base64.RawURLEncoding.EncodeToString(raw[:n]))
	}
	const head, mac = 34, 32
	named := append(append(append([]byte{}, raw[:head]...), other.ID...), raw[len(raw)-mac:]...)
	refused("another key's id", prefix+base64.RawURLEncoding.EncodeToString(named))
	refused("padding", token+"=")
	refused("a long one", prefix+strings.Repeat("A", 1<<16))
	refused("nothing", prefix)

	// A process with another ring took no part in it; one that has got a new first key did.
	stranger := start(t, db, func(_ *access.Config, d *access.Deps) { d.Peppers = peppers(t, ring2) })
	if _, err := stranger.Grants().Authenticate(t.Context(), token); !errors.Is(err, api.ErrUnauthenticated) {
		t.Errorf("another ring: %v", err)
	}
	rotated := start(t, db, func(_ *access.Config, d *access.Deps) { d.Peppers = peppers(t, ring2+","+ring) })
	if _, err := rotated.Grants().Authenticate(t.Context(), token); err != nil {
		t.Errorf("a ring with a new first key: %v", err)
	}
}

func TestGrantEnds(t *testing.T) {
	t.Parallel()
	p := start(t, servertest.Postgres(t))
	k := p.create(t, adminKey, acmeKeys)
	g := p.Grants()
	first := exchange(t, g, k.Key)

	p.advance(2*time.Hour + time.Second)
	if _, err := g.Authenticate(t.Context(), first.AccessToken); !errors.Is(err, api.ErrUnauthenticated) {
		t.Errorf("after two hours: %v", err)
	}
	_, second, err := g.Refresh(t.Context(), first.RefreshToken)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := g.Authenticate(t.Context(), second.AccessToken); err != nil {
		t.Errorf("a refreshed one: %v", err)
	}
	p.advance(31 * 24 * time.Hour)
	if _, _, err := g.Refresh(t.Context(), first.RefreshToken); !errors.Is(err, api.ErrUnauthenticated) {
		t.Errorf("after a month: %v", err)
	}

	// The key's end is the token's.
	third := exchange(t, g, k.Key)
	if status := p.call(t, adminKey, "DELETE /v1/keys/"+k.ID, "", nil); status != http.StatusNoContent {
		t.Fatalf("revoke: %d", status)
	}
	p.advance(5 * time.Second)
	if _, err := g.Authenticate(t.Context(), third.AccessToken); !errors.Is(err, api.ErrUnauthenticated) {
		t.Errorf("of a revoked key: %v", err)
	}
	if _, _, err := g.Refresh(t.Context(), third.RefreshToken); !errors.Is(err, api.ErrUnauthenticated) {
		t.Errorf("refreshing one of a revoked key: %v", err)
	}
}

func TestGrantLastsNoLongerThanItsKey(t *testing.T) {
	t.Parallel()
	p := start(t, servertest.Postgres(t))
	k := p.create(t, adminKey, `{"name":"n","tenant":"acme","scopes":["events:write"],"expires_at":"`+
		p.now().Add(10*time.Minute).UTC().Format(time.RFC3339)+`"}`)
	g := p.Grants()
	grant := exchange(t, g, k.Key)
	if grant.ExpiresIn > 10*time.Minute || grant.ExpiresIn < 9*time.Minute {
		t.Errorf("expires in %s", grant.ExpiresIn)
	}
	p.advance(10*time.Minute + time.Second)
	if _, err := g.Authenticate(t.Context(), grant.AccessToken); !errors.Is(err, api.ErrUnauthenticated) {
		t.Errorf("after its key: %v", err)
	}
}

func TestGrantIsRevoked(t *testing.T) {
	t.Parallel()
	db := servertest.Postgres(t)
	p := start(t, db)
	k := p.create(t, adminKey, acmeKeys)
	g := p.Grants()
	for _, pick := range []func(access.Grant) string{
		func(g access.Grant) string { return g.AccessToken },
		func(g access.Grant) string { return g.RefreshToken },
	} {
		grant, untouched := exchange(t, g, k.Key), exchange(t, g, k.Key)
		_, renewed, err := g.Refresh(t.Context(), grant.RefreshToken)
		if err != nil {
			t.Fatal(err)
		}
		for range 2 { // again is no error
			if err := g.Revoke(t.Context(), pick(grant)); err != nil {
				t.Fatal(err)
			}
		}
		// Also in another process, at once, and with all that came of it.
		other := start(t, db).Grants()
		for _, token := range []string{grant.AccessToken, renewed.AccessToken} {
			if _, err := other.Authenticate(t.Context(), token); !errors.Is(err, api.ErrUnauthenticated) {
				t.Errorf("a revoked token: %v", err)
			}
		}
		for _, token := range []string{grant.RefreshToken, renewed.RefreshToken} {
			if _, _, err := other.Refresh(t.Context(), token); !errors.Is(err, api.ErrUnauthenticated) {
				t.Errorf("a revoked refresh token: %v", err)
			}
		}
		if _, err := other.Authenticate(t.Context(), untouched.AccessToken); err != nil {
			t.Errorf("another exchange: %v", err)
		}
	}
	if err := g.Revoke(t.Context(), "fft_nothing"); err != nil {
		t.Error(err)
	}
	if err := g.Revoke(t.Context(), k.Key); err != nil {
		t.Error(err)
	}
	if _, err := g.Authenticate(t.Context(), k.Key); err != nil {
		t.Errorf("the key ended with its tokens: %v", err)
	}
	// What holds no longer is forgotten with the next that is revoked.
	if _, err := db.Exec(`UPDATE revoked_grants SET expires_at = now() - interval '1 s'`); err != nil {
		t.Fatal(err)
	}
	if err := g.Revoke(t.Context(), exchange(t, g, k.Key).AccessToken); err != nil {
		t.Fatal(err)
	}
	var left int
	if err := db.QueryRow(`SELECT count(*) FROM revoked_grants`).Scan(&left); err != nil || left != 1 {
		t.Errorf("%d are left, %v", left, err)
	}
}

// A refresh token is good once. Whoever shows an old one has a copy, so all tokens of the exchange end.
func TestRefreshTokensRotate(t *testing.T) {
	t.Parallel()
	db := servertest.Postgres(t)
	p := start(t, db)
	k := p.create(t, adminKey, acmeKeys)
	g, other := p.Grants(), start(t, db).Grants()
	for name, first := range map[string]string{
		"current": exchange(t, g, k.Key).RefreshToken, "former": g.FormerRefreshToken(k.ID, uuid.New()),
	} {
		bystander := exchange(t, g, k.Key)
		var grants []access.Grant
		token := first
		for range 3 {
			_, next, err := g.Refresh(t.Context(), token)
			if err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			grants, token = append(grants, next), next.RefreshToken
		}
		if _, _, err := other.Refresh(t.Context(), grants[0].RefreshToken); !errors.Is(err, api.ErrUnauthenticated) {
			t.Errorf("%s: an old refresh token: %v", name, err)
		}
		for _, grant := range grants {
			if _, err := g.Authenticate(t.Context(), grant.AccessToken); !errors.Is(err, api.ErrUnauthenticated) {
				t.Errorf("%s: an access token after reuse: %v", name, err)
			}
			if _, _, err := g.Refresh(t.Context(), grant.RefreshToken); !errors.Is(err, api.ErrUnauthenticated) {
				t.Errorf("%s: a refresh token after reuse: %v", name, err)
			}
		}
		if _, _, err := g.Refresh(t.Context(), bystander.RefreshToken); err != nil {
			t.Errorf("%s: another exchange of the key: %v", name, err)
		}
	}
}

// Of two that refresh by one token at once, at most one gets tokens.
func TestRefreshTokenHasOneUser(t *testing.T) {
	t.Parallel()
	db := servertest.Postgres(t)
	p := start(t, db)
	k := p.create(t, adminKey, acmeKeys)
	token := exchange(t, p.Grants(), k.Key).RefreshToken
	var got atomic.Int64
	var all sync.WaitGroup
	for range 8 {
		g := start(t, db).Grants()
		all.Go(func() {
			if _, _, err := g.Refresh(t.Context(), token); err == nil {
				got.Add(1)
			}
		})
	}
	all.Wait()
	if got.Load() > 1 {
		t.Errorf("%d got tokens", got.Load())
	}
}

func TestGrantWithoutPostgres(t *testing.T) {
	t.Parallel()
	pg := servertest.NewRestartablePostgres(t)
	db, err := postgres.Open(t.Context(), pg.URL(), 4)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = db.Close() })
	p := start(t, db)
	k := p.create(t, adminKey, acmeKeys)
	g := p.Grants()
	grant := exchange(t, g, k.Key)
	pg.Stop()
	for what, err := range map[string]error{
		"authenticate": func() error { _, err := g.Authenticate(t.Context(), grant.AccessToken); return err }(),
		"revoke":       g.Revoke(t.Context(), grant.AccessToken),
	} {
		if problem, _ := api.ProblemOf(t.Context(), err); problem.Status != http.StatusServiceUnavailable {
			t.Errorf("%s: %v", what, err)
		}
	}
	pg.Start()
}

// FuzzGrant: no text but a signed one is a token.
func FuzzGrant(f *testing.F) {
	p := start(f, servertest.Postgres(f))
	g := p.Grants()
	f.Add("fft_AWEAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA")
	f.Add("fft_")
	f.Fuzz(func(t *testing.T, text string) {
		if _, err := g.Authenticate(t.Context(), "fft_"+text); err == nil {
			t.Errorf("%q opened the API", text)
		}
	})
}
