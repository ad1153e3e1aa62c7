package postgres_test

import (
	"context"
	"testing"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/fanfarehq/fanfare/internal/postgres"
	"github.com/fanfarehq/fanfare/internal/servertest"
)

func TestTransactionsAreMeasured(t *testing.T) {
	t.Parallel()
	db, err := postgres.Open(t.Context(), servertest.PostgresURL(t), 4)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = db.Close() })
	registry := prometheus.NewRegistry()
	if err := postgres.Measure(db, registry); err != nil {
		t.Fatal(err)
	}
	ends := func() (commits, rollbacks uint64) {
		t.Helper()
		families, err := registry.Gather()
		if err != nil || len(families) != 1 || len(families[0].Metric) != 2 {
			t.Fatalf("got %v, %v, want a series for each end", families, err)
		}
		return families[0].Metric[0].GetHistogram().GetSampleCount(), families[0].Metric[1].GetHistogram().GetSampleCount()
	}
	if commits, rollbacks := ends(); commits+rollbacks != 0 {
		t.Errorf("%d commits and %d rollbacks before any", commits, rollbacks)
	}
	for _, commit := range []bool{true, false, true} {
		tx, err := db.BeginTx(context.Background(), nil)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := tx.ExecContext(t.Context(), "SELECT 1"); err != nil {
			t.Fatal(err)
		}
		if commit {
			err = tx.Commit()
		} else {
			err = tx.Rollback()
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if commits, rollbacks := ends(); commits != 2 || rollbacks != 1 {
		t.Errorf("%d commits and %d rollbacks, want 2 and 1", commits, rollbacks)
	}
}
