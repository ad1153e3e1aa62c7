package subscriptions_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/fanfarehq/fanfare/internal/egress"
	"github.com/fanfarehq/fanfare/internal/event"
	"github.com/fanfarehq/fanfare/internal/postgres"
	"github.com/fanfarehq/fanfare/internal/seal"
	"github.com/fanfarehq/fanfare/internal/servertest"
	"github.com/fanfarehq/fanfare/subscriptions"
)

// Whatever a change returned is in what each Directory matches next, while others change things as well.
func TestReadYourWrites(t *testing.T) {
	t.Parallel()
	b := setup(t)
	dirs := []*subscriptions.Directory{b.dir, b.directory()}
	const writers, rounds = 6, 60
	var wg sync.WaitGroup
	for w := range writers {
		wg.Go(func() {
			tenant := fmt.Sprintf("tenant%d", w%2)
			eventType := fmt.Sprintf("type%d.a", w)
			if err := writeAndRead(t.Context(), b.store, dirs, plain(tenant, eventType), rounds); err != nil {
				t.Errorf("writer %d: %v", w, err)
			}
		})
	}
	wg.Wait()
	for i, d := range dirs {
		revision, err := d.Fresh(t.Context())
		if stats := d.Stats(); err != nil || stats.Subscriptions != writers || stats.Revision != revision {
			t.Errorf("directory %d at the end: %+v, revision %d, %v", i, stats, revision, err)
		}
	}
}

// writeAndRead changes one subscription again and again and matches after each change.
func writeAndRead(ctx context.Context, store *subscriptions.Store, dirs []*subscriptions.Directory, s *subscriptions.Subscription, rounds int) error {
	eventType := s.EventTypes[0]
	if err := store.Create(ctx, s); err != nil {
		return err
	}
	for round := range rounds {
		want := true
		var err error
		switch rand.IntN(6) {
		case 0:
			s.EventTypes = []string{"another"}
			err, want = store.Update(ctx, s), false
		case 1:
			s.EventTypes = []string{"*.a"}
			err = store.Update(ctx, s)
		case 2:
			s.EventTypes = []string{eventType}
			s.Filter = "event.data.n == 1"
			err, want = store.Update(ctx, s), false
		case 3:
			_, err = store.Disable(ctx, s.ID, s.Revision, subscriptions.Manual)
			want = false
		case 4:
			if err = store.Delete(ctx, s.Tenant, s.ID); err == nil {
				if err = matches(ctx, dirs, s, eventType, false); err != nil {
					return fmt.Errorf("round %d, after delete: %w", round, err)
				}
				s = plain(s.Tenant, eventType)
				err = store.Create(ctx, s)
			}
		default:
			s.EventTypes, s.Filter = []string{"*"}, ""
			err = store.Update(ctx, s)
		}
		if err != nil {
			return err
		}
		if s.Filter != "" {
			want = false
		}
		if err := matches(ctx, dirs, s, eventType, want); err != nil {
			return fmt.Errorf("round %d: %w", round, err)
		}
		if s, err = store.Enable(ctx, s.Tenant, s.ID); err != nil {
			return err
		}
	}
	return nil
}

// matches asks every Directory at once whether s receives an event.
func matches(ctx context.Context, dirs []*subscriptions.Directory, s *subscriptions.Subscription, eventType string, want bool) error {
	errs := make([]error, len(dirs))
	var wg sync.WaitGroup
	for i, d := range dirs {
		wg.Go(func() {
			fresh, err := d.Fresh(ctx)
			if err != nil {
				errs[i] = err
				return
			}
			matched, revision := d.Match(&event.Event{Tenant: s.Tenant, Type: eventType, Data: []byte(`{"n": 2}`)})
			got := slices.ContainsFunc(matched, func(m *subscriptions.Subscription) bool { return m.ID == s.ID })
			if got != want || revision < fresh || fresh < s.Revision {
				errs[i] = fmt.Errorf("directory %d at revision %d (fresh %d, written %d): matches %s %t, want %t",
					i, revision, fresh, s.Revision, s.EventTypes, got, want)
			}
		})
	}
	wg.Wait()
	return errors.Join(errs...)
}

func TestAtLeast(t *testing.T) {
	t.Parallel()
	b := setup(t)
	made := b.create(t, plain("acme", "a"))
	if err := b.dir.AtLeast(t.Context(), made.Revision); err != nil {
		t.Fatal(err)
	}
	if _, ok := b.dir.Get(made.ID); !ok {
		t.Error("does not know what it is at least at")
	}
	known, _ := b.dir.Revision()
	b.db.Close()
	if err := b.dir.AtLeast(t.Context(), known); err != nil {
		t.Errorf("what is known needs no database: %v", err)
	}
	if err := b.dir.AtLeast(t.Context(), known+1); err == nil {
		t.Error("what is not known needs the database")
	}
}

func TestGetHandsOutTheSamePointerUntilItChanges(t *testing.T) {
	t.Parallel()
	b := setup(t)
	made := b.create(t, plain("acme", "a"))
	b.fresh(t)
	first, _ := b.dir.Get(made.ID)
	b.create(t, plain("acme", "b"))
	b.fresh(t)
	second, _ := b.dir.Get(made.ID)
	if first != second {
		t.Error("another pointer though nothing changed")
	}
	made.Description = "changed"
	if err := b.store.Update(t.Context(), made); err != nil {
		t.Fatal(err)
	}
	b.fresh(t)
	third, _ := b.dir.Get(made.ID)
	if third == second || third.Revision != made.Revision {
		t.Error("the same pointer though it changed")
	}
	matched, _ := b.dir.Match(&event.Event{Tenant: "acme", Type: "a"})
	if len(matched) != 1 || matched[0] != third {
		t.Error("Match makes another one than Get holds")
	}
}

// A secret that does not open concerns its own subscription only.
func TestASecretThatDoesNotOpen(t *testing.T) {
	t.Parallel()
	b := setup(t)
	broken, swapped, fine := b.create(t, plain("acme", "a")), b.create(t, plain("acme", "a")), b.create(t, plain("acme", "a"))
	if _, err := b.db.Exec(`UPDATE subscriptions SET secrets =
		set_byte(secrets, length(secrets) - 1, get_byte(secrets, length(secrets) - 1) # 1) WHERE id = $1`, broken.ID); err != nil {
		t.Fatal(err)
	}
	if _, err := b.db.Exec(`UPDATE subscriptions SET secrets = (SELECT secrets FROM subscriptions WHERE id = $2) WHERE id = $1`,
		swapped.ID, fine.ID); err != nil {
		t.Fatal(err)
	}
	b.fresh(t)
	for _, id := range []uuid.UUID{broken.ID, swapped.ID} {
		s, ok := b.dir.Get(id)
		if !ok || !errors.Is(s.Err, seal.ErrCorrupt) || s.Secrets != nil || s.URL == "" {
			t.Errorf("got %+v", s)
		}
	}
	if s, _ := b.dir.Get(fine.ID); s.Err != nil || len(s.Secrets) != 1 {
		t.Errorf("the fine one: %+v", s)
	}
	matched, _ := b.dir.Match(&event.Event{Tenant: "acme", Type: "a"})
	if len(matched) != 3 {
		t.Errorf("matched %d, want 3", len(matched))
	}
	// It can be read and changed; a new secret mends it.
	read, err := b.store.Get(t.Context(), "acme", broken.ID)
	if err != nil || read.Err == nil {
		t.Fatalf("got %+v, %v", read, err)
	}
	read.Name = "renamed"
	if err := b.store.Update(t.Context(), read); err != nil {
		t.Fatal(err)
	}
	if read, err = b.store.Get(t.Context(), "acme", broken.ID); err != nil || read.Err == nil {
		t.Errorf("an update of the name changed the secrets: %+v, %v", read, err)
	}
	if err := b.store.Rotate(t.Context(), read, subscriptions.Secret{}, 0); err != nil {
		t.Fatal(err)
	}
	if read, err = b.store.Get(t.Context(), "acme", broken.ID); err != nil || read.Err != nil || len(read.Secrets) != 1 {
		t.Errorf("after a rotation: %+v, %v", read, err)
	}
}

func TestPostgresAwayAndBack(t *testing.T) {
	t.Parallel()
	server := servertest.NewRestartablePostgres(t)
	db, err := postgres.Open(t.Context(), server.URL(), 4)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	ring, err := seal.ParseRing(seal.NewKey())
	if err != nil {
		t.Fatal(err)
	}
	store, dir := subscriptions.New(db, ring, egress.Policy{}), subscriptions.NewDirectory(db, ring, slog.New(slog.DiscardHandler))
	made := plain("acme", "a")
	if err := store.Create(t.Context(), made); err != nil {
		t.Fatal(err)
	}
	if _, err := dir.Fresh(t.Context()); err != nil {
		t.Fatal(err)
	}
	server.Stop()
	if _, err := dir.Fresh(t.Context()); !errors.Is(err, postgres.ErrUnavailable) {
		t.Errorf("fresh without Postgres: %v", err)
	}
	if err := store.Create(t.Context(), plain("acme", "a")); !postgres.IsUnavailable(err) {
		t.Errorf("create without Postgres: %v", err)
	}
	if _, ok := dir.Get(made.ID); !ok {
		t.Error("what is known is forgotten")
	}
	server.Start()
	if _, err := store.Pause(t.Context(), "acme", made.ID); err != nil {
		t.Fatal(err)
	}
	if _, err := dir.Fresh(t.Context()); err != nil {
		t.Errorf("fresh with Postgres back: %v", err)
	}
	if s, _ := dir.Get(made.ID); s.Status != subscriptions.Paused {
		t.Errorf("got %s", s.Status)
	}
}

func TestRunEndsWithItsContext(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.create(t, plain("acme", "a"))
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	done := make(chan error, 1)
	go func() { done <- b.dir.Run(ctx) }()
	b.fresh(t)
	cancel()
	if err := <-done; err != nil {
		t.Errorf("got %v", err)
	}
}

// A change of more rows than are applied to the index that others read is loaded beside it.
func TestLargeChangesAreLoadedAside(t *testing.T) {
	t.Parallel()
	b := setup(t)
	first := b.create(t, plain("acme", "a"))
	b.fresh(t)
	const n = 50_001 // one more than are applied
	if _, err := b.db.Exec(`WITH r AS (UPDATE revision SET value = value + 1 RETURNING value)
INSERT INTO subscriptions (id, tenant, dialect, name, description, url, event_types, resource_id, changed, filter, headers, payload_format,
	retry_schedule, timeout_ms, max_in_flight, secrets, status, disabled_reason, version, metadata, scopes, created_at, updated_at, revision)
SELECT gen_random_uuid(), 'tenant-' || n % 10, dialect, name, description, url, event_types, resource_id, changed, filter, headers, payload_format,
	retry_schedule, timeout_ms, max_in_flight, secrets, status, disabled_reason, version, metadata, scopes, created_at, updated_at, r.value
FROM subscriptions, r, generate_series(1, $1) n`, n); err != nil {
		t.Fatal(err)
	}
	b.fresh(t)
	if got := b.dir.Stats(); got.Subscriptions != n+1 || got.Tenants != 11 {
		t.Errorf("got %+v", got)
	}
	if _, ok := b.dir.Get(first.ID); !ok {
		t.Error("the first is gone")
	}
}
