package ledger

import (
	"context"
	"database/sql"
	"fmt"

	"github.com/lib/pq"
	"github.com/lib/pq/pqerror"

	"github.com/fanfarehq/fanfare/internal/postgres"
)

const (
	// foldRows is how many rows of packets one transaction folds, about.
	foldRows = 20_000
	// foldPackets is how many packets are looked at for them.
	foldPackets = 1000
	// MostTypes is how many event types of a tenant are counted apart in a minute and in an hour: publishers choose them.
	MostTypes = 100
	// MostRows is how many sums a tenant has in a minute and in an hour, about: those that one transaction adds may exceed it.
	MostRows = 10_000
)

// foldLock is held by the transaction that folds: with one at a time the bounds hold, and none waits for another's rows.
const foldLock = `SELECT pg_try_advisory_xact_lock(hashtextextended('fold counts', 0))`

// fold adds packets of about $1 rows to the sums of minutes and hours. An event type counts apart while its bin, a minute or an
// hour of a tenant, has fewer than $3 types, those with more deliveries first; the rest has an empty type. A bin with $4 rows counts
// the rest without type and subscription. The totals over all tenants are added to as well.
const fold = `
WITH packet AS (
    DELETE FROM count_packets WHERE id IN (
        SELECT id FROM (SELECT id, sum(cardinality(n)) OVER (ORDER BY id) - cardinality(n) AS ahead FROM (SELECT id, n FROM count_packets ORDER BY id LIMIT $2) p) p
        WHERE ahead < $1
    ) RETURNING *
), minute AS ( -- Sums of bigint would be numeric, which costs several times as much.
    SELECT u.at, u.tenant, u.subscription_id, u.event_type, u.reason, u.class, u.ended, u.bucket, sum(u.n::integer) AS n
    FROM packet p, unnest(p.at, p.tenant, p.subscription_id, p.event_type, p.reason, p.class, p.ended, p.bucket, p.n)
        AS u (at, tenant, subscription_id, event_type, reason, class, ended, bucket, n)
    GROUP BY 1, 2, 3, 4, 5, 6, 7, 8
), item AS (
    SELECT 1::smallint AS step, at, tenant, subscription_id, event_type, reason, class, ended, bucket, n FROM minute
    UNION ALL
    SELECT 60::smallint, date_trunc('hour', at, 'UTC'), tenant, subscription_id, event_type, reason, class, ended, bucket, sum(n)::bigint
    FROM minute GROUP BY 2, 3, 4, 5, 6, 7, 8, 9
), totals AS (
    INSERT INTO delivery_totals AS d (step, at, reason, class, ended, bucket, n)
    SELECT step, at, reason, class, ended, bucket, sum(n)::bigint FROM item GROUP BY 1, 2, 3, 4, 5, 6 ORDER BY 1, 2, 3, 4, 5, 6
    ON CONFLICT (step, at, reason, class, ended, bucket) DO UPDATE SET n = d.n + excluded.n
), type AS (
    SELECT i.tenant, i.step, i.at, i.event_type, coalesce(i.event_type = ANY (b.types), false) AS known, coalesce(b.rows >= $4, false) AS filled,
        $3 - coalesce(cardinality(b.types), 0) AS room, i.n
    FROM (SELECT tenant, step, at, event_type, sum(n) AS n FROM item GROUP BY 1, 2, 3, 4) i LEFT JOIN count_bins b USING (tenant, step, at)
), ranked AS (
    SELECT tenant, step, at, event_type, known, filled,
        NOT filled AND (known OR row_number() OVER (PARTITION BY tenant, step, at, known ORDER BY n DESC, event_type) <= room) AS apart
    FROM type
), sums AS ( -- In the order of the key: builds before this one fold beside it.
    INSERT INTO delivery_counts AS d (tenant, step, at, subscription_id, event_type, reason, class, ended, bucket, n)
    SELECT tenant, step, at, CASE WHEN filled THEN '00000000-0000-0000-0000-000000000000' ELSE subscription_id END, CASE WHEN apart THEN event_type ELSE '' END,
        reason, class, ended, bucket, sum(n)::bigint
    FROM item JOIN ranked USING (tenant, step, at, event_type) GROUP BY 1, 2, 3, 4, 5, 6, 7, 8, 9 ORDER BY 1, 2, 3, 4, 5, 6, 7, 8, 9
    ON CONFLICT (tenant, step, at, subscription_id, event_type, reason, class, ended, bucket) DO UPDATE SET n = d.n + excluded.n
    RETURNING tenant, step, at, xmax = 0 AS fresh
), bins AS (
    INSERT INTO count_bins AS b (tenant, step, at, types, rows)
    SELECT tenant, step, at, coalesce(types, '{}'), n
    FROM (SELECT tenant, step, at, count(*) FILTER (WHERE fresh) AS n FROM sums GROUP BY 1, 2, 3) s
    LEFT JOIN (SELECT tenant, step, at, array_agg(event_type) AS types FROM ranked WHERE apart AND NOT known GROUP BY 1, 2, 3) t USING (tenant, step, at)
    ORDER BY 1, 2, 3
    ON CONFLICT (tenant, step, at) DO UPDATE SET types = b.types || excluded.types, rows = b.rows + excluded.rows
)
SELECT count(*), coalesce(sum(cardinality(n)), 0) FROM packet`

// Fold folds all packets that there are, unless another process folds them.
func (c *Counter) Fold(ctx context.Context) error {
	for {
		done, err := c.foldSome(ctx)
		switch {
		case err == nil && done:
			return nil
		case err == nil:
			c.take = min(2*c.take, foldRows)
		case pq.As(err, pqerror.QueryCanceled) != nil && ctx.Err() == nil && c.take > 1:
			c.take /= 2 // The rows were too many for the statement's time.
		default:
			return fmt.Errorf("fold counts: %w", err)
		}
	}
}

// foldSome folds some packets in one transaction, and reports whether it found all there are.
func (c *Counter) foldSome(ctx context.Context) (done bool, err error) {
	err = postgres.Retry(ctx, c.db, func(ctx context.Context, tx *sql.Tx) error {
		mine := false
		if err := tx.QueryRowContext(ctx, foldLock).Scan(&mine); err != nil || !mine {
			done = true
			return err
		}
		var packets, rows int
		err := tx.QueryRowContext(ctx, fold, c.take, foldPackets, c.types, c.rows).Scan(&packets, &rows)
		done = packets < foldPackets && rows < c.take
		return err
	})
	return done, err
}
