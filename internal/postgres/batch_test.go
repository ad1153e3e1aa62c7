package postgres_test

import (
	"errors"
	"fmt"
	"sync"
	"testing"

	"github.com/lib/pq"

	"github.com/fanfarehq/fanfare/internal/group"
	"github.com/fanfarehq/fanfare/internal/postgres"
	"github.com/fanfarehq/fanfare/internal/servertest"
)

func TestBatchWritesEachRowOnce(t *testing.T) {
	t.Parallel()
	db := servertest.Postgres(t)
	groups := 0
	batch := postgres.NewBatch(db, group.Limits{Count: 100},
		"INSERT INTO tenants (tenant) SELECT * FROM unnest($1::text[]) ON CONFLICT DO NOTHING",
		func(rows []string) []any {
			groups++
			return []any{pq.Array(rows)}
		})
	var wg sync.WaitGroup
	for i := range 500 {
		wg.Go(func() {
			if err := batch.Write(t.Context(), fmt.Sprint("tenant-", i%400)); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if n := tenants(t, db); n != 400 || groups >= 500 {
		t.Errorf("%d rows in %d groups", n, groups)
	}
}

func TestBatchFailsAllOfAGroup(t *testing.T) {
	t.Parallel()
	r := servertest.NewRestartablePostgres(t)
	db, err := postgres.Open(t.Context(), r.URL(), 2)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	batch := postgres.NewBatch(db, group.Limits{}, "INSERT INTO tenants (tenant) SELECT * FROM unnest($1::text[])",
		func(rows []string) []any { return []any{pq.Array(rows)} })
	if err := batch.Write(t.Context(), "acme"); err != nil {
		t.Fatal(err)
	}
	if err := batch.Write(t.Context(), "acme"); err == nil || errors.Is(err, postgres.ErrUnavailable) {
		t.Errorf("a row that is there: got %v", err)
	}
	r.Stop()
	if err := batch.Write(t.Context(), "babel"); !errors.Is(err, postgres.ErrUnavailable) {
		t.Errorf("without Postgres: got %v", err)
	}
}
