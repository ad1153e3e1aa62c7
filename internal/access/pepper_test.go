package access_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/fanfarehq/fanfare/internal/access"
	"github.com/fanfarehq/fanfare/internal/api"
	"github.com/fanfarehq/fanfare/internal/servertest"
)

func withRing(t testing.TB, rings string) func(*access.Config, *access.Deps) {
	return func(_ *access.Config, d *access.Deps) { d.Peppers = peppers(t, rings) }
}

func TestRotationOfTheKeyRing(t *testing.T) {
	t.Parallel()
	db := servertest.Postgres(t)
	before := start(t, db)
	used, unused := before.create(t, adminKey, acmeKeys), before.create(t, adminKey, acmeKeys)

	// The new ring key comes first; hashes by the old one still verify, and a used key gets a new hash.
	both := start(t, db, withRing(t, ring2+","+ring))
	if err := both.Check(t.Context()); err != nil {
		t.Fatal(err)
	}
	stop := both.run(t)
	for _, p := range []*process{before, both} {
		if _, err := p.who(t, used.Key); err != nil {
			t.Fatal(err)
		}
	}
	stop()

	// Without the old ring key, the used key goes on, and start-up names what is missing for the other one.
	after := start(t, db, withRing(t, ring2))
	if _, err := after.who(t, used.Key); err != nil {
		t.Errorf("used key: %v", err)
	}
	if _, err := after.who(t, unused.Key); err == nil || errors.Is(err, api.ErrUnauthenticated) {
		t.Errorf("unused key: want an unavailability, got %v", err)
	}
	err := after.Check(t.Context())
	if !errors.Is(err, access.ErrMissingPepper) || !strings.Contains(err.Error(), "k1") {
		t.Errorf("Check: %v", err)
	}
	if status := before.call(t, adminKey, "DELETE /v1/keys/"+unused.ID, "", nil); status != 204 {
		t.Fatal(status)
	}
	if err := after.Check(t.Context()); err != nil {
		t.Errorf("after the revocation: %v", err)
	}
}

func TestHashOfAnotherRowDoesNotFit(t *testing.T) {
	t.Parallel()
	db := servertest.Postgres(t)
	p := start(t, db)
	a, b := p.create(t, adminKey, acmeKeys), p.create(t, adminKey, `{"name":"n","tenant":"other","scopes":["keys:write"]}`)
	if _, err := db.Exec(`UPDATE keys SET hash = (SELECT hash FROM keys WHERE id = $1) WHERE id = $2`, a.ID, b.ID); err != nil {
		t.Fatal(err)
	}
	forged := "ff_" + b.ID + "_" + a.Key[len("ff_"+a.ID+"_"):]
	if c, err := p.who(t, forged); !errors.Is(err, api.ErrUnauthenticated) {
		t.Errorf("got %+v, %v", c, err)
	}
}

func TestParsePeppersRefuses(t *testing.T) {
	t.Parallel()
	for _, s := range []string{"", "k1", "k1:", ":MDEy", "k1:short", ring + "," + ring, ring + ",", "k1:!!!"} {
		if p, err := access.ParsePeppers(s); err == nil {
			t.Errorf("%q: %v", s, p)
		} else if strings.Contains(err.Error(), "MDEy") {
			t.Errorf("the error shows the key: %v", err)
		}
	}
	one, two := peppers(t, ring), peppers(t, ring2+","+ring)
	if string(one[0].Key) != string(two[1].Key) || string(two[0].Key) == string(two[1].Key) || len(one[0].Key) != 32 {
		t.Error("peppers are not those of their keys")
	}
}

func TestConfig(t *testing.T) {
	t.Parallel()
	valid := func(change func(*access.Config)) error {
		cfg := access.DefaultConfig()
		change(&cfg)
		_, err := access.New(cfg, access.Deps{Peppers: peppers(t, ring)})
		return err
	}
	for want, change := range map[string]func(*access.Config){
		"":                            func(c *access.Config) {},
		" ":                           func(c *access.Config) { c.AdminKey = strings.Repeat("x", 24) },
		"FANFARE_ADMIN_KEY":           func(c *access.Config) { c.AdminKey = strings.Repeat("x", 23) },
		"FANFARE_ADMIN_KEY: must not": func(c *access.Config) { c.AdminKey = strings.Repeat("x", 24) + "\n" },
		"FANFARE_JWKS_URL":            func(c *access.Config) { c.JWKSURL = "ftp://x" },
		"FANFARE_JWT_MAX_TTL":         func(c *access.Config) { c.JWTMaxTTL = -1 },
	} {
		err := valid(change)
		if (err == nil) != (strings.TrimSpace(want) == "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("want %q, got %v", want, err)
		}
		if err != nil && strings.Contains(err.Error(), "xxx") {
			t.Errorf("the error shows the key: %v", err)
		}
	}
	if _, err := access.New(access.DefaultConfig(), access.Deps{}); err == nil {
		t.Error("no pepper is taken")
	}
}
