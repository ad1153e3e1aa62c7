package ledger_test

import (
	"slices"
	"sync"
	"testing"

	"github.com/fanfarehq/fanfare/deliver/ledger"
	"github.com/fanfarehq/fanfare/deliver/outcome"
	"github.com/fanfarehq/fanfare/internal/servertest"
)

// Repeats come after groups that had none, once, in the same group, and together with what is new.
func TestRepeatsAmongWhatIsNew(t *testing.T) {
	t.Parallel()
	db := servertest.Postgres(t)
	l := ledger.New(db)
	t.Cleanup(l.Close)
	all := delivered(40)
	for _, step := range []struct {
		name  string
		group []*outcome.Record
	}{
		{"nothing is known", all[:10]},
		{"all new", all[10:20]},
		{"a repeat", slices.Concat(all[5:6], all[20:25])},
		{"repeats alone", all[:20]},
		{"new again", all[25:30]},
		{"twice in one group", slices.Concat(all[30:35], all[32:33])},
		{"new once more", all[35:]},
	} {
		if err := l.Write(t.Context(), step.group); err != nil {
			t.Fatalf("%s: %v", step.name, err)
		}
	}
	if n := count(t, db, `SELECT count(DISTINCT number) FROM deliveries WHERE state = 'delivered' AND status = 204 AND seq < 40`); n != len(all) {
		t.Errorf("%d deliveries with numbers of their own, want %d", n, len(all))
	}
}

// Several that write the same at once write it once.
func TestRepeatsOfSeveralAtOnce(t *testing.T) {
	t.Parallel()
	db := servertest.Postgres(t)
	all := delivered(400)
	others := delivered(4)
	var wg sync.WaitGroup
	for n := range 4 {
		l := ledger.New(db)
		wg.Go(func() {
			defer l.Close()
			if err := l.Write(t.Context(), others[n:n+1]); err != nil { // From then on, none is expected to be a repeat.
				t.Error(err)
			}
			for group := range slices.Chunk(all, 50) {
				if err := l.Write(t.Context(), group); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	if n := count(t, db, `SELECT count(*) FROM deliveries`); n != len(all)+len(others) {
		t.Errorf("%d deliveries, want %d", n, len(all)+len(others))
	}
}
