package deliver

import (
	"context"
	"database/sql"
	"fmt"

	"github.com/lib/pq"
)

// endLeases ends leases before their time. Their rows keep the name of the worker, so that the ledger catches up before
// they are claimed, and the lapse is counted.
const endLeases = `
UPDATE deferrals SET claim_at = now()
WHERE NOT held AND claim_at > now() AND claim_at < now() + $1 * interval '1 millisecond' AND worker <> ''`

// ReleaseLeases ends all leases. It is for a process that has Postgres to itself and starts: nobody has a lease.
func ReleaseLeases(ctx context.Context, db *sql.DB) error {
	if _, err := db.ExecContext(ctx, endLeases, everDue.Milliseconds()); err != nil {
		return fmt.Errorf("release leases: %w", err)
	}
	return nil
}

// bury ends the leases of workers that were killed, so that they are not waited for. A killed worker writes no outcome any
// more; those that it wrote are caught up with before the leases are taken over.
func (d *due) bury(ctx context.Context) error {
	w := d.worker
	if w.killed == nil {
		return nil
	}
	ids, err := w.killed(ctx, d.buried)
	if err != nil || len(ids) == 0 {
		return err
	}
	ended, err := w.ledger.DB.ExecContext(ctx, endLeases+" AND worker = ANY ($2)", w.cfg.Lease.Milliseconds(), pq.Array(ids))
	if err != nil {
		return fmt.Errorf("end the leases of killed workers: %w", err)
	}
	d.buried = append(d.buried, ids...)
	n, err := ended.RowsAffected()
	if err != nil {
		return fmt.Errorf("end the leases of killed workers: %w", err)
	}
	w.log.Info("leases of killed workers ended", "workers", len(ids), "leases", n)
	return nil
}
