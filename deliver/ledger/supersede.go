package ledger

import (
	"context"
	"database/sql"
	"fmt"

	"github.com/google/uuid"

	"github.com/fanfarehq/fanfare/deliver/outcome"
	"github.com/fanfarehq/fanfare/internal/postgres"
)

// A dead letter of which a later generation is made no longer counts as one: the generation does. Once that one is cancelled,
// the dead letter counts again. So of one event for one subscription at most one dead letter is open.

// supersedeOne marks the open dead letter of an event ($1) for a subscription ($2), if there is one, as superseded by $3.
const supersedeOne = `
UPDATE deliveries SET superseded_by = $3
WHERE ` + OfEvent + ` AND subscription_id = $2 AND state = 'dead' AND superseded_by IS NULL`

// supersede marks dead letters ($1), each as superseded by a generation ($2).
const supersede = `
UPDATE deliveries d SET superseded_by = (SELECT o.made FROM unnest($1::uuid[], $2::uuid[]) AS o (id, made) WHERE o.id = d.id LIMIT 1)
WHERE d.id = ANY ($1::uuid[]) AND d.state = 'dead'`

// reopen has the dead letters count again whose later generation is among ids, an expression.
func reopen(ids string) string {
	return "UPDATE deliveries SET superseded_by = NULL WHERE superseded_by = ANY (" + ids + ")"
}

// reopenCancelled reopens the dead letters of generations that the recorder ended as cancelled. One that was delivered by another
// worker stays closed.
var reopenCancelled = reopen(`ARRAY(SELECT id FROM deliveries WHERE id = ANY ($1::uuid[]) AND state = 'cancelled')`)

// supersede marks the open dead letters of which generations were made.
func (l *Ledger) supersede(ctx context.Context, tx *sql.Tx, made []fresh) error {
	n := 0
	for _, f := range made {
		n += len(f.open)
	}
	if n == 0 {
		return nil
	}
	c := postgres.Columns(2, n)
	for _, f := range made {
		for _, id := range f.open {
			c[0].UUID(id)
			c[1].UUID(f.id())
		}
	}
	if _, err := tx.ExecContext(ctx, supersede, postgres.Args(c)...); err != nil {
		return fmt.Errorf("mark dead letters as superseded: %w", err)
	}
	return nil
}

// reopen reopens the dead letters whose later generations ended as cancelled.
func (l *Ledger) reopen(ctx context.Context, tx *sql.Tx, ended []*outcome.Record) error {
	var ids []uuid.UUID
	for _, r := range ended {
		if r.Outcome == outcome.Cancelled && r.Generation > 0 {
			ids = append(ids, r.Delivery)
		}
	}
	if len(ids) == 0 {
		return nil
	}
	if _, err := tx.ExecContext(ctx, reopenCancelled, Uuids(ids)); err != nil {
		return fmt.Errorf("reopen dead letters: %w", err)
	}
	return nil
}
