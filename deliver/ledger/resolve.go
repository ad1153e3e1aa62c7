package ledger

import (
	"context"
	"database/sql"
	"fmt"

	"github.com/fanfarehq/fanfare/deliver/outcome"
	"github.com/fanfarehq/fanfare/internal/postgres"
)

// resolveFirst resolves dead letters of the first generation, which the primary key finds.
const resolveFirst = `
UPDATE deliveries d SET resolved_at = (SELECT o.at FROM unnest($1::uuid[], $2::timestamptz[]) AS o (id, at) WHERE o.id = d.id LIMIT 1)
WHERE d.id = ANY ($1::uuid[]) AND d.state = 'dead' AND d.resolved_at IS NULL`

// resolveLater resolves dead letters of later generations than the first, of which few events have any.
const resolveLater = `
UPDATE deliveries d SET resolved_at = $4
WHERE d.event_uid = $1 AND d.subscription_id = $2 AND d.generation > 0 AND d.generation < $3 AND d.id >= $5
    AND d.state = 'dead' AND d.resolved_at IS NULL`

// resolve notes of dead letters that a later generation was delivered.
func resolve(ctx context.Context, tx *sql.Tx, ended []*outcome.Record) error {
	var first []postgres.Column
	for _, r := range ended {
		if r.Outcome != outcome.Delivered || r.Generation == 0 {
			continue
		}
		if first == nil {
			first = postgres.Columns(2, len(ended))
		}
		first[0].UUID(outcome.FirstDelivery(r.EventUID, r.Subscription))
		first[1].Time(r.At)
		if r.Generation == 1 {
			continue
		}
		if _, err := tx.ExecContext(ctx, resolveLater, r.EventUID, r.Subscription, r.Generation, r.At, outcome.Oldest(r.EventUID)); err != nil {
			return fmt.Errorf("resolve dead letters of event %s: %w", r.EventID, err)
		}
	}
	if first == nil {
		return nil
	}
	if _, err := tx.ExecContext(ctx, resolveFirst, postgres.Args(first)...); err != nil {
		return fmt.Errorf("resolve dead letters: %w", err)
	}
	return nil
}
