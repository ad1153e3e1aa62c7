package postgres_test

import (
	"strings"
	"testing"
	"time"

	"github.com/fanfarehq/fanfare/internal/postgres"
	"github.com/fanfarehq/fanfare/internal/servertest"
)

// A refusal for lack of disk space is remembered for as long as the caller asks; other errors are not.
func TestAFullDiskIsRemembered(t *testing.T) {
	t.Parallel()
	db := servertest.Postgres(t)
	if _, err := db.Exec("SELECT 1/0"); err == nil {
		t.Fatal("a division by zero succeeds")
	}
	if err := postgres.DiskFull(db, time.Hour); err != nil {
		t.Errorf("before a refusal: %v", err)
	}
	if _, err := db.Exec(`DO $$ BEGIN RAISE disk_full USING MESSAGE = 'could not extend file'; END $$`); !postgres.IsUnavailable(err) {
		t.Fatalf("the refusal: %v", err)
	}
	if err := postgres.DiskFull(db, time.Hour); err == nil || !strings.Contains(err.Error(), "could not extend file") {
		t.Errorf("after a refusal: %v", err)
	}
	if err := postgres.DiskFull(db, -time.Second); err != nil {
		t.Errorf("long after a refusal: %v", err)
	}
}
