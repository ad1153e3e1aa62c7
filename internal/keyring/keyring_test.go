package keyring_test

import (
	"bytes"
	"errors"
	"strings"
	"testing"

	"github.com/fanfarehq/fanfare/internal/keyring"
	"github.com/fanfarehq/fanfare/internal/seal"
	"github.com/fanfarehq/fanfare/internal/servertest"
)

// key makes an entry of a ring whose bytes are all b.
func key(id string, b byte) string {
	return id + ":" + strings.Repeat(string(rune(b)), 42) + "A="
}

func ring(t *testing.T, entries ...string) *seal.Ring {
	t.Helper()
	r, err := seal.ParseRing(strings.Join(entries, ","))
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// What a deployment derives stays the same over a rotation, and a process with other bytes under an id is refused.
func TestKeyring(t *testing.T) {
	t.Parallel()
	db := servertest.Postgres(t)
	of := func(entries ...string) *keyring.Keyring { return keyring.New(db, ring(t, entries...)) }
	k1, k2, other := key("k1", 'A'), key("k2", 'B'), key("k2", 'C')
	first, err := of(k1).Secret(t.Context(), "a test")
	if err != nil {
		t.Fatal(err)
	}
	for _, k := range []*keyring.Keyring{of(k1), of(k2, k1)} {
		if err := k.Check(t.Context()); err != nil {
			t.Fatal(err)
		}
		if got, err := k.Secret(t.Context(), "a test"); err != nil || !bytes.Equal(got, first) {
			t.Errorf("the secret is %x, %v, want %x", got, err, first)
		}
		if got, err := k.Secret(t.Context(), "another"); err != nil || bytes.Equal(got, first) {
			t.Errorf("two purposes have one secret: %v", err)
		}
	}
	if err := of(k1, other).Check(t.Context()); !errors.Is(err, keyring.ErrWrongKey) || !strings.Contains(err.Error(), `"k2"`) {
		t.Errorf("other bytes under the id k2: %v, want %v", err, keyring.ErrWrongKey)
	}
	if err := of(k2, k1).KeepPepper(t.Context(), "k1", []byte("pepper")); err != nil {
		t.Fatal(err)
	}
	if _, err := of(k2).Secret(t.Context(), "a test"); !errors.Is(err, seal.ErrUnknownKey) {
		t.Errorf("before Rekey, without the older key: %v, want %v", err, seal.ErrUnknownKey)
	}
	if done, err := of(k2, k1).Rekey(t.Context()); err != nil || done != 1 { // The pepper is by k2 already.
		t.Errorf("Rekey: %d, %v", done, err)
	}
	after := of(k2)
	if got, err := after.Secret(t.Context(), "a test"); err != nil || !bytes.Equal(got, first) {
		t.Errorf("after Rekey, the secret is %x, %v, want %x", got, err, first)
	}
	if got, err := after.Peppers(t.Context()); err != nil || string(got["k1"]) != "pepper" {
		t.Errorf("after Rekey, the peppers are %q, %v", got, err)
	}
	// The id of a key that has left the ring may be used again.
	if _, err := after.Rekey(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := of(k2, key("k1", 'D')).Check(t.Context()); err != nil {
		t.Errorf("another key k1, after the first one has left: %v", err)
	}
}
