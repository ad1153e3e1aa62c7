package access_test

import (
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"

	"github.com/fanfarehq/fanfare/internal/access"
	"github.com/fanfarehq/fanfare/internal/api"
	"github.com/fanfarehq/fanfare/internal/postgres"
	"github.com/fanfarehq/fanfare/internal/servertest"
)

// However many wrong keys come from an address, no valid key of it is refused, seen by this process before or not.
func TestWrongKeysRefuseNoValidKey(t *testing.T) {
	t.Parallel()
	db := servertest.Postgres(t)
	p := start(t, db)
	var valid []string
	for range 20 {
		valid = append(valid, p.create(t, adminKey, acmeKeys).Key)
	}
	fresh := start(t, db) // has seen none of them
	wrong := []func(i int) string{
		func(i int) string { return "garbage" },
		func(i int) string { return fmt.Sprintf("ff_%012d_%049d", i, i) },
		func(i int) string { return fmt.Sprintf("ff_%012d_%043d", i, i) },
		func(i int) string { return "fft_guess" },
	}
	var all sync.WaitGroup
	for worker := range 8 {
		all.Go(func() {
			for i := range 500 {
				if status := fresh.call(t, wrong[i%len(wrong)](worker*1000+i), "GET /v1/keys", "", nil); status != 401 {
					t.Errorf("a wrong key: %d", status)
				}
			}
		})
	}
	for _, key := range valid {
		if status := fresh.call(t, key, "GET /v1/keys", "", nil); status != 200 {
			t.Errorf("a valid key: %d", status)
		}
	}
	all.Wait()
}

// A key with a wrong checksum is judged without Postgres. Keys of the former form have none.
func TestGarbageCostsNoQuery(t *testing.T) {
	t.Parallel()
	pg := servertest.NewRestartablePostgres(t)
	db, err := postgres.Open(t.Context(), pg.URL(), 4)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = db.Close() })
	p := start(t, db)
	former := access.FormerKey(t.Context(), p.Access, "acme")
	if c, err := p.who(t, former); err != nil || c.Tenant != "acme" {
		t.Errorf("a key of the former form: %+v, %v", c, err)
	}
	k := p.create(t, adminKey, acmeKeys)
	garbage := []string{"garbage", "a.b.c", "ff_" + strings.Repeat("0", 12) + "_" + strings.Repeat("0", 49), k.Key[:len(k.Key)-1] + "!"}
	for i := len("ff_"); i < len(k.Key); i++ {
		if k.Key[i] != '_' && k.Key[i] != 'x' {
			garbage = append(garbage, k.Key[:i]+"x"+k.Key[i+1:])
		}
	}
	pg.Stop()
	for _, key := range garbage {
		if _, err := p.who(t, key); !errors.Is(err, api.ErrUnauthenticated) {
			t.Errorf("%s: %v", key, err)
		}
	}
	pg.Start()
}

func TestUnknownIDsAreRememberedInBounds(t *testing.T) {
	t.Parallel()
	p := start(t, servertest.Postgres(t))
	k := p.create(t, adminKey, acmeKeys)
	if _, err := p.who(t, k.Key); err != nil {
		t.Fatal(err)
	}
	var all sync.WaitGroup
	for worker := range 50 {
		all.Go(func() {
			for i := range 200 {
				key := fmt.Sprintf("ff_%06d%06d_%043d", worker, i, 0)
				if _, err := p.Authenticate(t.Context(), key); !errors.Is(err, api.ErrUnauthenticated) {
					t.Error(err)
				}
			}
		})
	}
	all.Wait()
	keys, unknown := p.Remembered()
	if keys != 1 || unknown > 1<<13 {
		t.Errorf("%d keys, %d unknown", keys, unknown)
	}
}

func TestWrongSecretsOfAKey(t *testing.T) {
	t.Parallel()
	p := start(t, servertest.Postgres(t))
	k := p.create(t, adminKey, acmeKeys)
	flip := func(i int) string {
		c := byte('0')
		if k.Key[i] == c {
			c = '1'
		}
		return k.Key[:i] + string(c) + k.Key[i+1:]
	}
	wrong := []string{"", "ff_", k.ID, k.Key + "0", k.Key[:len(k.Key)-1], strings.ToUpper(k.Key), " " + k.Key, "ff__" + k.Key[3:], k.Key + "\x00",
		"FF" + k.Key[2:], "ff_" + k.ID + "_" + strings.Repeat("0", 43), strings.Repeat("a", 1<<16), "a.b.c", adminKey[:len(adminKey)-1]}
	for i := range k.Key {
		wrong = append(wrong, flip(i))
	}
	for _, key := range wrong {
		if c, err := p.who(t, key); !errors.Is(err, api.ErrUnauthenticated) {
			t.Errorf("%.80q: %+v, %v", key, c, err)
		}
	}
	if _, err := p.who(t, k.Key); err != nil {
		t.Error(err)
	}
}

func TestAdminKeyMayLookLikeAKey(t *testing.T) {
	t.Parallel()
	shaped := "ff_000000000000_" + strings.Repeat("a", 43)
	p := start(t, servertest.Postgres(t), func(cfg *access.Config, _ *access.Deps) { cfg.AdminKey = shaped })
	if c, err := p.who(t, shaped); err != nil || !c.Admin {
		t.Errorf("got %+v, %v", c, err)
	}
	if _, err := p.who(t, adminKey); !errors.Is(err, api.ErrUnauthenticated) {
		t.Errorf("another one: %v", err)
	}
	k := p.create(t, shaped, acmeKeys)
	if _, err := p.who(t, k.Key); err != nil {
		t.Error(err)
	}
}
