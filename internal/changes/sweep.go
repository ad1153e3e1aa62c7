package changes

import (
	"bytes"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"

	"github.com/fanfarehq/fanfare/internal/postgres"
)

// sweepChunk is how many rows one statement looks at or removes.
const sweepChunk = 2000

// sweepPage looks at a page of old changes, and removes those that are not the newest one of their resource before $1 and those
// of resources that were deleted before. It returns the last one of the page, and how many there were.
const sweepPage = `
WITH page AS MATERIALIZED (
    SELECT id, at, tenant, resource, resource_id, revision, definition IS NULL AS deleted FROM changes WHERE id > $2 AND id < $3 ORDER BY id LIMIT $4
), gone AS (
    DELETE FROM changes c USING page p WHERE c.id = p.id AND p.at < $1 AND (p.deleted OR $1 > (
        SELECT n.at FROM changes n WHERE n.resource = p.resource AND n.resource_id = p.resource_id AND n.tenant = p.tenant AND n.revision > p.revision
        ORDER BY n.revision LIMIT 1))
)
SELECT coalesce((array_agg(id ORDER BY id DESC))[1], $2), count(*) FROM page`

// Sweep removes changes that are older than keep, but for the newest one of each resource that exists.
func (l *Log) Sweep(ctx context.Context, keep time.Duration) error {
	before := time.Now().Add(-keep)
	last := uuid.Nil
	for {
		var n int
		if err := l.db.QueryRowContext(ctx, sweepPage, before, last, firstID(before.Add(idSlack)), sweepChunk).Scan(&last, &n); err != nil {
			return fmt.Errorf("clean changes: %w", err)
		}
		if n < sweepChunk {
			return nil
		}
	}
}

// changers lists the tenants of a page of changes, and the last change of the page.
const changers = `
SELECT tenant, (array_agg(id ORDER BY id DESC))[1], count(*) FROM (SELECT id, tenant FROM changes WHERE id > $1 ORDER BY id LIMIT $2) c GROUP BY tenant`

// Trim removes the oldest changes of the tenants that have too many or too large ones, and returns the time from which on the
// next call has to look: changes made in a loop do not pile up. Only tenants with a change since a time are looked at; zero is the last day.
func (l *Log) Trim(ctx context.Context, since time.Time) (time.Time, error) {
	begun := time.Now()
	if since.IsZero() {
		since = begun.Add(-24 * time.Hour)
	}
	tenants := map[string]bool{}
	for page, last := sweepChunk, firstID(since); page == sweepChunk; {
		page = 0
		rows, err := l.db.QueryContext(ctx, changers, last, sweepChunk)
		err = postgres.Each(rows, err, func() error {
			var tenant string
			var of uuid.UUID
			var n int
			if err := rows.Scan(&tenant, &of, &n); err != nil {
				return err
			}
			tenants[tenant], page = true, page+n
			if bytes.Compare(of[:], last[:]) > 0 {
				last = of
			}
			return nil
		})
		if err != nil {
			return since, fmt.Errorf("list tenants that changed something: %w", err)
		}
	}
	for tenant := range tenants {
		if err := l.trim(ctx, tenant); err != nil {
			return since, err
		}
	}
	return begun.Add(-time.Minute), nil // Transactions that commit late.
}

// excess finds the newest change of a tenant that exceeds the rows or the bytes.
const excess = `
SELECT id FROM (
    SELECT id, row_number() OVER newest AS n, sum(bytes) OVER newest AS total FROM changes WHERE tenant = $1 WINDOW newest AS (ORDER BY id DESC)
    ORDER BY id DESC LIMIT $2 + 1
) c WHERE n > $2 OR total > $3 ORDER BY id DESC LIMIT 1`

// trim leaves the newest changes of a tenant.
func (l *Log) trim(ctx context.Context, tenant string) error {
	var last uuid.UUID
	err := l.db.QueryRowContext(ctx, excess, tenant, l.most, l.mostBytes).Scan(&last)
	if errors.Is(err, sql.ErrNoRows) {
		return nil
	}
	if err == nil {
		err = postgres.InBatches(ctx, l.db, sweepChunk, `DELETE FROM changes WHERE id IN (SELECT id FROM changes WHERE tenant = $3 AND id <= $1 LIMIT $2)`, last, sweepChunk, tenant)
	}
	if err != nil {
		return fmt.Errorf("trim changes: %w", err)
	}
	return nil
}

// EraseTenant removes a tenant's changes; that it was deleted, and by whom, stays.
func (l *Log) EraseTenant(ctx context.Context, tenant string) error {
	if err := postgres.InBatches(ctx, l.db, sweepChunk, `DELETE FROM changes WHERE id IN (
    SELECT id FROM changes WHERE tenant = $1 AND NOT (resource = 'tenant' AND action = 'delete') LIMIT $2)`, tenant, sweepChunk); err != nil {
		return fmt.Errorf("erase changes of tenant %s: %w", tenant, err)
	}
	return nil
}
