package postgres_test

import (
	"context"
	"database/sql"
	"testing"

	"github.com/fanfarehq/fanfare/internal/postgres"
	"github.com/fanfarehq/fanfare/internal/servertest"
)

// Sessions that were opened while a database was read-only answer every write with an error as long as they live. They
// leave the pool once the database takes writes again.
func TestSessionsOpenedWhileReadOnlyLeaveThePool(t *testing.T) {
	t.Parallel()
	own := servertest.PostgresURL(t)
	admin, err := postgres.Open(t.Context(), own, 2)
	if err != nil {
		t.Fatal(err)
	}
	defer admin.Close()
	var name string
	if err := admin.QueryRow("SELECT current_database()").Scan(&name); err != nil {
		t.Fatal(err)
	}
	readOnly := func(value string) {
		if _, err := admin.Exec(`ALTER DATABASE "` + name + `" SET default_transaction_read_only = ` + value); err != nil {
			t.Fatal(err)
		}
	}
	readOnly("on")
	const sessions = 8
	db, err := postgres.Open(t.Context(), own, sessions)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	fill(t, db, sessions)
	insert := postgres.NewStatement(db, "INSERT INTO tenants (tenant) VALUES ('acme')")
	if _, err := insert.Exec(t.Context()); !postgres.IsUnavailable(err) {
		t.Fatalf("while it is read-only: got %v", err)
	}
	if _, err := admin.Exec("SET default_transaction_read_only = off"); err != nil { // the admin's own session is older
		t.Fatal(err)
	}
	readOnly("off")
	fill(t, db, sessions)
	err = postgres.Retry(t.Context(), db, func(ctx context.Context, tx *sql.Tx) error { return addTenant(ctx, tx, "babel") })
	if err != nil {
		t.Errorf("once it takes writes: %v", err)
	}
	// Every session of the pool writes, also those that none has tried since.
	conns := make([]*sql.Conn, sessions)
	for i := range conns {
		if conns[i], err = db.Conn(t.Context()); err != nil {
			t.Fatal(err)
		}
		defer conns[i].Close()
		if _, err := conns[i].ExecContext(t.Context(), "UPDATE tenants SET tenant = tenant"); err != nil {
			t.Errorf("session %d: %v", i, err)
		}
	}
}

// fill opens all sessions of a pool.
func fill(t *testing.T, db *sql.DB, sessions int) {
	t.Helper()
	for range sessions {
		conn, err := db.Conn(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
	}
}
