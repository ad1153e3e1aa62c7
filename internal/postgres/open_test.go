package postgres_test

import (
	"context"
	"database/sql"
	"errors"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/fanfarehq/fanfare/internal/postgres"
	"github.com/fanfarehq/fanfare/internal/servertest"
)

func TestOpenSetsTheSessionUp(t *testing.T) {
	t.Parallel()
	own := servertest.PostgresURL(t)
	for _, test := range []struct{ url, setting, want string }{
		{own, "statement_timeout", "30s"}, {own, "lock_timeout", "10s"}, {own, "idle_in_transaction_session_timeout", "30s"},
		{own, "application_name", "fanfare"}, {own + "&statement_timeout=2000", "statement_timeout", "2s"},
		{own + "&application_name=mine", "application_name", "mine"},
	} {
		db, err := postgres.Open(t.Context(), test.url, 3)
		if err != nil {
			t.Fatal(err)
		}
		var got string
		if err := db.QueryRow("SELECT current_setting($1)", test.setting).Scan(&got); err != nil || got != test.want {
			t.Errorf("%s: got %q, error %v, want %q", test.setting, got, err, test.want)
		}
		if n := db.Stats().MaxOpenConnections; n != 3 {
			t.Errorf("pool: got %d", n)
		}
		db.Close()
	}
}

func TestOpenRefusesAtOnceWhatWillNotGetBetter(t *testing.T) {
	t.Parallel()
	own := servertest.PostgresURL(t)
	u, err := url.Parse(own)
	if err != nil {
		t.Fatal(err)
	}
	for _, bad := range []string{
		"postgres:///nowhere?" + u.RawQuery, // no such database
		strings.Replace(own, "user=fanfare", "user=nobody", 1),
		"postgres://me:hunter2@[::1/db", // no URL
		"postgres://me:hunt/er2@host/db",
		"postgres://me:hunter2@host/db?sslmode=hunter2",
		"user=me password=hun ter2", "hunter2", "mysql://me:hunter2@host/db",
		strings.Replace(own, "sslmode=disable", "sslmode=perhaps", 1),
	} {
		db, err := postgres.Open(t.Context(), bad, 1)
		if err == nil {
			db.Close()
		}
		if err == nil || postgres.IsUnavailable(err) || leaks(err) {
			t.Errorf("%s: got %v", bad, err)
		}
	}
}

// leaks says whether an error shows a password, or a piece of one.
func leaks(err error) bool {
	return strings.Contains(err.Error(), "er2") || strings.Contains(err.Error(), "hun")
}

func TestOpenWaitsForTheServer(t *testing.T) {
	t.Parallel()
	r := servertest.NewRestartablePostgres(t)
	r.Stop()
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, err := postgres.Open(ctx, r.URL(), 1); !errors.Is(err, context.DeadlineExceeded) || !postgres.IsUnavailable(err) {
		t.Errorf("got %v, want a deadline", err)
	}
	opened := make(chan error, 1)
	go func() {
		db, err := postgres.Open(t.Context(), r.URL(), 1)
		if err == nil {
			err = db.Close()
		}
		opened <- err
	}()
	r.Start()
	if err := <-opened; err != nil {
		t.Error(err)
	}
}

// A server that hangs does not hold a caller beyond its context, nor the pool for ever.
func TestContextsHoldWhenTheServerHangs(t *testing.T) {
	t.Parallel()
	r := servertest.NewRestartablePostgres(t)
	db, err := postgres.Open(t.Context(), r.URL(), 2)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	r.Freeze()
	for name, call := range map[string]func(context.Context) error{
		"exec":  func(ctx context.Context) error { _, err := db.ExecContext(ctx, "SELECT 1"); return err },
		"query": func(ctx context.Context) error { return db.QueryRowContext(ctx, "SELECT 1").Scan(new(int)) },
		"ping":  db.PingContext,
		"transaction": func(ctx context.Context) error {
			return postgres.Retry(ctx, db, func(context.Context, *sql.Tx) error { return nil })
		},
	} {
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
		if err := call(ctx); !postgres.IsUnavailable(err) {
			t.Errorf("%s: got %v", name, err)
		}
		cancel()
	}
	r.Thaw()
	if err := db.PingContext(t.Context()); err != nil {
		t.Errorf("after it went on: %v", err)
	}
}

// A server older than Fanfare is tested with is refused with both versions.
func TestOpenRefusesAnOldServer(t *testing.T) {
	t.Parallel()
	own := servertest.PostgresURL(t)
	db, err := postgres.Open(t.Context(), own, 2)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	for _, statement := range []string{ // Sessions that look there first find another version.
		"CREATE SCHEMA old", "CREATE FUNCTION old.current_setting(text) RETURNS text LANGUAGE sql AS $$SELECT '130011'$$",
	} {
		if _, err := db.Exec(statement); err != nil {
			t.Fatal(err)
		}
	}
	old, err := postgres.Open(t.Context(), own+"&search_path=old,pg_catalog", 2)
	if err == nil {
		old.Close()
	}
	if err == nil || !strings.Contains(err.Error(), "Postgres 13") || !strings.Contains(err.Error(), "14") {
		t.Errorf("got %v, want both versions", err)
	}
}
