package tenantkeys_test

import (
	"bytes"
	"context"
	"database/sql"
	"errors"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/fanfarehq/fanfare/internal/seal"
	"github.com/fanfarehq/fanfare/internal/servertest"
	"github.com/fanfarehq/fanfare/internal/tenantkeys"
)

func process(t *testing.T, db *sql.DB, ring string) *tenantkeys.Keys {
	t.Helper()
	parsed, err := seal.ParseRing(ring)
	if err != nil {
		t.Fatal(err)
	}
	keys, err := tenantkeys.New(db, parsed, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	return keys
}

func place(tenant string) tenantkeys.Place {
	return tenantkeys.Place{Tenant: tenant, ID: uuid.Must(uuid.NewV7()), What: "event"}
}

func mustSeal(t *testing.T, k *tenantkeys.Keys, at tenantkeys.Place, plain string) []byte {
	t.Helper()
	sealed, err := k.Seal(t.Context(), at, []byte(plain))
	if err != nil {
		t.Fatal(err)
	}
	if bytes.Contains(sealed, []byte(plain)) {
		t.Fatalf("%q can be read in what is sealed", plain)
	}
	return sealed
}

func exec(t *testing.T, db *sql.DB, query string, args ...any) {
	t.Helper()
	if _, err := db.ExecContext(t.Context(), query, args...); err != nil {
		t.Fatal(err)
	}
}

// Processes that need a key at the same time make one, and each opens what the others sealed.
func TestProcessesShareKeys(t *testing.T) {
	t.Parallel()
	db, ring := servertest.Postgres(t), seal.NewKey()
	processes := []*tenantkeys.Keys{process(t, db, ring), process(t, db, ring), process(t, db, ring)}
	at := place("acme")
	sealed := make([][]byte, 30)
	var all sync.WaitGroup
	for i := range sealed {
		all.Go(func() { sealed[i], _ = processes[i%len(processes)].Seal(t.Context(), at, []byte("payload")) })
	}
	all.Wait()
	for i, s := range sealed {
		if got, err := processes[(i+1)%len(processes)].Open(t.Context(), at, s); err != nil || string(got) != "payload" {
			t.Errorf("got %q, %v", got, err)
		}
	}
	var n int
	if err := db.QueryRowContext(t.Context(), `SELECT count(*) FROM tenant_keys`).Scan(&n); err != nil || n != 1 {
		t.Errorf("got %d keys, %v, want 1", n, err)
	}
	text, err := processes[0].SealText(t.Context(), at, "a text")
	if err != nil || strings.Contains(text, "a text") {
		t.Errorf("got %q, %v", text, err)
	}
	if got, err := processes[1].OpenText(t.Context(), at, text); err != nil || got != "a text" {
		t.Errorf("got %q, %v", got, err)
	}
}

// A key that is in memory needs no Postgres; another fails with an error that a retry may end.
func TestKeysInMemoryNeedNoPostgres(t *testing.T) {
	t.Parallel()
	db := servertest.Postgres(t)
	keys := process(t, db, seal.NewKey())
	at := place("acme")
	sealed := mustSeal(t, keys, at, "payload")
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	if got, err := keys.Open(t.Context(), at, sealed); err != nil || string(got) != "payload" {
		t.Errorf("got %q, %v", got, err)
	}
	mustSeal(t, keys, at, "another")
	if _, err := keys.Seal(t.Context(), place("globex"), []byte("x")); err == nil || tenantkeys.Gone(err) {
		t.Errorf("a key that is not in memory: got %v", err)
	}
}

func TestSealedBytesBelongToTheirPlace(t *testing.T) {
	t.Parallel()
	keys := process(t, servertest.Postgres(t), seal.NewKey())
	at := place("acme")
	sealed := mustSeal(t, keys, at, "payload")
	event, what := at, at
	event.ID, what.What = uuid.Must(uuid.NewV7()), "response"
	for name, other := range map[string]tenantkeys.Place{"event": event, "word": what} {
		if _, err := keys.Open(t.Context(), other, sealed); !errors.Is(err, seal.ErrCorrupt) {
			t.Errorf("at another %s: got %v", name, err)
		}
	}
	mustSeal(t, keys, place("globex"), "another payload")
	tenant := at
	tenant.Tenant = "globex"
	if _, err := keys.Open(t.Context(), tenant, sealed); !errors.Is(err, seal.ErrCorrupt) {
		t.Errorf("of another tenant: got %v", err)
	}
	for i := range sealed {
		changed := bytes.Clone(sealed)
		changed[i] ^= 1
		if got, err := keys.Open(t.Context(), at, changed); err == nil && i > 0 {
			t.Errorf("byte %d changed: got %q", i, got)
		}
		if got, err := keys.Open(t.Context(), at, sealed[:i]); err == nil && i > 0 {
			t.Errorf("cut at %d: got %q", i, got)
		}
	}
}

// What earlier versions stored is read as it is, also without keys.
func TestPlainBytesStayReadable(t *testing.T) {
	t.Parallel()
	var none *tenantkeys.Keys
	for _, keys := range []*tenantkeys.Keys{none, process(t, servertest.Postgres(t), seal.NewKey())} {
		for _, plain := range []string{"", "text", "é"} {
			if got, err := keys.Open(t.Context(), place("acme"), []byte(plain)); err != nil || string(got) != plain {
				t.Errorf("got %q, %v", got, err)
			}
			if got, err := keys.OpenText(t.Context(), place("acme"), plain); err != nil || got != plain {
				t.Errorf("got %q, %v", got, err)
			}
		}
	}
	if _, err := none.Open(t.Context(), place("acme"), []byte("\xff\x01sealed bytes of somebody")); !errors.Is(err, seal.ErrCorrupt) {
		t.Errorf("got %v", err)
	}
}

// Once a tenant is erased nothing of it opens, in no process, and no key is made for it again.
func TestEraseTenant(t *testing.T) {
	t.Parallel()
	db, ring := servertest.Postgres(t), seal.NewKey()
	eraser, other := process(t, db, ring), process(t, db, ring)
	ctx, cancel := context.WithCancel(t.Context())
	var running sync.WaitGroup
	running.Go(func() { _ = other.Run(ctx) })
	defer running.Wait()
	defer cancel()
	at, kept := place("acme"), place("globex")
	sealed, theirs := mustSeal(t, other, at, "payload"), mustSeal(t, other, kept, "payload")
	if _, err := eraser.Open(ctx, at, sealed); err != nil {
		t.Fatal(err)
	}
	var wrapped []byte
	if err := db.QueryRowContext(ctx, `SELECT key FROM tenant_keys WHERE tenant = 'acme'`).Scan(&wrapped); err != nil {
		t.Fatal(err)
	}
	exec(t, db, `INSERT INTO tenants (tenant, deleted_at) VALUES ('acme', now())`)
	// A transaction that sees the key holds up its destruction, not longer than it lasts.
	look, err := db.BeginTx(ctx, &sql.TxOptions{Isolation: sql.LevelRepeatableRead})
	if err != nil {
		t.Fatal(err)
	}
	defer look.Rollback() //nolint:errcheck // it is rolled back below
	if _, err := look.ExecContext(ctx, `SELECT FROM tenant_keys`); err != nil {
		t.Fatal(err)
	}
	erased := make(chan error, 1)
	go func() { erased <- eraser.EraseTenant(ctx, "acme") }()
	for waiting := 0; waiting == 0; {
		if err := db.QueryRowContext(ctx, `SELECT count(*) FROM tenant_keys WHERE key = ''`).Scan(&waiting); err != nil {
			t.Fatal(err)
		}
	}
	select {
	case err := <-erased:
		t.Fatalf("destroyed while a transaction sees the key: %v", err)
	case <-time.After(200 * time.Millisecond):
	}
	if err := look.Rollback(); err != nil {
		t.Fatal(err)
	}
	if err := <-erased; err != nil {
		t.Fatal(err)
	}
	if _, err := eraser.Open(ctx, at, sealed); !errors.Is(err, tenantkeys.ErrDestroyed) {
		t.Errorf("got %v", err)
	}
	late := time.After(2 * time.Minute)
	for _, err := other.Open(ctx, at, sealed); !errors.Is(err, tenantkeys.ErrDestroyed); _, err = other.Open(ctx, at, sealed) {
		select {
		case <-late:
			t.Fatalf("another process still has the key: %v", err)
		case <-time.After(50 * time.Millisecond):
		}
	}
	if _, err := other.Seal(ctx, place("acme"), []byte("late")); !errors.Is(err, tenantkeys.ErrDestroyed) {
		t.Errorf("a key was made for an erased tenant: %v", err)
	}
	if got, err := other.Open(ctx, kept, theirs); err != nil || string(got) != "payload" {
		t.Errorf("of another tenant: got %q, %v", got, err)
	}
	// The files hold no trace of the key.
	var files, holding int
	exec(t, db, `CHECKPOINT`)
	if err := db.QueryRowContext(ctx, `SELECT count(*), count(*) FILTER (WHERE position($1::bytea IN pg_read_binary_file(pg_relation_filepath(inhrelid))) > 0)
FROM pg_inherits WHERE inhparent = 'tenant_keys'::regclass`, wrapped).Scan(&files, &holding); err != nil {
		t.Fatal(err)
	}
	if files != 16 || holding != 0 {
		t.Errorf("%d of %d files hold the destroyed key", holding, files)
	}
	if err := eraser.EraseTenant(ctx, "acme"); err != nil {
		t.Errorf("once more: %v", err)
	}
}

// Once the keys are sealed with the first key of the ring, the former one may leave it: copies of the database from before, which
// hold keys sealed with the former one, open no more.
func TestRekey(t *testing.T) {
	t.Parallel()
	db, older, newer := servertest.Postgres(t), seal.NewKey(), seal.NewKey()
	at := place("acme")
	sealed := mustSeal(t, process(t, db, older), at, "payload")
	mustSeal(t, process(t, db, older), place(""), "payload")
	if err := process(t, db, newer).Check(t.Context()); !errors.Is(err, seal.ErrUnknownKey) {
		t.Errorf("before: got %v", err)
	}
	for _, want := range []int{2, 0} {
		if n, err := process(t, db, newer+","+older).Rekey(t.Context()); err != nil || n != want {
			t.Errorf("got %d, %v, want %d", n, err, want)
		}
	}
	after := process(t, db, newer)
	if err := after.Check(t.Context()); err != nil {
		t.Error(err)
	}
	if got, err := after.Open(t.Context(), at, sealed); err != nil || string(got) != "payload" {
		t.Errorf("got %q, %v", got, err)
	}
	if _, err := process(t, db, older).Open(t.Context(), at, sealed); err == nil || !strings.Contains(err.Error(), seal.ErrUnknownKey.Error()) {
		t.Errorf("with the former key: got %v", err)
	}
}

func BenchmarkSealAndOpen(b *testing.B) {
	db := servertest.Postgres(b)
	ring, err := seal.ParseRing(seal.NewKey())
	if err != nil {
		b.Fatal(err)
	}
	keys, err := tenantkeys.New(db, ring, slog.New(slog.DiscardHandler))
	if err != nil {
		b.Fatal(err)
	}
	at, plain := place("acme"), bytes.Repeat([]byte("x"), 1000)
	b.SetBytes(int64(len(plain)))
	for b.Loop() {
		sealed, err := keys.Seal(b.Context(), at, plain)
		if err != nil {
			b.Fatal(err)
		}
		if _, err := keys.Open(b.Context(), at, sealed); err != nil {
			b.Fatal(err)
		}
	}
}
