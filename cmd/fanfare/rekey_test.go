package main

import (
	"log/slog"
	"testing"

	"github.com/google/uuid"

	"github.com/fanfarehq/fanfare/internal/egress"
	"github.com/fanfarehq/fanfare/internal/postgres"
	"github.com/fanfarehq/fanfare/internal/seal"
	"github.com/fanfarehq/fanfare/internal/servertest"
	"github.com/fanfarehq/fanfare/internal/tenantkeys"
	"github.com/fanfarehq/fanfare/subscriptions"
)

// `fanfare rekey` encrypts what is stored with the first key, so that the older one may go.
func TestRekeyCommand(t *testing.T) {
	t.Parallel()
	url := servertest.PostgresURL(t)
	db, err := postgres.Open(t.Context(), url, 4)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = db.Close() })
	store := func(keys string) *subscriptions.Store {
		ring, err := seal.ParseRing(keys)
		if err != nil {
			t.Fatal(err)
		}
		return subscriptions.New(db, ring, egress.Policy{})
	}
	older, newer := seal.NewKey(), seal.NewKey()
	sub := &subscriptions.Subscription{Tenant: "acme", Name: "s", URL: "https://example.com/", EventTypes: []string{"*"}}
	if err := store(older).Create(t.Context(), sub); err != nil {
		t.Fatal(err)
	}
	if err := store(newer).CheckKeys(t.Context()); err == nil {
		t.Fatal("the secret opens without its key")
	}
	keys := func(ring string) *tenantkeys.Keys {
		parsed, err := seal.ParseRing(ring)
		if err != nil {
			t.Fatal(err)
		}
		k, err := tenantkeys.New(db, parsed, slog.New(slog.DiscardHandler))
		if err != nil {
			t.Fatal(err)
		}
		return k
	}
	place := tenantkeys.Place{Tenant: "acme", ID: uuid.Must(uuid.NewV7()), What: "event"}
	sealed, err := keys(older).Seal(t.Context(), place, []byte("data"))
	if err != nil {
		t.Fatal(err)
	}
	env := []string{"FANFARE_POSTGRES_URL=" + url, "FANFARE_SECRET_KEYS=" + newer + "," + older}
	if p := start(t, dataDir(t), env, "rekey"); p.exitCode() != exitOK {
		t.Fatalf("rekey: %s", p.out)
	}
	if err := store(newer).CheckKeys(t.Context()); err != nil {
		t.Errorf("after rekey, with the newer key alone: %v", err)
	}
	if plain, err := keys(newer).Open(t.Context(), place, sealed); err != nil || string(plain) != "data" {
		t.Errorf("after rekey, sealed data opens as %q, %v", plain, err)
	}
	got, err := store(newer).Get(t.Context(), "acme", sub.ID)
	if err != nil || got.Err != nil || got.Secrets[0] != sub.Secrets[0] {
		t.Errorf("the subscription is %+v, %v", got, err)
	}
}
