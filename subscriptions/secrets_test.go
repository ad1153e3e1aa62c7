package subscriptions_test

import (
	"crypto/elliptic"
	"encoding/base64"
	"errors"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/fanfarehq/fanfare/internal/seal"
	"github.com/fanfarehq/fanfare/subscriptions"
)

// isSecret reports whether a value is a shared secret in the form in which it is stored and shown.
func isSecret(value string) bool {
	encoded, ok := strings.CutPrefix(value, "whsec_")
	raw, err := base64.StdEncoding.DecodeString(encoded)
	return ok && err == nil && len(raw) >= 24 && len(raw) <= 64
}

// The schemes of signatures.
const (
	byHMAC    = subscriptions.SignHMAC
	byEd25519 = subscriptions.SignEd25519
)

// stored saves a subscription with a secret and returns the secret as it is stored.
func (b *bundle) stored(t *testing.T, secret string, scheme subscriptions.Signing) (string, error) {
	t.Helper()
	s := plain("acme", "a")
	s.Signing, s.Secrets = scheme, []subscriptions.Secret{{Value: secret}}
	if err := b.store.Create(t.Context(), s); err != nil {
		if bad, ok := errors.AsType[*subscriptions.Invalid](err); !ok || len(bad.Faults) != 1 || bad.Faults[0].Field != "secret" {
			t.Errorf("the error is %v", err)
		}
		return "", err
	}
	read, err := b.store.Get(t.Context(), "acme", s.ID)
	if err != nil || read.Err != nil || len(read.Secrets) != 1 {
		t.Fatalf("got %+v, %v", read, err)
	}
	return read.Secrets[0].Value, nil
}

func TestSecretsMayBeSpelledInOtherWays(t *testing.T) {
	t.Parallel()
	b := setup(t)
	const (
		shared  = "whsec_+/+/+/+/+/+/+/+/+/+/+/+/+/+/+/+/+w=="
		private = "whsk_6Xb/dCcHpPea21PS1N9VY/NZW723CEc77N4rJCubMbfVKIDij2HKpMKkioLlX0dRqSKJp4AJ6p9lMicMFs6Kvg=="
	)
	for _, tt := range []struct {
		given  string
		scheme subscriptions.Signing
		want   string
	}{
		{strings.TrimRight(shared, "="), byHMAC, shared},
		{strings.NewReplacer("+", "-", "/", "_").Replace(shared), byHMAC, shared},
		{strings.NewReplacer("+", "-", "/", "_", "=", "").Replace(shared), byHMAC, shared},
		{shared[:len(shared)-1], byHMAC, ""},
		{strings.Replace(shared, "+", "-", 1), byHMAC, ""},
		{"whsec_-_-_-_-_-_-_-_-_-_-_-_-_-_-_-_-_-x", byHMAC, ""},
		{strings.NewReplacer("/", "_", "=", "").Replace(private), byEd25519, private},
		{"whsk_6Xb_dCcHpPea21PS1N9VY_NZW723CEc77N4rJCubMbc", byEd25519, private},
		{"whsk_6Xb/dCcHpPea21PS1N9VY/NZW723CEc77N4rJCubMbc=", byEd25519, private},
	} {
		got, err := b.stored(t, tt.given, tt.scheme)
		if got != tt.want || (err == nil) != (tt.want != "") {
			t.Errorf("%s: got %s, %v, want %s", tt.given, got, err, tt.want)
		}
	}
}

func TestSecretsAreJudged(t *testing.T) {
	t.Parallel()
	b := setup(t)
	of := func(n int) string { return "whsec_" + base64.StdEncoding.EncodeToString(make([]byte, n)) }
	// SW1 and SW2 are the published vectors of Standard Webhooks.
	const (
		sw1 = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
		sw2 = "whsk_6Xb/dCcHpPea21PS1N9VY/NZW723CEc77N4rJCubMbfVKIDij2HKpMKkioLlX0dRqSKJp4AJ6p9lMicMFs6Kvg=="
	)
	for _, tt := range []struct {
		value  string
		scheme subscriptions.Signing
		ok     bool
	}{
		{sw1, byHMAC, true}, {sw2, byEd25519, true}, {sw1, byEd25519, false}, {sw2, byHMAC, false},
		{of(24), byHMAC, true}, {of(64), byHMAC, true}, {of(23), byHMAC, false}, {of(65), byHMAC, false},
		{subscriptions.NewSecret(byHMAC).Value, byHMAC, true}, {subscriptions.NewSecret(byEd25519).Value, byEd25519, true},
		{"", byHMAC, false}, {"whsec_", byHMAC, false}, {"whsec_!!!!", byHMAC, false}, {sw1[6:], byHMAC, false},
		{sw1 + "\n", byHMAC, false}, {"whsk_" + base64.StdEncoding.EncodeToString(make([]byte, 64)), byEd25519, false},
		{"whsk_" + base64.StdEncoding.EncodeToString(make([]byte, 32)), byEd25519, true},
		{"whsk_" + base64.StdEncoding.EncodeToString(make([]byte, 31)), byEd25519, false},
	} {
		_, err := b.stored(t, tt.value, tt.scheme)
		if (err == nil) != tt.ok {
			t.Errorf("%s as %s: %v", tt.value, tt.scheme, err)
		}
		if err != nil && len(tt.value) > 6 && strings.Contains(err.Error(), tt.value[6:]) {
			t.Errorf("the error repeats the secret: %v", err)
		}
	}
	if got, want := (subscriptions.Secret{Value: sw2}).PublicKey(), "whpk_1SiA4o9hyqTCpIqC5V9HUakiiaeACeqfZTInDBbOir4="; got != want {
		t.Errorf("public key: got %s, want %s", got, want)
	}
	if got := (subscriptions.Secret{Value: sw1}).PublicKey(); got != "" {
		t.Errorf("a shared secret has the public key %s", got)
	}
	for _, scheme := range []subscriptions.Signing{subscriptions.SignHMAC, subscriptions.SignEd25519} {
		if one, other := subscriptions.NewSecret(scheme), subscriptions.NewSecret(scheme); one == other {
			t.Errorf("two new %s secrets are the same", scheme)
		}
	}
}

// A rotation puts a new secret in front. The one before it signs until the overlap ends; older ones keep the end of theirs.
func TestRotate(t *testing.T) {
	t.Parallel()
	b := setup(t)
	sub := plain("acme", "a")
	sub.Dialect, sub.Secrets = subscriptions.Babelfor, []subscriptions.Secret{{Value: "0"}}
	b.create(t, sub)
	read := func() []subscriptions.Secret {
		t.Helper()
		s, err := b.store.Get(t.Context(), "acme", sub.ID)
		if err != nil {
			t.Fatal(err)
		}
		return s.Secrets
	}
	rotate := func(value string, overlap time.Duration) error {
		return b.store.Rotate(t.Context(), sub, subscriptions.Secret{Value: value}, overlap)
	}
	step := func(value string, overlap time.Duration, want string) []subscriptions.Secret {
		t.Helper()
		if err := rotate(value, overlap); err != nil {
			t.Fatal(err)
		}
		secrets := read()
		if values(secrets) != want || !secrets[0].ExpiresAt.IsZero() {
			t.Errorf("got %v, want %s", secrets, want)
		}
		return secrets
	}
	before := time.Now().Truncate(time.Microsecond)
	first := step("1", time.Hour, "10")[1]
	if first.ExpiresAt.Before(before.Add(time.Hour)) || first.ExpiresAt.After(time.Now().Add(time.Hour)) {
		t.Errorf("the old one expires at %s", first.ExpiresAt)
	}
	if later := step("2", 2*time.Hour, "210"); later[2] != first {
		t.Errorf("the overlap of the oldest changed from %v to %v", first, later[2])
	}
	short := step("3", time.Millisecond, "3210")[1]
	<-time.After(time.Until(short.ExpiresAt))
	step("4", time.Hour, "4310") // 2 has expired
	step("5", 0, "5310")
	for range 7 {
		step("x", time.Hour, "x"+values(read()))
	}
	if err := rotate("y", time.Hour); !errors.Is(err, subscriptions.ErrTooManySecrets) {
		t.Errorf("the eleventh old one: %v", err)
	}
	if err := rotate("y", 0); err != nil {
		t.Errorf("no more old ones: %v", err)
	}
}

// values are the secrets in one text.
func values(secrets []subscriptions.Secret) (text string) {
	for _, s := range secrets {
		text += s.Value
	}
	return text
}

func TestSealedSecretsAreBoundToTheirRow(t *testing.T) {
	t.Parallel()
	b := setup(t)
	certificate, key := identity(t, ecdsaKey(t, elliptic.P256()), time.Now().Add(time.Hour))
	s := plain("acme", "a")
	s.Secrets = []subscriptions.Secret{subscriptions.NewSecret(subscriptions.SignHMAC)}
	s.Auth = &subscriptions.Auth{Type: subscriptions.AuthBearer, Token: "whsec_token"}
	s.Certificate = &subscriptions.ClientCertificate{Certificate: certificate, Key: key}
	b.create(t, s)
	var sealed []byte
	if err := b.db.QueryRow(`SELECT secrets FROM subscriptions`).Scan(&sealed); err != nil {
		t.Fatal(err)
	}
	if len(sealed) == 0 || strings.Contains(string(sealed), "whsec_") || strings.Contains(string(sealed), "PRIVATE KEY") {
		t.Errorf("a secret can be read in the sealed bytes: %q", sealed)
	}
	get := func(store *subscriptions.Store, tenant string, id uuid.UUID) *subscriptions.Subscription {
		t.Helper()
		read, err := store.Get(t.Context(), tenant, id)
		if err != nil {
			t.Fatal(err)
		}
		return read
	}
	if got := get(b.store, "acme", s.ID); got.Err != nil || !reflect.DeepEqual(got, s) {
		t.Errorf("got %+v, want %+v", got, s)
	}
	other, err := seal.ParseRing(seal.NewKey())
	if err != nil {
		t.Fatal(err)
	}
	got := get(subscriptions.New(b.db, other, policy), "acme", s.ID)
	if !errors.Is(got.Err, seal.ErrUnknownKey) || got.Secrets != nil || got.Auth != nil {
		t.Errorf("with another ring: %+v", got)
	}
	moved := uuid.Must(uuid.NewV7())
	for _, move := range []struct {
		to     string
		tenant string
		id     uuid.UUID
	}{{"another tenant", "globex", s.ID}, {"another id", "acme", moved}} {
		if _, err := b.db.Exec(`UPDATE subscriptions SET tenant = $1, id = $2`, move.tenant, move.id); err != nil {
			t.Fatal(err)
		}
		got := get(b.store, move.tenant, move.id)
		if !errors.Is(got.Err, seal.ErrCorrupt) || got.Secrets != nil || got.Auth != nil || got.Certificate != nil {
			t.Errorf("moved to %s: %+v", move.to, got)
		}
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
	as := func(ring string) *subscriptions.Store { return subscriptions.New(b.db, rings[ring], policy) }
	ctx := t.Context()
	const n = 503 // it reads 500 at once
	if _, err := as(oldKey).CreateMany(ctx, many(n, 10)); err != nil {
		t.Fatal(err)
	}
	list, err := as(oldKey).List(ctx, subscriptions.Query{Limit: 1})
	if err != nil {
		t.Fatal(err)
	}
	before := list[0]
	id, _, _ := strings.Cut(oldKey, ":")
	var missing *subscriptions.KeyError
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
	store := subscriptions.New(b.db, ring, policy)
	done, err := store.Rekey(t.Context(), nil)
	if done != 0 || !errors.Is(err, seal.ErrUnknownKey) {
		t.Errorf("rekeyed %d, %v", done, err)
	}
	if s, err := b.store.Get(t.Context(), "acme", fine.ID); err != nil || s.Err != nil {
		t.Errorf("the fine one: %+v, %v", s, err)
	}
}
