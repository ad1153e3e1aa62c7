package deliver

import (
	"context"
	"crypto/sha256"
	"database/sql"
	"encoding/hex"
	"fmt"
	"time"

	"github.com/google/uuid"

	"github.com/fanfarehq/fanfare/internal/postgres"
)

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
func (l *ledger) permit(ctx context.Context, parties []*party) (grants []grant, clock int64, err error) {
	ids := postgres.Columns(1, len(parties))
	for _, y := range parties {
		ids[0].UUID(y.subscription)
	}
	who := ids[0].Arg()
	err = postgres.Retry(ctx, l.db, func(ctx context.Context, tx *sql.Tx) error {
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
	if err != nil {
		return nil, 0, fmt.Errorf("read rate limits: %w", err)
	}
	defer rows.Close()
	meters := make(map[uuid.UUID]*meter, n)
	var now int64
	for rows.Next() {
		var id uuid.UUID
		var m meter
		var clock int64
		if err := rows.Scan(&id, &m.gap, &m.sent, &m.queue, &clock); err != nil {
			return nil, 0, fmt.Errorf("read rate limit: %w", err)
		}
		meters[id] = &m
		now = max(now, clock)
	}
	if err := rows.Err(); err != nil {
		return nil, 0, fmt.Errorf("read rate limits: %w", err)
	}
	return meters, now, nil
}

// retune notes that a subscription's limit is another than its meter has, and reports whether it was. A gap of zero
// means that there is none any more.
func (l *ledger) retune(ctx context.Context, subscription uuid.UUID, gap int64) (bool, error) {
	res, err := l.db.ExecContext(ctx, `UPDATE rate_limits SET gap = $2, queue = 0 WHERE subscription_id = $1 AND gap <> $2`, subscription, gap)
	if err != nil {
		return false, fmt.Errorf("change rate limit of %s: %w", subscription, err)
	}
	n, err := res.RowsAffected()
	return n > 0, err
}

// goOn makes due, in the order of arrival and gap apart, what waits for a reason that has passed.
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

// goOn lets go on what waits for a reason that has passed, gap apart, and returns how much that was.
func (l *ledger) goOn(ctx context.Context, subscription uuid.UUID, reason Reason, gap time.Duration) (int64, error) {
	var total int64
	var last uuid.UUID
	return l.chunks(ctx, func(ctx context.Context, tx *sql.Tx) (n int64, err error) {
		var end uuid.NullUUID
		err = tx.QueryRowContext(ctx, goOn, subscription, string(reason), followChunk, total, gap.Microseconds(), last).Scan(&n, &end)
		if err != nil {
			return 0, fmt.Errorf("let deferrals of %s go on: %w", subscription, err)
		}
		if total += n; end.Valid {
			last = end.UUID
		}
		return n, nil
	})
}

// A success at a URL that was changed since ends no streak of the later one.
const mend = `
DELETE FROM failing f USING unnest($1::uuid[], $2::text[], $3::bigint[]) AS o (id, endpoint, revision)
WHERE f.subscription_id = o.id AND (f.endpoint IN ('', o.endpoint) OR f.revision < o.revision)
RETURNING f.subscription_id, f.since, f.failures`

// A row that is locked first by another worker is read as that one leaves it. A later URL begins another streak; failures at
// an earlier one are not counted.
const fail = `
INSERT INTO failing AS f (subscription_id, since, failures, endpoint, revision)
SELECT o.* FROM unnest($1::uuid[], $2::timestamptz[], $3::bigint[], $4::text[], $5::bigint[]) AS o (id, since, failures, endpoint, revision) ORDER BY 1
ON CONFLICT (subscription_id) DO UPDATE SET
    failures = excluded.failures + CASE WHEN f.endpoint IN ('', excluded.endpoint) THEN f.failures ELSE 0 END,
    since = CASE WHEN f.endpoint IN ('', excluded.endpoint) THEN least(f.since, excluded.since) ELSE excluded.since END,
    endpoint = excluded.endpoint, revision = greatest(f.revision, excluded.revision)
WHERE f.endpoint IN ('', excluded.endpoint) OR f.revision < excluded.revision
RETURNING subscription_id, since, failures`

// mend ends the streaks of subscriptions that had a success and returns what they came to. Of several workers, one
// gets each.
func (l *ledger) mend(ctx context.Context, mended map[uuid.UUID]*streak) (map[uuid.UUID]*streak, error) {
	if len(mended) == 0 {
		return nil, nil
	}
	c := postgres.Columns(3, len(mended))
	for id, s := range mended {
		c[0].UUID(id)
		c[1].Text(digestOf(s.sub.URL))
		c[2].Int64(s.sub.Revision)
	}
	return l.streaks(ctx, mend, postgres.Args(c)...)
}

// digestOf names a URL in the ledger, without what it may hold of secrets.
func digestOf(url string) string {
	sum := sha256.Sum256([]byte(url))
	return hex.EncodeToString(sum[:12])
}

// fail adds to the streaks of subscriptions and returns what they come to.
func (l *ledger) fail(ctx context.Context, counts map[uuid.UUID]*streak) (map[uuid.UUID]*streak, error) {
	if len(counts) == 0 {
		return nil, nil
	}
	c := postgres.Columns(5, len(counts))
	for id, s := range counts {
		c[0].UUID(id)
		c[1].Time(s.since)
		c[2].Int64(s.failures)
		c[3].Text(digestOf(s.sub.URL))
		c[4].Int64(s.sub.Revision)
	}
	return l.streaks(ctx, fail, postgres.Args(c)...)
}

func (l *ledger) streaks(ctx context.Context, query string, args ...any) (map[uuid.UUID]*streak, error) {
	rows, err := l.db.QueryContext(ctx, query, args...)
	if err != nil {
		return nil, fmt.Errorf("count failures: %w", err)
	}
	defer rows.Close()
	list := make(map[uuid.UUID]*streak)
	for rows.Next() {
		var id uuid.UUID
		s := new(streak)
		if err := rows.Scan(&id, &s.since, &s.failures); err != nil {
			return nil, fmt.Errorf("read failures: %w", err)
		}
		list[id] = s
	}
	if err := rows.Err(); err != nil {
		return nil, fmt.Errorf("read failures: %w", err)
	}
	return list, nil
}

// failing returns the subscriptions that have been failing.
func (l *ledger) failing(ctx context.Context) (map[uuid.UUID]bool, error) {
	rows, err := l.db.QueryContext(ctx, `SELECT subscription_id FROM failing`)
	if err != nil {
		return nil, fmt.Errorf("read failing subscriptions: %w", err)
	}
	defer rows.Close()
	known := make(map[uuid.UUID]bool)
	for rows.Next() {
		var id uuid.UUID
		if err := rows.Scan(&id); err != nil {
			return nil, fmt.Errorf("read failing subscription: %w", err)
		}
		known[id] = true
	}
	if err := rows.Err(); err != nil {
		return nil, fmt.Errorf("read failing subscriptions: %w", err)
	}
	return known, nil
}

// forgetLimits removes what is known of subscriptions that are gone, and the failures of those that are disabled: once
// enabled they begin anew.
func (l *ledger) forgetLimits(ctx context.Context) error {
	for _, query := range []string{
		`DELETE FROM rate_limits r WHERE NOT EXISTS (SELECT FROM subscriptions s WHERE s.id = r.subscription_id AND NOT s.deleted)`,
		`DELETE FROM failing f WHERE NOT EXISTS (
    SELECT FROM subscriptions s WHERE s.id = f.subscription_id AND NOT s.deleted AND s.status <> 'disabled')`,
	} {
		if _, err := l.db.ExecContext(ctx, query); err != nil {
			return fmt.Errorf("forget subscriptions that are gone: %w", err)
		}
	}
	return nil
}
