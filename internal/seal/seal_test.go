package seal_test

import (
	"bytes"
	"encoding/base64"
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/fanfarehq/fanfare/internal/seal"
)

// key is a ring's entry of 32 equal bytes.
func key(id string, b byte) string {
	return id + ":" + base64.StdEncoding.EncodeToString(bytes.Repeat([]byte{b}, 32))
}

func parse(t testing.TB, s string) *seal.Ring {
	t.Helper()
	ring, err := seal.ParseRing(s)
	if err != nil {
		t.Fatal(err)
	}
	return ring
}

func mustSeal(t testing.TB, ring *seal.Ring, plain, aad string) []byte {
	t.Helper()
	sealed, err := ring.Seal([]byte(plain), []byte(aad))
	if err != nil {
		t.Fatal(err)
	}
	return sealed
}

func TestOpenGivesWhatWasSealed(t *testing.T) {
	t.Parallel()
	ring := parse(t, key("k1", 1))
	for _, plain := range []string{"", "x", "whsec_c2VjcmV0", strings.Repeat("long", 10000)} {
		for _, aad := range []string{"", "subscriptions/1"} {
			sealed := mustSeal(t, ring, plain, aad)
			if plain != "" && len(plain) > 4 && bytes.Contains(sealed, []byte(plain)) {
				t.Error("the secret can be read in what is sealed")
			}
			got, err := ring.Open(sealed, []byte(aad))
			if err != nil || string(got) != plain {
				t.Errorf("got %d bytes, error %v, want %d", len(got), err, len(plain))
			}
		}
	}
	if bytes.Equal(mustSeal(t, ring, "same", "row"), mustSeal(t, ring, "same", "row")) {
		t.Error("the same secret is sealed to the same bytes twice")
	}
}

func TestOpenRefusesEveryChange(t *testing.T) {
	t.Parallel()
	ring := parse(t, key("k1", 1)+","+key("k2", 2))
	sealed := mustSeal(t, ring, "secret", "row 1")
	refused := func(what string, sealed []byte, aad string) {
		t.Helper()
		plain, err := ring.Open(sealed, []byte(aad))
		if !errors.Is(err, seal.ErrCorrupt) && !errors.Is(err, seal.ErrUnknownKey) || plain != nil {
			t.Errorf("%s: got %q, error %v", what, plain, err)
		}
	}
	for i := range sealed {
		for bit := range 8 {
			changed := slices.Clone(sealed)
			changed[i] ^= 1 << bit
			refused("a bit changed", changed, "row 1")
		}
		refused("cut", sealed[:i], "row 1")
		refused("cut at the start", sealed[i+1:], "row 1")
	}
	refused("longer", append(slices.Clone(sealed), 0), "row 1")
	refused("of another row", sealed, "row 2")
	refused("of no row", sealed, "")
	refused("nothing", nil, "")

	// The header counts as well: the same bytes under another key's id.
	other := slices.Clone(sealed)
	copy(other[2:], "k2")
	refused("another key's id", other, "row 1")
	// Bytes cannot move between the header and what they are bound to.
	moved := append([]byte{1, 1, 'k'}, sealed[4:]...)
	refused("a shorter id", moved, "1row 1")
}

func TestRotation(t *testing.T) {
	t.Parallel()
	before, during, after := parse(t, key("old", 1)), parse(t, key("new", 2)+" , "+key("old", 1)), parse(t, key("new", 2))
	sealed := mustSeal(t, before, "secret", "row")
	if got, err := during.Open(sealed, []byte("row")); err != nil || string(got) != "secret" {
		t.Errorf("during the rotation: got %q, error %v", got, err)
	}
	id, err := during.KeyID(sealed)
	if err != nil || id != "old" || id == during.Current() || !during.Has(id) || after.Has(id) {
		t.Errorf("got key %q, error %v", id, err)
	}
	_, err = after.Open(sealed, []byte("row"))
	if !errors.Is(err, seal.ErrUnknownKey) || !strings.Contains(err.Error(), `"old"`) {
		t.Errorf("after it: got %v", err)
	}
	again := mustSeal(t, during, "secret", "row")
	if got, err := after.Open(again, []byte("row")); err != nil || string(got) != "secret" {
		t.Errorf("sealed anew: got %q, error %v", got, err)
	}
	// A key of the same id that is another key.
	if _, err := parse(t, key("old", 9)).Open(sealed, []byte("row")); !errors.Is(err, seal.ErrCorrupt) {
		t.Errorf("another key: got %v", err)
	}
}

func TestParseRing(t *testing.T) {
	t.Parallel()
	secret := base64.StdEncoding.EncodeToString(bytes.Repeat([]byte{0xfb}, 32)) // with + and /
	urlSafe := base64.RawURLEncoding.EncodeToString(bytes.Repeat([]byte{0xfb}, 32))
	for _, good := range []string{
		"k:" + secret, "k:" + urlSafe, " k:" + secret + " ,\n k-2_B:" + urlSafe, seal.NewKey(), seal.NewKey() + "," + seal.NewKey(),
	} {
		if _, err := seal.ParseRing(good); err != nil {
			t.Errorf("got %v", err)
		}
	}
	for _, bad := range []string{
		"", ",", secret, ":" + secret, "k:", "k:" + secret[:20], "k:" + secret + secret, "k:!" + secret[1:], "k k:" + secret,
		"k:" + secret + ",", "k:" + secret + ",k:" + urlSafe, strings.Repeat("k", 65) + ":" + secret, "é:" + secret,
		"k:" + secret[:42] + "1=", // bits after the last byte
	} {
		_, err := seal.ParseRing(bad)
		if err == nil {
			t.Errorf("%q was taken", bad)
			continue
		}
		if strings.Contains(err.Error(), secret[:8]) || strings.Contains(err.Error(), urlSafe[:8]) {
			t.Errorf("the error holds the key: %v", err)
		}
	}
}

func TestNewKeysDiffer(t *testing.T) {
	t.Parallel()
	if a, b := seal.NewKey(), seal.NewKey(); a == b {
		t.Errorf("got %s twice", a)
	}
}

func FuzzOpen(f *testing.F) {
	ring := parse(f, key("k1", 1)+","+key("k2", 2))
	f.Add([]byte{}, []byte{})
	f.Add([]byte{1, 2, 'k', '1'}, []byte("row"))
	f.Add(bytes.Repeat([]byte{1}, 60), []byte("row"))
	f.Add(mustSeal(f, ring, "secret", "row")[:40], []byte("row"))
	f.Fuzz(func(t *testing.T, sealed, aad []byte) {
		// Nobody without a key makes bytes that open.
		plain, err := ring.Open(sealed, aad)
		if err == nil || plain != nil || !errors.Is(err, seal.ErrCorrupt) && !errors.Is(err, seal.ErrUnknownKey) {
			t.Errorf("got %q, error %v", plain, err)
		}
		again := mustSeal(t, ring, string(sealed), string(aad))
		if plain, err := ring.Open(again, aad); err != nil || !bytes.Equal(plain, sealed) {
			t.Errorf("sealed and opened: got %q, error %v", plain, err)
		}
	})
}

func FuzzParseRing(f *testing.F) {
	f.Add(key("k1", 1))
	f.Add("k:AAAA,k:")
	f.Fuzz(func(t *testing.T, s string) {
		ring, err := seal.ParseRing(s)
		if err != nil {
			return
		}
		if !ring.Has(ring.Current()) {
			t.Error("the ring lacks its own key")
		}
	})
}

// A ring counts what it does not open, and reports a key that it lacks.
func TestRingReportsWhatDoesNotOpen(t *testing.T) {
	t.Parallel()
	own, other := parse(t, seal.NewKey()), parse(t, seal.NewKey())
	sealed, err := own.Seal([]byte("x"), []byte("row"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := own.Open(sealed, []byte("another row")); !errors.Is(err, seal.ErrCorrupt) || own.Trouble() != nil {
		t.Errorf("damaged bytes: %v, trouble %v", err, own.Trouble())
	}
	if _, err := other.Open(sealed, []byte("row")); !errors.Is(err, seal.ErrUnknownKey) || !errors.Is(other.Trouble(), seal.ErrUnknownKey) {
		t.Errorf("an unknown key: %v, trouble %v", err, other.Trouble())
	}
	if unknown, damaged := own.Failures(); unknown != 0 || damaged != 1 {
		t.Errorf("counted %d unknown and %d damaged, want 0 and 1", unknown, damaged)
	}
	if unknown, damaged := other.Failures(); unknown != 1 || damaged != 0 {
		t.Errorf("counted %d unknown and %d damaged, want 1 and 0", unknown, damaged)
	}
}
