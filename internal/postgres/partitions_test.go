package postgres_test

import (
	"context"
	"database/sql"
	"encoding/binary"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/fanfarehq/fanfare/internal/postgres"
	"github.com/fanfarehq/fanfare/internal/servertest"
)

// idAt is a UUIDv7 of a time whose other bits are all zero, all one, or random.
func idAt(at time.Time, bits string) uuid.UUID {
	var id uuid.UUID
	high, low := rand.Uint64(), rand.Uint64()
	switch bits {
	case "0":
		high, low = 0, 0
	case "1":
		high, low = ^uint64(0), ^uint64(0)
	}
	binary.BigEndian.PutUint64(id[:8], uint64(at.UnixMilli())<<16|high&0xfff|0x7000)
	binary.BigEndian.PutUint64(id[8:], low&0x3fffffffffffffff|0x8000000000000000)
	return id
}

func insertEvent(t *testing.T, db *sql.DB, id uuid.UUID) {
	t.Helper()
	err := postgres.Retry(t.Context(), db, func(ctx context.Context, tx *sql.Tx) error {
		_, err := tx.ExecContext(ctx, `INSERT INTO events (uid, tenant, id, type, time, accepted_at, seq, matched, hash)
		VALUES ($1::uuid, 'acme', $1::uuid::text, 'a.b', now(), now(), 1, 0, '')`, id)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

func partitionOf(t *testing.T, db *sql.DB, id uuid.UUID) string {
	t.Helper()
	var name string
	if err := db.QueryRow("SELECT tableoid::regclass::text FROM events WHERE uid = $1", id).Scan(&name); err != nil {
		t.Fatal(err)
	}
	return name
}

func TestPartitionsHoldTheirDay(t *testing.T) {
	t.Parallel()
	db := servertest.Postgres(t)
	first := time.Date(2026, 2, 27, 23, 59, 59, 0, time.FixedZone("east", 3600)) // 22:59:59 of the 27th
	if err := postgres.EnsurePartitions(t.Context(), db, first, first.Add(48*time.Hour)); err != nil {
		t.Fatal(err)
	}
	midnight := time.Date(2026, 2, 28, 0, 0, 0, 0, time.UTC)
	for _, test := range []struct {
		at   time.Time
		want string
	}{
		{midnight.Add(-24 * time.Hour), "events_20260227"}, {midnight.Add(-time.Millisecond), "events_20260227"},
		{midnight, "events_20260228"}, {midnight.Add(24*time.Hour - time.Millisecond), "events_20260228"},
		{midnight.Add(24 * time.Hour), "events_20260301"}, {midnight.Add(48 * time.Hour), "events_rest"},
		{midnight.Add(-24*time.Hour - time.Millisecond), "events_rest"},
	} {
		for _, bits := range []string{"0", "1", "random"} {
			id := idAt(test.at, bits)
			insertEvent(t, db, id)
			if got := partitionOf(t, db, id); got != test.want {
				t.Errorf("%s (%s): got %s, want %s", test.at, bits, got, test.want)
			}
		}
	}
	var names []string
	rows, err := db.Query("SELECT inhrelid::regclass::text FROM pg_inherits WHERE inhparent IN " +
		"('deliveries'::regclass, 'attempts'::regclass) ORDER BY 1")
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	for rows.Next() {
		var name string
		if err := rows.Scan(&name); err != nil {
			t.Fatal(err)
		}
		names = append(names, name)
	}
	want := "[attempts_20260227 attempts_20260228 attempts_20260301 attempts_rest " +
		"deliveries_20260227 deliveries_20260228 deliveries_20260301 deliveries_rest]"
	if got := fmt.Sprint(names); got != want || rows.Err() != nil {
		t.Errorf("got %s, error %v, want %s", got, rows.Err(), want)
	}
}

// Rows may come before their partition does; they are moved, and each is still there once.
func TestPartitionsTakeTheirRowsFromTheRest(t *testing.T) {
	t.Parallel()
	db := servertest.Postgres(t)
	at := time.Date(2026, 5, 1, 12, 0, 0, 0, time.UTC)
	mine, other := idAt(at, "random"), idAt(at.Add(24*time.Hour), "random")
	insertEvent(t, db, mine)
	insertEvent(t, db, other)
	if err := postgres.EnsurePartitions(t.Context(), db, at, at); err != nil {
		t.Fatal(err)
	}
	for id, want := range map[uuid.UUID]string{mine: "events_20260501", other: "events_rest"} {
		if got := partitionOf(t, db, id); got != want {
			t.Errorf("got %s, want %s", got, want)
		}
	}
	// A partition is as its table: it has the key and the indexes.
	_, err := db.Exec("INSERT INTO events SELECT * FROM events WHERE uid = $1", mine)
	if err == nil || !strings.Contains(err.Error(), "events_20260501_pkey") {
		t.Errorf("got %v, want a violation of the key", err)
	}
	var indexes int
	if err := db.QueryRow("SELECT count(*) FROM pg_indexes WHERE tablename = 'events_20260501'").Scan(&indexes); err != nil || indexes != 3 {
		t.Errorf("got %d indexes, error %v", indexes, err)
	}
}

func TestPartitionsAreMadeByManyAtOnceWhileRowsCome(t *testing.T) {
	t.Parallel()
	url := servertest.PostgresURL(t)
	db, err := postgres.Open(t.Context(), url, 10)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	from := time.Date(2026, 7, 1, 0, 0, 0, 0, time.UTC)
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			if err := postgres.EnsurePartitions(t.Context(), db, from, from.Add(4*24*time.Hour)); err != nil {
				t.Error(err)
			}
		})
		wg.Go(func() {
			for i := range 50 {
				insertEvent(t, db, idAt(from.Add(time.Duration(i)*2*time.Hour), "random"))
			}
		})
	}
	wg.Wait()
	var all, rest int
	err = db.QueryRow("SELECT (SELECT count(*) FROM events), (SELECT count(*) FROM events_rest)").Scan(&all, &rest)
	if err != nil || all != 200 || rest != 0 {
		t.Errorf("%d rows, %d of them in the rest, error %v", all, rest, err)
	}
}

func TestPartitionsRunFollowsTheDay(t *testing.T) {
	t.Parallel()
	db := servertest.Postgres(t)
	p := postgres.NewPartitions(db, slog.New(slog.DiscardHandler))
	if err := p.Ensure(t.Context()); err != nil {
		t.Fatal(err)
	}
	for _, days := range []int{-1, 0, 3} {
		id := idAt(time.Now().AddDate(0, 0, days), "random")
		insertEvent(t, db, id)
		if got := partitionOf(t, db, id); got == "events_rest" {
			t.Errorf("%d days from now: got %s", days, got)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := p.Run(ctx); err != nil {
		t.Errorf("Run: %v", err)
	}
}
