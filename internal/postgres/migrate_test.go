package postgres_test

import (
	"sync"
	"testing"

	"github.com/fanfarehq/fanfare/internal/postgres"
	"github.com/fanfarehq/fanfare/internal/servertest"
)

func TestMigrateFromNothingByManyAtOnceAndAgain(t *testing.T) {
	t.Parallel()
	url := servertest.EmptyPostgresURL(t)
	migrate := func() {
		db, err := postgres.Open(t.Context(), url, 1) // one connection must do
		if err != nil {
			t.Error(err)
			return
		}
		defer db.Close()
		if err := postgres.Migrate(t.Context(), db); err != nil {
			t.Error(err)
		}
	}
	var wg sync.WaitGroup
	for range 10 {
		wg.Go(migrate)
	}
	wg.Wait()
	migrate()

	db, err := postgres.Open(t.Context(), url, 1)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	var applied, twice, tables int
	err = db.QueryRow(`SELECT count(*), count(*) - count(DISTINCT version_id),
		(SELECT count(*) FROM pg_tables WHERE schemaname = 'public') FROM migrations`).Scan(&applied, &twice, &tables)
	if err != nil || applied < 2 || twice != 0 || tables < 10 {
		t.Errorf("%d migrations, %d of them twice, %d tables, error %v", applied, twice, tables, err)
	}
}

// A program may be older than the schema while a new version is rolled out.
func TestMigrateLeavesANewerSchemaAlone(t *testing.T) {
	t.Parallel()
	db := servertest.Postgres(t)
	if _, err := db.Exec("INSERT INTO migrations (version_id, is_applied) VALUES (99999, true)"); err != nil {
		t.Fatal(err)
	}
	if err := postgres.Migrate(t.Context(), db); err != nil {
		t.Error(err)
	}
}
