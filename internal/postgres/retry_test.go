package postgres_test

import (
	"context"
	"database/sql"
	"errors"
	"sync"
	"testing"
	"time"

	"github.com/fanfarehq/fanfare/internal/postgres"
	"github.com/fanfarehq/fanfare/internal/servertest"
)

func addTenant(ctx context.Context, tx *sql.Tx, name string) error {
	_, err := tx.ExecContext(ctx, "INSERT INTO tenants (tenant) VALUES ($1)", name)
	return err
}

func tenants(t *testing.T, db *sql.DB) (n int) {
	t.Helper()
	if err := db.QueryRow("SELECT count(*) FROM tenants").Scan(&n); err != nil {
		t.Fatal(err)
	}
	return n
}

func TestRetryRepeatsATransactionWhoseBackendWasKilled(t *testing.T) {
	t.Parallel()
	db := servertest.Postgres(t)
	tries := 0
	err := postgres.Retry(t.Context(), db, func(ctx context.Context, tx *sql.Tx) error {
		tries++
		if err := addTenant(ctx, tx, "acme"); err != nil {
			return err
		}
		if tries < 3 {
			kill(t, db, tx)
		}
		return addTenant(ctx, tx, "babel")
	})
	if err != nil || tries != 3 || tenants(t, db) != 2 {
		t.Errorf("%d tries, %d rows, error %v", tries, tenants(t, db), err)
	}
}

// kill ends the session of a transaction and returns when it has ended.
func kill(t *testing.T, db *sql.DB, tx *sql.Tx) {
	t.Helper()
	var pid int
	if err := tx.QueryRow("SELECT pg_backend_pid()").Scan(&pid); err != nil {
		t.Fatal(err)
	}
	var ended bool
	if err := db.QueryRow("SELECT pg_terminate_backend($1, 10000)", pid).Scan(&ended); err != nil || !ended {
		t.Fatalf("ended: %v, error %v", ended, err)
	}
}

func TestRetryDoesNotRepeatACommitWhoseAnswerWasLost(t *testing.T) {
	t.Parallel()
	db := servertest.Postgres(t)
	tries := 0
	err := postgres.Retry(t.Context(), db, func(ctx context.Context, tx *sql.Tx) error {
		tries++
		if err := addTenant(ctx, tx, "acme"); err != nil {
			return err
		}
		kill(t, db, tx)
		return nil
	})
	if tries != 1 || !errors.Is(err, postgres.ErrUnknown) || !errors.Is(err, postgres.ErrUnavailable) {
		t.Errorf("%d tries, error %v", tries, err)
	}
}

func TestRetryResolvesDeadlocksAndConflicts(t *testing.T) {
	t.Parallel()
	db := servertest.Postgres(t)
	if _, err := db.Exec("INSERT INTO tenants (tenant) VALUES ('a'), ('b')"); err != nil {
		t.Fatal(err)
	}
	const touch = "UPDATE tenants SET name = name || 'x' WHERE tenant = $1"
	both := make(chan struct{})
	var wg, first sync.WaitGroup
	first.Add(2)
	go func() { first.Wait(); close(both) }()
	for _, order := range [][2]string{{"a", "b"}, {"b", "a"}} {
		wg.Go(func() {
			once := sync.OnceFunc(first.Done)
			err := postgres.Retry(t.Context(), db, func(ctx context.Context, tx *sql.Tx) error {
				if _, err := tx.ExecContext(ctx, touch, order[0]); err != nil {
					return err
				}
				once()
				<-both // each holds a row that the other wants next
				_, err := tx.ExecContext(ctx, touch, order[1])
				return err
			})
			if err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	var names string
	if err := db.QueryRow("SELECT string_agg(name, ',') FROM tenants").Scan(&names); err != nil || names != "xx,xx" {
		t.Errorf("got %q, error %v", names, err)
	}
}

func TestRetryReturnsOtherErrorsAtOnce(t *testing.T) {
	t.Parallel()
	db := servertest.Postgres(t)
	want, tries := errors.New("mine"), 0
	err := postgres.Retry(t.Context(), db, func(ctx context.Context, tx *sql.Tx) error {
		tries++
		return errors.Join(addTenant(ctx, tx, "acme"), want)
	})
	if !errors.Is(err, want) || tries != 1 || tenants(t, db) != 0 {
		t.Errorf("%d tries, %d rows, error %v", tries, tenants(t, db), err)
	}
	_, wrong := db.Exec("SELECT nothing")
	err = postgres.Retry(t.Context(), db, func(context.Context, *sql.Tx) error { return wrong })
	if err == nil || errors.Is(err, postgres.ErrUnavailable) {
		t.Errorf("a wrong statement: got %v", err)
	}
}

func TestRetryGivesUpWhenPostgresStaysAway(t *testing.T) {
	t.Parallel()
	r := servertest.NewRestartablePostgres(t)
	db, err := postgres.Open(t.Context(), r.URL(), 2)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	r.Kill()
	try := func(ctx context.Context) error {
		return postgres.Retry(ctx, db, func(ctx context.Context, tx *sql.Tx) error { return addTenant(ctx, tx, "acme") })
	}
	if err := try(t.Context()); !errors.Is(err, postgres.ErrUnavailable) {
		t.Errorf("got %v", err)
	}
	r.Start()
	if err := try(t.Context()); err != nil {
		t.Errorf("after it came back: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := try(ctx); !errors.Is(err, context.Canceled) || errors.Is(err, postgres.ErrUnavailable) {
		t.Errorf("a caller who gave up: got %v", err)
	}
}

// A server that hangs is given up even where the caller has no deadline.
func TestAStatementTimeoutIsUnavailable(t *testing.T) {
	t.Parallel()
	db, err := postgres.Open(t.Context(), servertest.PostgresURL(t)+"&statement_timeout=20", 1)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	if _, err := db.Exec("SELECT pg_sleep(60)"); !postgres.IsUnavailable(err) {
		t.Errorf("got %v", err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
	defer cancel()
	if _, err := db.ExecContext(ctx, "SELECT pg_sleep(60)"); !postgres.IsUnavailable(err) {
		t.Errorf("a deadline: got %v", err)
	}
}
