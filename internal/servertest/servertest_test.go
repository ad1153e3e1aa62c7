package servertest_test

import (
	"testing"

	"github.com/fanfarehq/fanfare/internal/servertest"
)

func TestMain(m *testing.M) { servertest.Main(m) }

func TestPostgresIsMigratedAndTheTestsOwn(t *testing.T) {
	t.Parallel()
	for range 2 {
		db := servertest.Postgres(t)
		var tables int
		err := db.QueryRow("SELECT count(*) FROM information_schema.tables WHERE table_schema = 'public'").Scan(&tables)
		if err != nil || tables < 10 {
			t.Fatalf("got %d tables, error %v", tables, err)
		}
		var rows int
		if err := db.QueryRow("INSERT INTO tenants (tenant) VALUES ('acme') RETURNING (SELECT count(*) FROM tenants)").Scan(&rows); err != nil || rows != 0 {
			t.Errorf("got %d rows of others, error %v", rows, err)
		}
	}
}

func TestNATSAnswers(t *testing.T) {
	t.Parallel()
	n := servertest.NATS(t)
	nc := servertest.Connect(t, n)
	if _, err := nc.RTT(); err != nil {
		t.Fatal(err)
	}
}
