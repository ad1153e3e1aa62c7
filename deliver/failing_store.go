package deliver

import (
	"context"
	"crypto/sha256"
	"database/sql"
	"encoding/hex"
	"fmt"

	"github.com/google/uuid"

	"github.com/fanfarehq/fanfare/internal/postgres"
)

// failingStore holds the streaks of failures in Postgres.
type failingStore struct{ db *sql.DB }

// A success at a URL that was changed since ends no streak of the later one.
const mend = `
DELETE FROM failing f USING unnest($1::uuid[], $2::text[], $3::bigint[]) AS o (id, endpoint, revision)
WHERE f.subscription_id = o.id AND (f.endpoint IN ('', o.endpoint) OR f.revision < o.revision)
RETURNING f.subscription_id, f.since, f.failures, f.told_at IS NOT NULL`

// A row that is locked first by another worker is read as that one leaves it. A later URL begins another streak; failures at
// an earlier one are not counted.
const fail = `
INSERT INTO failing AS f (subscription_id, since, failures, endpoint, revision)
SELECT o.* FROM unnest($1::uuid[], $2::timestamptz[], $3::bigint[], $4::text[], $5::bigint[]) AS o (id, since, failures, endpoint, revision) ORDER BY 1
ON CONFLICT (subscription_id) DO UPDATE SET
    failures = excluded.failures + CASE WHEN f.endpoint IN ('', excluded.endpoint) THEN f.failures ELSE 0 END,
    since = CASE WHEN f.endpoint IN ('', excluded.endpoint) THEN least(f.since, excluded.since) ELSE excluded.since END,
    told_at = CASE WHEN f.endpoint IN ('', excluded.endpoint) THEN f.told_at END,
    endpoint = excluded.endpoint, revision = greatest(f.revision, excluded.revision)
WHERE f.endpoint IN ('', excluded.endpoint) OR f.revision < excluded.revision
RETURNING subscription_id, since, failures, told_at IS NOT NULL`

// told notes that a tenant is told of a failing subscription. Of several workers, one succeeds.
const told = `UPDATE failing SET told_at = now() WHERE subscription_id = $1 AND told_at IS NULL`

// told reports whether this worker is the one to tell.
func (l failingStore) told(ctx context.Context, subscription uuid.UUID) (bool, error) {
	result, err := l.db.ExecContext(ctx, told, subscription)
	if err != nil {
		return false, fmt.Errorf("note that subscription %s is told of: %w", subscription, err)
	}
	n, err := result.RowsAffected()
	return n > 0, err
}

// mend ends the streaks of subscriptions that had a success and returns what they came to. Of several workers, one
// gets each.
func (l failingStore) mend(ctx context.Context, mended map[uuid.UUID]*streak) (map[uuid.UUID]*streak, error) {
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
func (l failingStore) fail(ctx context.Context, counts map[uuid.UUID]*streak) (map[uuid.UUID]*streak, error) {
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

func (l failingStore) streaks(ctx context.Context, query string, args ...any) (map[uuid.UUID]*streak, error) {
	rows, err := l.db.QueryContext(ctx, query, args...)
	list := make(map[uuid.UUID]*streak)
	err = postgres.Each(rows, err, func() error {
		var id uuid.UUID
		s := new(streak)
		if err := rows.Scan(&id, &s.since, &s.failures, &s.told); err != nil {
			return err
		}
		list[id] = s
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("read failures: %w", err)
	}
	return list, nil
}

// failingPage is how many failing subscriptions one page has.
const failingPage = 1000

// nextFailing reads a page of the failing subscriptions, and removes those of it that are gone or disabled: once enabled they begin
// anew.
const nextFailing = `
WITH page AS (
    SELECT subscription_id FROM failing WHERE subscription_id > $1 ORDER BY subscription_id LIMIT $2
), gone AS (
    DELETE FROM failing f USING page WHERE f.subscription_id = page.subscription_id AND NOT EXISTS (
        SELECT FROM subscriptions s WHERE s.id = f.subscription_id AND NOT s.deleted AND s.status <> 'disabled')
)
SELECT subscription_id FROM page ORDER BY subscription_id`

// failing returns the next page of failing subscriptions after one.
func (l failingStore) failing(ctx context.Context, after uuid.UUID) ([]uuid.UUID, error) {
	rows, err := l.db.QueryContext(ctx, nextFailing, after, failingPage)
	page, err := postgres.Collect(rows, err, postgres.ScanOne[uuid.UUID])
	if err != nil {
		return nil, fmt.Errorf("read failing subscriptions: %w", err)
	}
	return page, nil
}
