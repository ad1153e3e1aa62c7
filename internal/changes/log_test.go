package changes_test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/fanfarehq/fanfare/internal/changes"
	"github.com/fanfarehq/fanfare/internal/postgres"
	"github.com/fanfarehq/fanfare/internal/servertest"
)

// record records a change of a key; name is its definition, empty for its deletion.
func record(t *testing.T, db *sql.DB, id, name string, at time.Time) {
	t.Helper()
	c := &changes.Change{Tenant: "acme", Resource: changes.Key, ResourceID: id, Action: changes.Update, At: at}
	if name != "" {
		c.After = map[string]string{"name": name}
	}
	if err := postgres.Retry(t.Context(), db, func(ctx context.Context, tx *sql.Tx) error {
		return changes.Record(changes.By(ctx, "test"), tx, c)
	}); err != nil {
		t.Fatal(err)
	}
}

func TestDefinitionsOfThen(t *testing.T) {
	t.Parallel()
	db := servertest.Postgres(t)
	log := changes.NewLog(db)
	start := time.Date(2026, 11, 1, 0, 0, 0, 0, time.UTC)
	for i, name := range []string{"one", "two", "", "four"} {
		record(t, db, "k", name, start.Add(time.Duration(i)*time.Hour))
	}
	for _, tc := range []struct {
		as   changes.As
		want string
		err  error
	}{
		{changes.As{Revision: 1}, `{"name": "one"}`, nil},
		{changes.As{Revision: 2}, `{"name": "two"}`, nil},
		{changes.As{Revision: 3}, "", changes.ErrNone},
		{changes.As{Revision: 99}, `{"name": "four"}`, nil},
		{changes.As{At: start.Add(90 * time.Minute)}, `{"name": "two"}`, nil},
		{changes.As{At: start.Add(-time.Minute)}, "", changes.ErrNone},
	} {
		got, err := log.At(t.Context(), "acme", changes.Key, "k", tc.as)
		if string(got.JSON) != tc.want || !errors.Is(err, tc.err) {
			t.Errorf("%+v: got %s, error %v", tc.as, got.JSON, err)
		}
	}
	if _, err := log.At(t.Context(), "acme", changes.Key, "other", changes.As{Revision: 1}); !errors.Is(err, changes.ErrUnknown) {
		t.Errorf("got %v", err)
	}
}

// age gives the changes ids of their time, as those of a real history have.
func age(t *testing.T, db *sql.DB) {
	t.Helper()
	if _, err := db.Exec(`UPDATE changes SET id = overlay(id::text PLACING prefix FROM 1 FOR 13)::uuid FROM (
    SELECT id AS of, overlay(lpad(to_hex((extract(epoch FROM at) * 1000)::bigint), 12, '0') PLACING '-' FROM 9 FOR 0) AS prefix FROM changes) a WHERE of = id`); err != nil {
		t.Fatal(err)
	}
}

// Old changes go; the newest one of a resource that exists stays, however old.
func TestSweepKeepsWhatIsStillTrue(t *testing.T) {
	t.Parallel()
	db := servertest.Postgres(t)
	log := changes.NewLog(db)
	old, young := time.Now().Add(-48*time.Hour), time.Now().Add(-time.Minute)
	record(t, db, "exists", "1", old)
	record(t, db, "exists", "2", old)
	record(t, db, "exists", "3", young)
	record(t, db, "deleted", "1", old)
	record(t, db, "deleted", "", old)
	record(t, db, "quiet", "1", old)
	age(t, db)
	if err := log.Sweep(t.Context(), 24*time.Hour); err != nil {
		t.Fatal(err)
	}
	rows, err := db.Query(`SELECT resource_id, revision FROM changes ORDER BY resource_id, revision`)
	got, err := postgres.Collect(rows, err, func(rows *sql.Rows) (text string, err error) {
		var revision int
		if err = rows.Scan(&text, &revision); err != nil {
			return "", err
		}
		return fmt.Sprint(text, revision), nil
	})
	if want := "[exists2 exists3 quiet1]"; err != nil || fmt.Sprint(got) != want {
		t.Errorf("got %v, error %v, want %s", got, err, want)
	}
}
