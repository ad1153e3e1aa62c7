package throttle

import (
	"context"
	"database/sql"
	"errors"
	"fmt"

	"github.com/google/uuid"

	"github.com/fanfarehq/fanfare/internal/postgres"
)

// store is the table of rate limits.
type store struct{ db *sql.DB }

const beginMeters = `
INSERT INTO rate_limits (subscription_id, gap, sent, queue) SELECT o.id, o.gap, 0, 0 FROM unnest($1::uuid[], $2::bigint[]) AS o (id, gap)
ON CONFLICT DO NOTHING`

const readMeters = `
SELECT subscription_id, gap, sent, queue, (extract(epoch FROM clock_timestamp()) * 1e6)::bigint
FROM rate_limits WHERE subscription_id = ANY($1::uuid[]) ORDER BY subscription_id FOR UPDATE`

const writeMeters = `
UPDATE rate_limits r SET gap = o.gap, sent = o.sent, queue = o.queue
FROM unnest($1::uuid[], $2::bigint[], $3::bigint[], $4::bigint[]) AS o (id, gap, sent, queue) WHERE r.subscription_id = o.id`

// permit hands out permits to parties, which are in the order of their subscriptions. Clock is the time by Postgres,
// which all of them go by.
func (s *store) permit(ctx context.Context, parties []*party) (grants []grant, clock int64, err error) {
	ids := postgres.Columns(1, len(parties))
	for _, y := range parties {
		ids[0].UUID(y.subscription)
	}
	who := ids[0].Arg()
	err = postgres.Retry(ctx, s.db, func(ctx context.Context, tx *sql.Tx) error {
		meters, now, err := readAll(ctx, tx, who, len(parties))
		if err == nil && len(meters) < len(parties) {
			if err = begin(ctx, tx, parties); err == nil {
				meters, now, err = readAll(ctx, tx, who, len(parties))
			}
		}
		if err != nil {
			return err
		}
		clock, grants = now, make([]grant, len(parties))
		c := postgres.Columns(4, len(parties))
		for i, y := range parties {
			m := meters[y.subscription]
			if m == nil {
				return fmt.Errorf("permit requests to %s: its row is gone", y.subscription)
			}
			grants[i] = y.pace.take(m, now, y.ask)
			c[0].UUID(y.subscription)
			c[1].Int64(m.gap)
			c[2].Int64(m.sent)
			c[3].Int64(m.queue)
		}
		if _, err := tx.ExecContext(ctx, writeMeters, postgres.Args(c)...); err != nil {
			return fmt.Errorf("write rate limits: %w", err)
		}
		return nil
	})
	return grants, clock, err
}

// begin makes the rows of subscriptions that have none.
func begin(ctx context.Context, tx *sql.Tx, parties []*party) error {
	c := postgres.Columns(2, len(parties))
	for _, y := range parties {
		c[0].UUID(y.subscription)
		c[1].Int64(y.pace.gap)
	}
	if _, err := tx.ExecContext(ctx, beginMeters, postgres.Args(c)...); err != nil {
		return fmt.Errorf("begin rate limits: %w", err)
	}
	return nil
}

// readAll locks and reads meters. Of several clocks the latest counts: until then the lock was waited for.
func readAll(ctx context.Context, tx *sql.Tx, ids any, n int) (map[uuid.UUID]*meter, int64, error) {
	rows, err := tx.QueryContext(ctx, readMeters, ids)
	meters := make(map[uuid.UUID]*meter, n)
	var now int64
	err = postgres.Each(rows, err, func() error {
		var id uuid.UUID
		var m meter
		var clock int64
		if err := rows.Scan(&id, &m.gap, &m.sent, &m.queue, &clock); err != nil {
			return err
		}
		meters[id] = &m
		now = max(now, clock)
		return nil
	})
	if err != nil {
		return nil, 0, fmt.Errorf("read rate limits: %w", err)
	}
	return meters, now, nil
}

// retune notes that a subscription's limit is another than its meter has, and reports whether it was. A gap of zero
// means that there is none any more.
func (s *store) retune(ctx context.Context, subscription uuid.UUID, gap int64) (bool, error) {
	res, err := s.db.ExecContext(ctx, `UPDATE rate_limits SET gap = $2, queue = 0 WHERE subscription_id = $1 AND gap <> $2`, subscription, gap)
	if err != nil {
		return false, fmt.Errorf("change rate limit of %s: %w", subscription, err)
	}
	n, err := res.RowsAffected()
	return n > 0, err
}

// forgetPage is how many rate limits are looked at together.
const forgetPage = 10_000

// forgetMeters looks at a page of the rate limits and removes those of it whose subscriptions are gone, and those of tenants that
// were not used for a day. It returns the last one of a page that was full.
const forgetMeters = `
WITH page AS (
    SELECT subscription_id FROM rate_limits WHERE subscription_id > $1 ORDER BY subscription_id LIMIT $2
), gone AS (
    DELETE FROM rate_limits r USING page WHERE r.subscription_id = page.subscription_id
        AND NOT EXISTS (SELECT FROM subscriptions s WHERE s.id = r.subscription_id AND NOT s.deleted)
        AND (substring(r.subscription_id::text FROM 15 FOR 1) <> '5' OR greatest(sent, queue) < extract(epoch FROM now() - interval '1 day') * 1000000)
)
SELECT subscription_id FROM page ORDER BY subscription_id OFFSET $2 - 1`

// forget removes rate limits that nobody needs from the page after one, and returns where the next page begins.
func (s *store) forget(ctx context.Context, after uuid.UUID, page int) (last uuid.UUID, err error) {
	err = s.db.QueryRowContext(ctx, forgetMeters, after, page).Scan(&last)
	if err != nil && !errors.Is(err, sql.ErrNoRows) {
		return after, fmt.Errorf("forget rate limits: %w", err)
	}
	return last, nil
}
