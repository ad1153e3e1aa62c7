package processes

import (
	"context"
	"database/sql"
	"fmt"
	"os"
	"sync"
	"time"

	"github.com/google/uuid"
)

const (
	// every is the time between two writes of a row.
	every = 5 * time.Second
	// fresh is how old a write may be that still shows that Postgres takes writes.
	fresh = 2 * every
	// timeout bounds one write.
	timeout = 3 * time.Second
)

// Heartbeat writes the row of this process.
type Heartbeat struct {
	db                  *sql.DB
	id                  uuid.UUID
	role, host, version string

	mu      sync.Mutex // held while the row is written
	written time.Time  // the last time it was
}

// NewHeartbeat makes the heartbeat of a process of a role; nothing is written yet.
func NewHeartbeat(db *sql.DB, role, version string) *Heartbeat {
	host, err := os.Hostname()
	if err != nil {
		host = "unknown"
	}
	return &Heartbeat{db: db, id: uuid.New(), role: role, host: host, version: version}
}

// Run writes the row every few seconds until ctx ends, and then removes it. What fails is Check's to report.
func (h *Heartbeat) Run(ctx context.Context) error {
	tick := time.NewTicker(every)
	defer tick.Stop()
	for {
		_ = h.beat(ctx, 0)
		select {
		case <-ctx.Done():
			h.leave(ctx)
			return nil
		case <-tick.C:
		}
	}
}

// Check returns nil if the row was written lately, or can be now.
func (h *Heartbeat) Check(ctx context.Context) error { return h.beat(ctx, fresh) }

// beat writes the row unless it was written within the time given.
func (h *Heartbeat) beat(ctx context.Context, within time.Duration) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if time.Since(h.written) < within {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	_, err := h.db.ExecContext(ctx, `
WITH killed AS (DELETE FROM processes WHERE seen_at < now() - interval '1 hour')
INSERT INTO processes (id, role, host, version) VALUES ($1, $2, $3, $4)
ON CONFLICT (id) DO UPDATE SET seen_at = now()`, h.id, h.role, h.host, h.version)
	if err != nil {
		h.written = time.Time{}
		return fmt.Errorf("write to Postgres: %w", err)
	}
	h.written = time.Now()
	return nil
}

// leave removes the row. If that fails, the row ages.
func (h *Heartbeat) leave(ctx context.Context) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), timeout)
	defer cancel()
	_, _ = h.db.ExecContext(ctx, "DELETE FROM processes WHERE id = $1", h.id)
}
