package subscriptions

import (
	"encoding/base64"
	"errors"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/fanfarehq/fanfare/internal/seal"
)

func isSecret(value string) bool {
	stored, err := readSecret(value, SignHMAC)
	return err == nil && stored == value
}

func TestReadSecretTakesOtherSpellings(t *testing.T) {
	t.Parallel()
	const (
		shared  = "whsec_+/+/+/+/+/+/+/+/+/+/+/+/+/+/+/+/+w=="
		private = "whsk_6Xb/dCcHpPea21PS1N9VY/NZW723CEc77N4rJCubMbfVKIDij2HKpMKkioLlX0dRqSKJp4AJ6p9lMicMFs6Kvg=="
	)
	for _, tt := range []struct {
		given  string
		scheme Signing
		want   string
	}{
		{strings.TrimRight(shared, "="), SignHMAC, shared},
		{strings.NewReplacer("+", "-", "/", "_").Replace(shared), SignHMAC, shared},
		{strings.NewReplacer("+", "-", "/", "_", "=", "").Replace(shared), SignHMAC, shared},
		{shared[:len(shared)-1], SignHMAC, ""},
		{strings.Replace(shared, "+", "-", 1), SignHMAC, ""},
		{"whsec_-_-_-_-_-_-_-_-_-_-_-_-_-_-_-_-_-x", SignHMAC, ""},
		{strings.NewReplacer("/", "_", "=", "").Replace(private), SignEd25519, private},
		{"whsk_6Xb_dCcHpPea21PS1N9VY_NZW723CEc77N4rJCubMbc", SignEd25519, private},
		{"whsk_6Xb/dCcHpPea21PS1N9VY/NZW723CEc77N4rJCubMbc=", SignEd25519, private},
	} {
		got, err := readSecret(tt.given, tt.scheme)
		if got != tt.want || (err == nil) != (tt.want != "") {
			t.Errorf("%s: got %s, %v, want %s", tt.given, got, err, tt.want)
		}
	}
}

func TestReadSecret(t *testing.T) {
	t.Parallel()
	of := func(n int) string { return "whsec_" + base64.StdEncoding.EncodeToString(make([]byte, n)) }
	// SW1 and SW2 are the published vectors of Standard Webhooks.
	const (
		sw1 = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
		sw2 = "whsk_6Xb/dCcHpPea21PS1N9VY/NZW723CEc77N4rJCubMbfVKIDij2HKpMKkioLlX0dRqSKJp4AJ6p9lMicMFs6Kvg=="
	)
	for _, tt := range []struct {
		value  string
		scheme Signing
		ok     bool
	}{
		{sw1, SignHMAC, true}, {sw2, SignEd25519, true}, {sw1, SignEd25519, false}, {sw2, SignHMAC, false},
		{of(24), SignHMAC, true}, {of(64), SignHMAC, true}, {of(23), SignHMAC, false}, {of(65), SignHMAC, false},
		{NewSecret(SignHMAC).Value, SignHMAC, true}, {NewSecret(SignEd25519).Value, SignEd25519, true},
		{"", SignHMAC, false}, {"whsec_", SignHMAC, false}, {"whsec_!!!!", SignHMAC, false}, {sw1[6:], SignHMAC, false},
		{sw1 + "\n", SignHMAC, false}, {"whsk_" + base64.StdEncoding.EncodeToString(make([]byte, 64)), SignEd25519, false},
		{"whsk_" + base64.StdEncoding.EncodeToString(make([]byte, 32)), SignEd25519, true},
		{"whsk_" + base64.StdEncoding.EncodeToString(make([]byte, 31)), SignEd25519, false},
	} {
		_, err := readSecret(tt.value, tt.scheme)
		if (err == nil) != tt.ok {
			t.Errorf("%s as %s: %v", tt.value, tt.scheme, err)
		}
		if err != nil && len(tt.value) > 6 && strings.Contains(err.Error(), tt.value[6:]) {
			t.Errorf("the error repeats the secret: %v", err)
		}
	}
	if got, want := (Secret{Value: sw2}).PublicKey(), "whpk_1SiA4o9hyqTCpIqC5V9HUakiiaeACeqfZTInDBbOir4="; got != want {
		t.Errorf("public key: got %s, want %s", got, want)
	}
	if got := (Secret{Value: sw1}).PublicKey(); got != "" {
		t.Errorf("a shared secret has the public key %s", got)
	}
	for _, scheme := range []Signing{SignHMAC, SignEd25519} {
		if one, other := NewSecret(scheme), NewSecret(scheme); one == other {
			t.Errorf("two new %s secrets are the same", scheme)
		}
	}
}

func TestRotate(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	secrets := []Secret{{Value: "0"}}
	values := func() (s string) {
		for _, v := range secrets {
			s += v.Value
		}
		return s
	}
	step := func(value string, overlap time.Duration, want string) {
		t.Helper()
		var err error
		if secrets, err = rotate(secrets, Secret{Value: value}, overlap, now); err != nil {
			t.Fatal(err)
		}
		if values() != want || !secrets[0].ExpiresAt.IsZero() {
			t.Errorf("got %v, want %s", secrets, want)
		}
	}
	step("1", time.Hour, "10")
	if !secrets[1].ExpiresAt.Equal(now.Add(time.Hour)) {
		t.Errorf("the old one expires at %s", secrets[1].ExpiresAt)
	}
	now = now.Add(30 * time.Minute)
	step("2", time.Hour, "210") // the overlap of 0 is its own still
	now = now.Add(45 * time.Minute)
	step("3", time.Hour, "321")
	step("4", 0, "421")
	for range 8 {
		step("x", time.Hour, "x"+values())
	}
	if _, err := rotate(secrets, Secret{Value: "y"}, time.Hour, now); !errors.Is(err, ErrTooManySecrets) {
		t.Errorf("the eleventh old one: %v", err)
	}
	if _, err := rotate(secrets, Secret{Value: "y"}, 0, now); err != nil {
		t.Errorf("no more old ones: %v", err)
	}
}

func TestSealedSecretsAreBoundToTheirRow(t *testing.T) {
	t.Parallel()
	ring, err := seal.ParseRing(seal.NewKey())
	if err != nil {
		t.Fatal(err)
	}
	s := &Subscription{ID: uuid.Must(uuid.NewV7()), Tenant: "acme", Secrets: []Secret{NewSecret(SignHMAC), {Value: "old", ExpiresAt: time.Unix(1, 0).UTC()}},
		Auth: &Auth{Type: AuthBearer, Token: "whsec_token"}, Certificate: &ClientCertificate{Certificate: "c", Key: "whsec_key"}}
	sealed, err := sealSecrets(ring, s)
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(string(sealed), "whsec_") {
		t.Error("a secret can be read in the sealed bytes")
	}
	opened, err := openSecrets(ring, sealed, s.Tenant, s.ID)
	if err != nil || !reflect.DeepEqual(opened, confidentialOf(s)) {
		t.Errorf("got %v, %v", opened, err)
	}
	if _, err := openSecrets(ring, sealed, "globex", s.ID); !errors.Is(err, seal.ErrCorrupt) {
		t.Errorf("another tenant's row: %v", err)
	}
	if _, err := openSecrets(ring, sealed, s.Tenant, uuid.Nil); !errors.Is(err, seal.ErrCorrupt) {
		t.Errorf("another row: %v", err)
	}
	other, err := seal.ParseRing(seal.NewKey())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := openSecrets(other, sealed, s.Tenant, s.ID); !errors.Is(err, seal.ErrUnknownKey) {
		t.Errorf("another ring: %v", err)
	}
}

func TestRekey(t *testing.T) {
	t.Parallel()
	b := setup(t)
	oldKey, newKey := seal.NewKey(), seal.NewKey()
	rings := map[string]*seal.Ring{}
	for _, s := range []string{oldKey, newKey, newKey + "," + oldKey} {
		ring, err := seal.ParseRing(s)
		if err != nil {
			t.Fatal(err)
		}
		rings[s] = ring
	}
	as := func(ring string) *Store { return New(b.db, rings[ring], b.store.policy) }
	ctx := t.Context()
	const n = rekeyChunk + 3
	if _, err := as(oldKey).CreateMany(ctx, many(n, 10)); err != nil {
		t.Fatal(err)
	}
	list, err := as(oldKey).List(ctx, Query{Limit: 1})
	if err != nil {
		t.Fatal(err)
	}
	before := list[0]
	id, _, _ := strings.Cut(oldKey, ":")
	var missing *KeyError
	if err := as(newKey).CheckKeys(ctx); !errors.As(err, &missing) || missing.Rows[id] != n || !strings.Contains(err.Error(), id) {
		t.Errorf("keys missing: got %v", err)
	}
	if err := as(newKey + "," + oldKey).CheckKeys(ctx); err != nil {
		t.Errorf("with both keys: %v", err)
	}
	calls := 0
	done, err := as(newKey+","+oldKey).Rekey(ctx, func(int) { calls++ })
	if err != nil || done != n || calls != 2 {
		t.Errorf("rekeyed %d in %d calls, %v", done, calls, err)
	}
	if done, err = as(newKey+","+oldKey).Rekey(ctx, nil); err != nil || done != 0 {
		t.Errorf("again: rekeyed %d, %v", done, err)
	}
	if err := as(newKey).CheckKeys(ctx); err != nil {
		t.Errorf("without the old key: %v", err)
	}
	after, err := as(newKey).Get(ctx, before.Tenant, before.ID)
	if err != nil || after.Err != nil || after.Secrets[0] != before.Secrets[0] || after.Revision != before.Revision {
		t.Errorf("got %+v, %v\nwant %+v", after, err, before)
	}
}

func TestRekeyLeavesWhatDoesNotOpen(t *testing.T) {
	t.Parallel()
	b := setup(t)
	fine, broken := b.create(t, plain("acme", "a")), b.create(t, plain("acme", "a"))
	if _, err := b.db.Exec(`UPDATE subscriptions SET secrets = (SELECT secrets FROM subscriptions WHERE id = $2) WHERE id = $1`, broken.ID, fine.ID); err != nil {
		t.Fatal(err)
	}

	ring, err := seal.ParseRing(seal.NewKey())
	if err != nil {
		t.Fatal(err)
	}
	store := New(b.db, ring, b.store.policy)
	done, err := store.Rekey(t.Context(), nil)
	if done != 0 || !errors.Is(err, seal.ErrUnknownKey) {
		t.Errorf("rekeyed %d, %v", done, err)
	}
	if s, err := b.store.Get(t.Context(), "acme", fine.ID); err != nil || s.Err != nil {
		t.Errorf("the fine one: %+v, %v", s, err)
	}
}
