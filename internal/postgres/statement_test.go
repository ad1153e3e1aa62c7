package postgres_test

import (
	"context"
	"errors"
	"sync"
	"testing"

	"github.com/fanfarehq/fanfare/internal/postgres"
	"github.com/fanfarehq/fanfare/internal/servertest"
)

func TestStatement(t *testing.T) {
	t.Parallel()
	db := servertest.Postgres(t)
	insert := postgres.NewStatement(db, `INSERT INTO tenants (tenant, name) SELECT unnest($1::text[]), $2`)
	count := postgres.NewStatement(db, `SELECT count(*), min(name) FROM tenants`)
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := insert.Exec(gone); !errors.Is(err, context.Canceled) {
		t.Errorf("without time: got %v", err)
	}
	var wg sync.WaitGroup
	for i := range 20 {
		wg.Go(func() {
			c := postgres.Columns(1, 2)
			c[0].Text(string(rune('a' + i)))
			c[0].Text(string(rune('A' + i)))
			if _, err := insert.Exec(t.Context(), append(postgres.Args(c), "name")...); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	var n int
	var name string
	if err := count.Scan(t.Context(), &n, &name); err != nil || n != 40 || name != "name" {
		t.Errorf("got %d of %q, error %v; want 40", n, name, err)
	}
	if err := postgres.NewStatement(db, `SELECT nothing`).Scan(t.Context(), &n); err == nil {
		t.Error("a statement that is wrong has no error")
	}
}
