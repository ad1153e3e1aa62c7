package postgres_test

import (
	"reflect"
	"testing"

	"github.com/fanfarehq/fanfare/internal/postgres"
)

func TestWhere(t *testing.T) {
	t.Parallel()
	var w postgres.Where
	if got := w.String(); got != "true" {
		t.Errorf("without parts: %q", got)
	}
	w.And("NOT deleted")
	w.And("tenant = ?", "acme")
	w.And("(status = ? OR status / 100 = ?)", 503, 5)
	limit := w.Arg(10)
	checked := w.After()
	checked.And("type = ?", "order.made")
	if got, want := w.String(), "NOT deleted AND tenant = $1 AND (status = $2 OR status / 100 = $3)"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
	if limit != "$4" || checked.String() != "type = $5" {
		t.Errorf("limit %s, then %q", limit, checked)
	}
	if got, want := checked.Args(), []any{"acme", 503, 5, 10, "order.made"}; !reflect.DeepEqual(got, want) {
		t.Errorf("arguments %v, want %v", got, want)
	}
}
