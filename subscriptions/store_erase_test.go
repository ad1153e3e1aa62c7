package subscriptions_test

import (
	"testing"
	"time"

	"github.com/fanfarehq/fanfare/subscriptions"
)

func TestEraseTenant(t *testing.T) {
	t.Parallel()
	b := setup(t)
	mine, other := b.create(t, plain("acme", "a")), b.create(t, plain("globex", "a"))
	for _, tenant := range []string{"acme", "globex", ""} {
		if err := b.store.CreateEventType(t.Context(), &subscriptions.EventType{Tenant: tenant, Name: "a"}); err != nil {
			t.Fatal(err)
		}
	}
	b.fresh(t)
	for range 2 {
		if err := b.store.EraseTenant(t.Context(), "acme"); err != nil {
			t.Fatal(err)
		}
	}
	b.fresh(t)
	if _, ok := b.dir.Get(mine.ID); ok {
		t.Error("the tenant's subscription is there still")
	}
	if _, ok := b.dir.Get(other.ID); !ok {
		t.Error("another tenant's subscription is gone")
	}
	if s := b.dir.Stats(); s.Subscriptions != 1 || s.Tenants != 1 || s.EventTypes != 2 {
		t.Errorf("got %+v", s)
	}
}

// A tenant of more subscriptions than one statement removes is erased, and its tombstones are swept.
func TestALargeTenantIsErasedInChunks(t *testing.T) {
	t.Parallel()
	b := setup(t)
	const n = 2*1000 + 1 // a statement removes 1000
	many := func(yield func(*subscriptions.Subscription) bool) {
		for range n {
			if !yield(plain("acme", "a")) {
				return
			}
		}
	}
	if _, err := b.store.CreateMany(t.Context(), many); err != nil {
		t.Fatal(err)
	}
	other := b.create(t, plain("globex", "a"))
	if err := b.store.EraseTenant(t.Context(), "acme"); err != nil {
		t.Fatal(err)
	}
	b.fresh(t)
	if _, ok := b.dir.Get(other.ID); !ok || b.dir.Stats().Subscriptions != 1 {
		t.Errorf("got %+v, want the other tenant's subscription", b.dir.Stats())
	}
	if _, err := b.db.ExecContext(t.Context(), `UPDATE subscriptions SET updated_at = now() - interval '2 days' WHERE deleted`); err != nil {
		t.Fatal(err)
	}
	if swept, err := b.store.Sweep(t.Context(), time.Hour); swept != n || err != nil {
		t.Errorf("swept %d, %v, want %d", swept, err, n)
	}
}

func TestSweepMovesTheHorizon(t *testing.T) {
	t.Parallel()
	b := setup(t)
	kept, gone := b.create(t, plain("acme", "a")), b.create(t, plain("acme", "a"))
	late := b.directory()
	if _, err := late.Fresh(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := b.store.Delete(t.Context(), "acme", gone.ID); err != nil {
		t.Fatal(err)
	}
	if n, err := b.store.Sweep(t.Context(), 0); err != nil || n != 0 {
		t.Errorf("a young tombstone: swept %d, %v", n, err)
	}
	if _, err := b.db.Exec(`UPDATE subscriptions SET updated_at = now() - interval '2 hours' WHERE deleted`); err != nil {
		t.Fatal(err)
	}
	if n, err := b.store.Sweep(t.Context(), 0); err != nil || n != 1 {
		t.Errorf("an old tombstone: swept %d, %v", n, err)
	}
	if n, err := b.store.Sweep(t.Context(), 0); err != nil || n != 0 {
		t.Errorf("again: swept %d, %v", n, err)
	}
	if _, ok := late.Get(gone.ID); !ok {
		t.Fatal("the late directory cannot know yet")
	}
	if _, err := late.Fresh(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, ok := late.Get(gone.ID); ok {
		t.Error("the late directory never learns of the deletion")
	}
	if _, ok := late.Get(kept.ID); !ok {
		t.Error("the late directory lost what is left")
	}
}

func TestDatabaseThatWasSetBack(t *testing.T) {
	t.Parallel()
	b := setup(t)
	made := b.create(t, plain("acme", "a"))
	revision := b.fresh(t)
	if _, err := b.db.Exec(`DELETE FROM subscriptions; UPDATE revision SET value = 0`); err != nil {
		t.Fatal(err)
	}
	if err := b.dir.AtLeast(t.Context(), revision+10); err != nil {
		t.Errorf("AtLeast a revision that is no more: %v", err)
	}
	if _, ok := b.dir.Get(made.ID); ok {
		t.Error("the directory has what the database lost")
	}
}
