package processes

import (
	"context"
	"database/sql"
	"fmt"
	"os"
	"sync"
	"time"

	"github.com/google/uuid"

	"github.com/fanfarehq/fanfare/internal/postgres"
)

const (
	// every is the time between two writes of a row.
	every = 5 * time.Second
	// fresh is how old a write may be that still shows that Postgres takes writes.
	fresh = 2 * every
	// timeout bounds one write.
	timeout = 3 * time.Second
)

// upsert writes the row of a process, and returns how many other live workers there are, and how many of them have a lower
// id. A worker is live if it wrote its row within three beats.
const upsert = `
WITH killed AS (DELETE FROM processes WHERE seen_at < now() - interval '1 hour'),
    beat AS (INSERT INTO processes (id, role, host, version, backend, backend_since)
        SELECT $1, $2, $3, $4, pid, backend_start FROM pg_stat_activity WHERE pid = pg_backend_pid()
        ON CONFLICT (id) DO UPDATE SET seen_at = now(), backend = excluded.backend, backend_since = excluded.backend_since)
SELECT count(*), count(*) FILTER (WHERE id < $1) FROM processes
WHERE id <> $1 AND role IN ('deliver', 'all') AND seen_at > now() - interval '15 seconds'`

// Heartbeat writes the row of this process.
type Heartbeat struct {
	db                  *sql.DB
	id                  uuid.UUID
	role, host, version string
	counted             func(workers, rank int)

	mu      sync.Mutex // held while the row is written
	written time.Time  // the last time it was
	steady  time.Time  // since when every write succeeded
	joined  bool       // it was written before
	others  int        // live workers at that time, without this process
	rank    int        // of them, those with a lower id
}

// NewHeartbeat makes the heartbeat of a process of a role; nothing is written yet.
func NewHeartbeat(db *sql.DB, role, version string) *Heartbeat {
	host, err := os.Hostname()
	if err != nil {
		host = "unknown"
	}
	return &Heartbeat{db: db, id: uuid.New(), role: role, host: host, version: version, counted: func(int, int) {}}
}

// ID names the process; no two processes ever have the same.
func (h *Heartbeat) ID() string { return h.id.String() }

// OnCount calls f after each beat with the number of live workers, this process included, and its rank among them. It is
// for the process of a worker, before Run.
func (h *Heartbeat) OnCount(f func(workers, rank int)) { h.counted = f }

// Forget removes all rows. It is for a process that started Postgres itself: all other processes were stopped or will write
// their rows again.
func Forget(ctx context.Context, db *sql.DB) error {
	if _, err := db.ExecContext(ctx, "DELETE FROM processes"); err != nil {
		return fmt.Errorf("remove rows of processes: %w", err)
	}
	return nil
}

// Run writes the row every few seconds until ctx ends, and then removes it. What fails is Check's to report.
func (h *Heartbeat) Run(ctx context.Context) error {
	tick := time.NewTicker(every)
	defer tick.Stop()
	for {
		if h.beat(ctx, 0) == nil {
			h.counted(h.census())
		}
		select {
		case <-ctx.Done():
			h.leave(ctx)
			return nil
		case <-tick.C:
		}
	}
}

// census returns the number of live workers with this process, and its rank.
func (h *Heartbeat) census() (workers, rank int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.others + 1, h.rank
}

// Check returns nil if the row was written lately, or can be now, and Postgres refused no write lately for lack of disk space.
func (h *Heartbeat) Check(ctx context.Context) error {
	if err := h.beat(ctx, fresh); err != nil {
		return err
	}
	if err := postgres.DiskFull(h.db, fresh); err != nil {
		return fmt.Errorf("write to Postgres: %w", err)
	}
	return nil
}

// beat writes the row unless it was written within the time given.
func (h *Heartbeat) beat(ctx context.Context, within time.Duration) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if time.Since(h.written) < within {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	err := h.write(ctx)
	if err != nil {
		h.written, h.steady = time.Time{}, time.Time{}
		return fmt.Errorf("write to Postgres: %w", err)
	}
	if now := time.Now(); h.steady.IsZero() || now.Sub(h.written) > fresh {
		h.steady = now
	}
	h.written, h.joined = time.Now(), true
	return nil
}

// write writes the row and counts the workers. The first time it counts again once the row is visible: of workers that start
// together, at most one may find itself alone.
func (h *Heartbeat) write(ctx context.Context) error {
	times := 1
	if !h.joined {
		times = 2
	}
	for range times {
		if err := h.db.QueryRowContext(ctx, upsert, h.id, h.role, h.host, h.version).Scan(&h.others, &h.rank); err != nil {
			return err
		}
	}
	return nil
}

// leave removes the row. If that fails, the row ages.
func (h *Heartbeat) leave(ctx context.Context) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), timeout)
	defer cancel()
	_, _ = h.db.ExecContext(ctx, "DELETE FROM processes WHERE id = $1", h.id)
}
