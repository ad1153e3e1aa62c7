package processes

import (
	"context"
	"fmt"
	"time"

	"github.com/lib/pq"
)

// certain is for how long this process must have written its row without a failure before it may judge others: while
// Postgres takes no writes, the rows of all processes grow old.
const certain = 12 * time.Second

// killed finds the workers whose row is old and whose last session is gone: the kernel closes the connections of a process
// that is killed. One that is stopped or cut off keeps its session, and so is not found.
const killed = `
SELECT id FROM processes p
WHERE role IN ('deliver', 'all') AND seen_at < now() - interval '8 seconds' AND backend IS NOT NULL AND id::text <> ALL (coalesce($1, '{}'::text[]))
    AND NOT EXISTS (SELECT FROM pg_stat_activity a
        WHERE a.pid = p.backend AND (a.backend_start IS NULL OR a.backend_start = p.backend_since))`

// Killed returns the ids of workers that were killed, but for those that the caller knows of.
func (h *Heartbeat) Killed(ctx context.Context, known []string) (ids []string, err error) {
	if !h.certain() {
		return nil, nil
	}
	rows, err := h.db.QueryContext(ctx, killed, pq.Array(known))
	if err != nil {
		return nil, fmt.Errorf("look for killed workers: %w", err)
	}
	defer rows.Close()
	for rows.Next() {
		var id string
		if err := rows.Scan(&id); err != nil {
			return nil, fmt.Errorf("look for killed workers: %w", err)
		}
		ids = append(ids, id)
	}
	if err := rows.Err(); err != nil {
		return nil, fmt.Errorf("look for killed workers: %w", err)
	}
	return ids, nil
}

// certain reports whether the row was written without a failure for long enough, and lately.
func (h *Heartbeat) certain() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return !h.steady.IsZero() && time.Since(h.steady) > certain && time.Since(h.written) < fresh
}
