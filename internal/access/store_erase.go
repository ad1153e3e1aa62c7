package access

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"github.com/fanfarehq/fanfare/internal/postgres"
)

// toErase is a deleted tenant of which something may be left.
type toErase struct {
	tenant string
	total  *int64 // what there was; nil before the erasure began
	again  bool   // it was erased before
}

// Slow attempts may bring an answer back after the end of an erasure.
const (
	sweepFor   = 10 * time.Minute
	sweepEvery = time.Minute
)

// unerased are deleted tenants of which something may be left.
func (s store) unerased(ctx context.Context) ([]toErase, error) {
	rows, err := s.db.QueryContext(ctx, `
SELECT tenant, erase_total, erased_at IS NOT NULL FROM tenants WHERE deleted_at IS NOT NULL
    AND (erased_at IS NULL OR erased_at > now() - $1 * interval '1 second' AND swept_at < now() - $2 * interval '1 second')
ORDER BY swept_at NULLS FIRST, deleted_at LIMIT 100`, int(sweepFor.Seconds()), int(sweepEvery.Seconds()))
	if err != nil {
		return nil, fmt.Errorf("list tenants to erase: %w", err)
	}
	return collect(rows, func(row scanner) (t toErase, err error) {
		return t, row.Scan(&t.tenant, &t.total, &t.again)
	})
}

// beginErasing notes how much there is to erase.
func (s store) beginErasing(ctx context.Context, tenant string, total int64) error {
	if _, err := s.db.ExecContext(ctx, `UPDATE tenants SET erase_total = $2 WHERE tenant = $1`, tenant, total); err != nil {
		return fmt.Errorf("begin the erasure: %w", err)
	}
	return nil
}

// noteErasing notes how much is left to erase. New rows of attempts in flight may raise the total.
func (s store) noteErasing(ctx context.Context, tenant string, left int64) error {
	if _, err := s.db.ExecContext(ctx, `UPDATE tenants SET erase_total = greatest(erase_total, $2),
    erase_done = greatest(erase_total, $2) - $2, swept_at = now() WHERE tenant = $1`, tenant, left); err != nil {
		return fmt.Errorf("note the progress of the erasure: %w", err)
	}
	return nil
}

// progress is how far an erasure is.
type progress struct{ done, total int64 }

// erasing returns a tenant that is being erased, and how far that is; nil if it is not.
func (s store) erasing(ctx context.Context, tenant string) (t *Tenant, at progress, err error) {
	row := s.db.QueryRowContext(ctx, `SELECT `+tenantColumns+`, erase_done, coalesce(erase_total, 0) FROM tenants
WHERE tenant = $1 AND deleted_at IS NOT NULL AND erased_at IS NULL`, tenant)
	t, err = scanTenant(more{row, []any{&at.done, &at.total}})
	if errors.Is(err, sql.ErrNoRows) {
		return nil, at, nil
	}
	if err != nil {
		return nil, at, fmt.Errorf("read the progress of an erasure: %w", err)
	}
	return t, at, nil
}

// more scans further columns.
type more struct {
	scanner
	columns []any
}

func (m more) Scan(columns ...any) error { return m.scanner.Scan(append(columns, m.columns...)...) }

// eraseTenant removes what this package holds of the tenant but its name, and ends the job.
func (s store) eraseTenant(ctx context.Context, tenant string) error {
	return postgres.Retry(ctx, s.db, func(ctx context.Context, tx *sql.Tx) error {
		if _, err := tx.ExecContext(ctx, `DELETE FROM keys WHERE tenant = $1 AND NOT admin`, tenant); err != nil {
			return fmt.Errorf("delete keys: %w", err)
		}
		_, err := tx.ExecContext(ctx, `UPDATE tenants SET name = '', metadata = '{}', erase_done = erase_total, swept_at = now(),
    erased_at = coalesce(erased_at, now()) WHERE tenant = $1`, tenant)
		if err != nil {
			return fmt.Errorf("end the erasure: %w", err)
		}
		return nil
	})
}
