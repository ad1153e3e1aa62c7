package ledger

import (
	"context"
	"database/sql"
	"fmt"
	"time"

	"github.com/google/uuid"

	"github.com/fanfarehq/fanfare/deliver/outcome"
)

// GoOn makes due, in the order of arrival and gap apart, deliveries that wait for a reason that has passed.
const goOn = `
WITH first AS (
    SELECT id, row_number() OVER (ORDER BY id) + $4 AS place FROM (
        SELECT id FROM deferrals
        WHERE subscription_id = $1 AND reason = $2 AND NOT held AND worker = '' AND id > $6
        ORDER BY id LIMIT $3 FOR UPDATE SKIP LOCKED
    ) waiting
), moved AS (
    UPDATE deferrals d SET due_at = now() + first.place * $5 * interval '1 microsecond', claim_at = now() + first.place * $5 * interval '1 microsecond'
    FROM first WHERE d.id = first.id AND d.claim_at > now() + first.place * $5 * interval '1 microsecond'
)
SELECT count(*), (SELECT id FROM first ORDER BY place DESC LIMIT 1) FROM first`

// GoOn makes deliveries due that wait for a reason that has passed, gap apart, and returns their number.
func (l *Ledger) GoOn(ctx context.Context, subscription uuid.UUID, reason outcome.Reason, gap time.Duration) (int64, error) {
	var total int64
	var last uuid.UUID
	return l.chunks(ctx, func(ctx context.Context, tx *sql.Tx) (n int64, err error) {
		var end uuid.NullUUID
		err = tx.QueryRowContext(ctx, goOn, subscription, string(reason), FollowChunk, total, gap.Microseconds(), last).Scan(&n, &end)
		if err != nil {
			return 0, fmt.Errorf("let deferrals of %s go on: %w", subscription, err)
		}
		if total += n; end.Valid {
			last = end.UUID
		}
		return n, nil
	})
}
