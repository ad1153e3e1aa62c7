package postgres_test

import (
	"database/sql"
	"errors"
	"slices"
	"testing"

	"github.com/fanfarehq/fanfare/internal/postgres"
	"github.com/fanfarehq/fanfare/internal/servertest"
)

func TestCollect(t *testing.T) {
	t.Parallel()
	db := servertest.Postgres(t)
	db.SetMaxOpenConns(1) // rows that stay open would block the next query
	ask := func(query string) ([]int, error) {
		rows, err := db.QueryContext(t.Context(), query)
		return postgres.Collect(rows, err, postgres.ScanOne[int])
	}
	if got, err := ask(`SELECT generate_series(1, 3)`); err != nil || !slices.Equal(got, []int{1, 2, 3}) {
		t.Errorf("got %v, %v, want 1 to 3", got, err)
	}
	if got, err := ask(`SELECT 1 WHERE false`); err != nil || len(got) != 0 {
		t.Errorf("no rows: got %v, %v", got, err)
	}
	for name, query := range map[string]string{
		"the query": `SELECT nothing`, "a row": `SELECT 1 / (n - 2) FROM generate_series(1, 3) n`, "scanning": `SELECT 'x'`,
	} {
		if got, err := ask(query); err == nil {
			t.Errorf("%s fails: got %v and no error", name, got)
		}
	}
	stop := errors.New("stop")
	rows, err := db.QueryContext(t.Context(), `SELECT generate_series(1, 3)`)
	if err := postgres.Each(rows, err, func() error { return stop }); !errors.Is(err, stop) {
		t.Errorf("got %v, want the error of the first row", err)
	}
	if got, err := ask(`SELECT 4`); err != nil || !slices.Equal(got, []int{4}) {
		t.Errorf("after errors: got %v, %v", got, err)
	}
	if err := postgres.Each((*sql.Rows)(nil), stop, nil); !errors.Is(err, stop) {
		t.Errorf("got %v, want the error of the query", err)
	}
}
