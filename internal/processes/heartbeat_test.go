package processes_test

import (
	"context"
	"database/sql"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/fanfarehq/fanfare/internal/postgres"
	"github.com/fanfarehq/fanfare/internal/processes"
	"github.com/fanfarehq/fanfare/internal/servertest"
)

func TestMain(m *testing.M) { servertest.Main(m) }

func rows(t *testing.T, db *sql.DB) (n int) {
	t.Helper()
	if err := db.QueryRow("SELECT count(*) FROM processes").Scan(&n); err != nil {
		t.Fatal(err)
	}
	return n
}

func TestAProcessHasItsRowWhileItRuns(t *testing.T) {
	t.Parallel()
	db := servertest.Postgres(t)
	if _, err := db.Exec(`INSERT INTO processes (id, role, host, version, seen_at) VALUES
	  (gen_random_uuid(), 'deliver', 'killed', '1', now() - interval '2 hours'), (gen_random_uuid(), 'deliver', 'alive', '1', now())`); err != nil {
		t.Fatal(err)
	}
	h := processes.NewHeartbeat(db, "api", "v1")
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- h.Run(ctx) }()
	if err := h.Check(t.Context()); err != nil {
		t.Fatal(err)
	}
	var role, version string
	if err := db.QueryRow("SELECT role, version FROM processes WHERE host <> 'alive'").Scan(&role, &version); err != nil || role != "api" || version != "v1" {
		t.Errorf("got %s %s, error %v", role, version, err)
	}
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
	if n := rows(t, db); n != 1 {
		t.Errorf("%d rows are left, want that of the process that is alive", n)
	}
}

// A database that answers but takes no writes is not enough.
func TestAReadOnlyDatabaseFailsTheCheck(t *testing.T) {
	t.Parallel()
	own := servertest.PostgresURL(t)
	db, err := postgres.Open(t.Context(), own+"&default_transaction_read_only=on", 2)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	if err := processes.NewHeartbeat(db, "api", "v1").Check(t.Context()); !postgres.IsUnavailable(err) {
		t.Errorf("got %v", err)
	}
}

// A database that takes the small row and refuses larger writes is not enough either.
func TestAFullDiskFailsTheCheck(t *testing.T) {
	t.Parallel()
	db := servertest.Postgres(t)
	h := processes.NewHeartbeat(db, "api", "v1")
	if err := h.Check(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := db.Exec(`DO $$ BEGIN RAISE disk_full USING MESSAGE = 'could not extend file'; END $$`); err == nil {
		t.Fatal("the refusal is no error")
	}
	if err := h.Check(t.Context()); err == nil || !strings.Contains(err.Error(), "could not extend file") {
		t.Errorf("got %v", err)
	}
}

// Of workers that start together at most one finds itself alone; with the next beat all have counted all, and no two have the same
// rank. Processes of other roles and workers that were killed do not count.
func TestWorkersCountEachOther(t *testing.T) {
	t.Parallel()
	db := servertest.Postgres(t)
	if _, err := db.Exec(`INSERT INTO processes (id, role, host, version, seen_at) VALUES
	  (gen_random_uuid(), 'deliver', 'killed', '1', now() - interval '20 seconds'), (gen_random_uuid(), 'api', 'other', '1', now())`); err != nil {
		t.Fatal(err)
	}
	type count struct{ worker, workers, rank int }
	counts := make(chan count, 100)
	ctx, cancel := context.WithCancel(t.Context())
	var running sync.WaitGroup
	defer running.Wait()
	defer cancel()
	const workers = 3
	for worker := range workers {
		h := processes.NewHeartbeat(db, []string{"deliver", "all"}[worker%2], "v1")
		h.OnCount(func(workers, rank int) { counts <- count{worker, workers, rank} })
		running.Go(func() { _ = h.Run(ctx) })
	}
	alone, first, ranks, late := 0, map[int]bool{}, map[int]int{}, time.After(2*time.Minute)
	for len(ranks) < workers { // On a busy machine one may beat twice before another has begun.
		var c count
		select {
		case c = <-counts:
		case <-late:
			t.Fatalf("%d of %d workers have counted all", len(ranks), workers)
		}
		if !first[c.worker] && c.workers == 1 {
			alone++
		}
		first[c.worker] = true
		if c.workers > workers || c.rank < 0 || c.rank >= c.workers {
			t.Errorf("got %+v", c)
		}
		if c.workers == workers {
			ranks[c.worker] = c.rank
		}
	}
	if alone > 1 {
		t.Errorf("%d workers found themselves alone, want 1 at most", alone)
	}
	distinct := map[int]bool{}
	for _, rank := range ranks {
		distinct[rank] = true
	}
	if len(distinct) != workers {
		t.Errorf("ranks %v, want one for each worker", ranks)
	}
}

// A process that started Postgres itself finds no others.
func TestForget(t *testing.T) {
	t.Parallel()
	db := servertest.Postgres(t)
	if err := processes.NewHeartbeat(db, "all", "v1").Check(t.Context()); err != nil || rows(t, db) != 1 {
		t.Fatalf("error %v", err)
	}
	if err := processes.Forget(t.Context(), db); err != nil || rows(t, db) != 0 {
		t.Errorf("%d rows are left, error %v", rows(t, db), err)
	}
}

// A worker whose row is old and whose sessions are gone was killed. One that has a session is stopped or cut off, and one
// that writes its row lives.
func TestKilledWorkersAreFound(t *testing.T) {
	t.Parallel()
	url := servertest.PostgresURL(t)
	join := func() (*processes.Heartbeat, *sql.DB) {
		db, err := postgres.Open(t.Context(), url, 2)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = db.Close() })
		h := processes.NewHeartbeat(db, "deliver", "v1")
		if err := h.Check(t.Context()); err != nil {
			t.Fatal(err)
		}
		return h, db
	}
	judge, db := join()
	killed, closed := join()
	stopped, _ := join()
	alive, _ := join()
	if _, err := db.Exec("UPDATE processes SET seen_at = now() - interval '10 seconds' WHERE id IN ($1, $2)", killed.ID(), stopped.ID()); err != nil {
		t.Fatal(err)
	}
	_ = closed.Close() // As the kernel does for a process that is killed.
	find := func(known ...string) []string {
		found, err := judge.Killed(t.Context(), known)
		if err != nil {
			t.Fatal(err)
		}
		return found
	}
	if got := find(); len(got) != 0 {
		t.Errorf("a process that has just started found %v", got)
	}
	judge.Steady()
	got := find()
	for tries := 0; !slices.Equal(got, []string{killed.ID()}) && tries < 1000; tries++ { // Its sessions take a moment to end.
		judge.Steady()
		got = find()
	}
	if !slices.Equal(got, []string{killed.ID()}) {
		t.Fatalf("found %v, want %s, neither the stopped %s nor the living %s", got, killed.ID(), stopped.ID(), alive.ID())
	}
	if got := find(killed.ID()); len(got) != 0 {
		t.Errorf("found %v again", got)
	}
}
