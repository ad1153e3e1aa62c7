package postgres_test

import (
	"context"
	"log/slog"
	"slices"
	"testing"
	"time"

	"github.com/fanfarehq/fanfare/internal/postgres"
	"github.com/fanfarehq/fanfare/internal/servertest"
)

// A ledger that is too large loses its oldest days, with all of their tables, but no day that something needs.
func TestALedgerThatIsTooLargeLosesItsOldestDays(t *testing.T) {
	t.Parallel()
	db := servertest.Postgres(t)
	const day = 24 * time.Hour
	today := time.Now().UTC().Truncate(day)
	exec := func(query string, args ...any) {
		t.Helper()
		if _, err := db.ExecContext(t.Context(), query, args...); err != nil {
			t.Fatal(err)
		}
	}
	// days lists how many days ago there is a partition of each of the three tables.
	days := func() (ago []int) {
		t.Helper()
		rows, err := db.QueryContext(t.Context(), `SELECT right(relname, 8) FROM pg_inherits JOIN pg_class ON oid = inhrelid
WHERE inhparent IN ('events'::regclass, 'deliveries'::regclass, 'attempts'::regclass) AND relname ~ '_[0-9]{8}$' GROUP BY 1 HAVING count(*) = 3`)
		if err := postgres.Each(rows, err, func() error {
			var name string
			err := rows.Scan(&name)
			at, _ := time.Parse("20060102", name)
			if n := int(today.Sub(at) / day); n >= 0 {
				ago = append(ago, n)
			}
			return err
		}); err != nil {
			t.Fatal(err)
		}
		slices.Sort(ago)
		return ago
	}
	for ago := range 8 {
		at := today.Add(-time.Duration(ago) * day)
		if err := postgres.EnsurePartitions(t.Context(), db, at, at); err != nil {
			t.Fatal(err)
		}
		exec(`INSERT INTO events VALUES ($1, 'acme', 'e', 't', $2, $2, 1, 1, '')`, idOf(at), at)
		exec(`INSERT INTO event_data VALUES ($1, 'x')`, idOf(at))
	}
	at := today.Add(-6 * day)
	exec(`INSERT INTO deferrals (id, tenant, event_uid, event_id, event_type, seq, subscription_id, generation, reason, attempts, step,
    test, held, created_at, due_at, claim_at) VALUES ($1, 'acme', $1, 'e', 't', 1, $1, 0, 'paused', 1, 1, false, true, $2, $2, $2)`, idOf(at), at)
	apply := func(maxBytes int64, streamSince time.Time) {
		t.Helper()
		const long = 100 * day
		r := postgres.NewRetention(postgres.RetentionConfig{Events: long, Deliveries: long, Attempts: long, Quarantine: long, MaxBytes: maxBytes}, db, slog.New(slog.DiscardHandler))
		r.Protect(func(context.Context) (time.Time, error) { return streamSince, nil })
		if err := r.Apply(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	for _, step := range []struct {
		what     string
		maxBytes int64
		since    time.Time
		want     []int
	}{
		{"without a bound", 0, today, []int{0, 1, 2, 3, 4, 5, 6, 7}},
		{"with room", 1 << 30, today, []int{0, 1, 2, 3, 4, 5, 6, 7}},
		{"with events of four days in the stream", 1, today.Add(-4 * day), []int{0, 1, 2, 3, 4, 6}},
		{"with an empty stream", 1, time.Time{}, []int{0, 1, 6}},
	} {
		apply(step.maxBytes, step.since)
		got := days()
		if got = slices.DeleteFunc(got, func(ago int) bool { return ago == 2 && step.since.IsZero() }); !slices.Equal(got, step.want) { // That of two days ago goes after one o'clock.
			t.Errorf("%s the days ago are %v, want %v", step.what, got, step.want)
		}
	}
	var copies int
	if err := db.QueryRowContext(t.Context(), `SELECT count(*) FROM event_data`).Scan(&copies); err != nil || copies > len(days()) {
		t.Errorf("%d copies of events are left, %v", copies, err)
	}
}
