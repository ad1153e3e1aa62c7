package history

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/google/uuid"

	"github.com/fanfarehq/fanfare/deliver/ledger"
	"github.com/fanfarehq/fanfare/deliver/outcome"
	"github.com/fanfarehq/fanfare/internal/postgres"
)

// leftovers is how many rows of ended deliveries a page of pending ones may meet; they are few and soon gone.
const leftovers = 64

// eventUIDs returns the keys of a tenant's event, the oldest first.
func (l *Reader) eventUIDs(ctx context.Context, tenant, id string) ([]uuid.UUID, error) {
	rows, err := l.db.QueryContext(ctx, `SELECT uid FROM events WHERE tenant = $1 AND id = $2 ORDER BY uid`, tenant, id)
	uids, err := postgres.Collect(rows, err, postgres.ScanOne[uuid.UUID])
	if err != nil {
		return nil, fmt.Errorf("look for event %s: %w", id, err)
	}
	return uids, nil
}

// refsMost is how many events of objects and resources are listed by the events themselves; the deliveries of more are walked.
const refsMost = 50

// eventsOf returns the keys of the tenant's events that name the filter's objects and resources, the oldest first; false if
// they are too many.
func (l *Reader) eventsOf(ctx context.Context, f Filter) ([]uuid.UUID, bool, error) {
	refs := f.refs()
	w := &postgres.Where{}
	first, most := w.Arg(ledger.Uuids(refs[0])), w.Arg(refsMost+1)
	for _, more := range refs[1:] {
		w.And("EXISTS (SELECT FROM event_refs o WHERE o.uid = r.uid AND o.ref = ANY (?::uuid[]))", ledger.Uuids(more))
	}
	rows, err := l.db.QueryContext(ctx, fmt.Sprintf(`
SELECT uid, %[3]s FROM (
    SELECT uid FROM unnest(%[1]s::uuid[]) AS o (ref) CROSS JOIN LATERAL (
        SELECT uid FROM event_refs e WHERE e.ref = o.ref ORDER BY uid DESC LIMIT %[2]s
    ) newest ORDER BY uid DESC LIMIT %[2]s
) r ORDER BY uid`, first, most, w), w.Args()...)
	var uids []uuid.UUID
	found := 0
	err = postgres.Each(rows, err, func() error {
		var uid uuid.UUID
		var all bool
		if err := rows.Scan(&uid, &all); err != nil {
			return err
		}
		if found++; all {
			uids = append(uids, uid)
		}
		return nil
	})
	if err != nil {
		return nil, false, fmt.Errorf("look for events of objects and resources: %w", err)
	}
	return slices.Compact(uids), found <= refsMost, nil
}

// list returns deliveries in the order of their ids, from both tables. Where it stopped before the end, since it had
// examined all that a page may, it says at which id.
func (l *Reader) list(ctx context.Context, f Filter) (entries []ledger.Entry, cut uuid.UUID, err error) {
	if f.event != "" {
		if f.uids, err = l.eventUIDs(ctx, f.Tenant, f.event); err != nil || len(f.uids) == 0 {
			return nil, uuid.Nil, err
		}
	} else if len(f.refs()) > 0 {
		uids, few, err := l.eventsOf(ctx, f)
		if err != nil || few && len(uids) == 0 {
			return nil, uuid.Nil, err
		}
		if few {
			f.uids, f.Objects, f.Resources = uids, nil, nil
		}
	}
	if len(f.uids) == 0 && (f.byRow() || !f.byState()) {
		return l.Walk(ctx, f)
	}
	entries, err = l.Whole(ctx, f)
	return entries, uuid.Nil, err
}

// Whole lists without a bound on what it examines: indexes answer the filter.
func (l *Reader) Whole(ctx context.Context, f Filter) ([]ledger.Entry, error) {
	where, args := f.conditions()
	order, _ := postgres.Direction(f.Asc)
	args = append(args, f.Limit)
	tail := fmt.Sprintf(" ORDER BY id %s LIMIT $%d", order, len(args))
	// A delivery may be in both tables for a moment; then it ended. That is asked of those of the page alone, and
	// some more, as it is a question to every day.
	pending := "SELECT * FROM (SELECT " + ledger.PendingEntry + " FROM deferrals WHERE " + where +
		fmt.Sprintf(" ORDER BY id %s LIMIT $%d + %d) AS d", order, len(args), leftovers) +
		" WHERE NOT EXISTS (SELECT FROM deliveries e WHERE e.id = d.id OFFSET 0)" + tail
	ended := "SELECT " + ledger.EndedEntry + " FROM deliveries WHERE " + where
	var query string
	switch f.State {
	case "":
		query = "(" + pending + ") UNION ALL (" + ended + tail + ")" + tail
	case outcome.Pending:
		query = pending
	default:
		query = ended + tail
	}
	rows, err := l.db.QueryContext(ctx, query, args...)
	entries, err := postgres.Collect(rows, err, func(rows *sql.Rows) (ledger.Entry, error) {
		e, err := ledger.ScanEntry(rows)
		if err != nil {
			return e, err
		}
		return e, nil
	})
	if err != nil {
		return nil, fmt.Errorf("read deliveries: %w", err)
	}
	return entries, nil
}

// Find returns one delivery of a tenant, or of any if tenant is empty; ErrNotFound if there is none.
func (l *Reader) Find(ctx context.Context, id uuid.UUID, tenant string) (ledger.Entry, error) {
	e, err := ledger.ScanEntry(l.db.QueryRowContext(ctx, `
SELECT `+ledger.EndedEntry+` FROM deliveries WHERE id = $1 AND ($2 = '' OR tenant = $2)
UNION ALL
SELECT `+ledger.PendingEntry+` FROM deferrals WHERE id = $1 AND ($2 = '' OR tenant = $2)
ORDER BY ended_at LIMIT 1`, id, tenant))
	switch {
	case errors.Is(err, sql.ErrNoRows):
		return e, ledger.ErrNotFound
	case err != nil:
		return e, fmt.Errorf("read delivery %s: %w", id, err)
	}
	return e, nil
}

// AttemptEntry is an attempt as the ledger has it.
type AttemptEntry struct {
	outcome.Made
	Outcome outcome.Outcome
}

// Attempts returns the attempts of a tenant's delivery, the last of which may have ended it.
func (l *Reader) Attempts(ctx context.Context, tenant string, id uuid.UUID) ([]AttemptEntry, error) {
	rows, err := l.db.QueryContext(ctx, `
SELECT number, started_at, duration_us, status, error, response, reason,
    CASE WHEN reason = 'ok' THEN 'delivered' WHEN last THEN 'dead' ELSE 'later' END, coalesce(subscription_revision, 0), exchange, response_headers
FROM attempts WHERE delivery_id = $1
UNION ALL
SELECT attempts, started_at, duration_us, status, error, response, reason, state, coalesce(subscription_revision, 0), exchange, response_headers
FROM deliveries
WHERE id = $1 AND started_at IS NOT NULL
ORDER BY 1`, id)
	list, err := postgres.Collect(rows, err, func(rows *sql.Rows) (AttemptEntry, error) {
		var a AttemptEntry
		if err := rows.Scan(&a.Number, &a.StartedAt, &a.Micros, &a.Status, &a.Error, &a.Response, &a.Reason, &a.Outcome, &a.Revision,
			&a.Exchange, &a.Headers); err != nil {
			return a, err
		}
		if err := a.Open(ctx, l.keys, tenant, id); err != nil {
			return a, err
		}
		return a, nil
	})
	if err != nil {
		return nil, fmt.Errorf("read attempts of %s: %w", id, err)
	}
	return list, nil
}

// owns reports whether a subscription is there and the tenant's, or anybody's if tenant is empty.
func (l *Reader) owns(ctx context.Context, subscription uuid.UUID, tenant string) (ok bool, err error) {
	err = l.db.QueryRowContext(ctx, `
SELECT EXISTS (SELECT FROM subscriptions WHERE id = $1 AND NOT deleted AND ($2 = '' OR tenant = $2))`, subscription, tenant).Scan(&ok)
	if err != nil {
		return false, fmt.Errorf("look for subscription %s: %w", subscription, err)
	}
	return ok, nil
}

// stats are what became of a subscription's deliveries within a time.
type stats struct {
	Delivered, Dead, Attempts int64
	P50, P99                  sql.NullFloat64 // milliseconds
	Pending, Held, Blocked    int64
	OldestDue, LastSuccess    sql.NullTime
}

// The bounds of stats: how many rows of a subscription it counts, and how many it looks through for the last success.
const (
	statsMost       = 100_000
	lastSuccessMost = 10_000
)

// statsQuery counts the newest deliveries since a time, and the oldest that are pending; the percentiles are those of the last
// 10,000.
const statsQuery = `
WITH ended AS (
    SELECT count(*) FILTER (WHERE state = 'delivered') AS delivered, count(*) FILTER (WHERE state = 'dead') AS dead,
        coalesce(sum(attempts), 0) AS attempts
    FROM (SELECT state, attempts FROM deliveries WHERE subscription_id = $1 AND id >= $2 ORDER BY id DESC LIMIT $3) newest
), times AS (
    SELECT percentile_cont(0.5) WITHIN GROUP (ORDER BY duration_us) / 1000 AS p50,
        percentile_cont(0.99) WITHIN GROUP (ORDER BY duration_us) / 1000 AS p99
    FROM (SELECT duration_us FROM (
            SELECT duration_us, started_at FROM deliveries WHERE subscription_id = $1 AND id >= $2 ORDER BY id DESC LIMIT $3
        ) newest WHERE started_at IS NOT NULL LIMIT 10000) last
), waiting AS (
    SELECT count(*) AS pending, count(*) FILTER (WHERE held AND NOT waits) AS held, count(*) FILTER (WHERE waits) AS blocked,
        coalesce(sum(attempts), 0) AS attempts, min(due_at) FILTER (WHERE NOT held) AS oldest
    FROM (SELECT held, waits, attempts, due_at FROM deferrals WHERE subscription_id = $1 ORDER BY id LIMIT $3) oldest
)
SELECT ended.delivered, ended.dead, ended.attempts + waiting.attempts, times.p50, times.p99, waiting.pending, waiting.held,
    waiting.blocked, waiting.oldest
FROM ended, times, waiting`

// lastSuccess looks for the last success among the newest deliveries before an id.
const lastSuccess = `
SELECT max(ended_at) FROM (
    SELECT state, ended_at FROM deliveries WHERE subscription_id = $1 AND id < $2 ORDER BY id DESC LIMIT $3
) newest WHERE state = 'delivered'`

// stats counts what became of a subscription's deliveries since a time.
func (l *Reader) stats(ctx context.Context, subscription uuid.UUID, since time.Time) (s stats, err error) {
	err = l.db.QueryRowContext(ctx, statsQuery, subscription, outcome.FirstID(since), statsMost).Scan(
		&s.Delivered, &s.Dead, &s.Attempts, &s.P50, &s.P99, &s.Pending, &s.Held, &s.Blocked, &s.OldestDue)
	if err == nil {
		s.LastSuccess, err = l.lastSuccessOf(ctx, subscription)
	}
	if err != nil {
		return s, fmt.Errorf("count deliveries of %s: %w", subscription, err)
	}
	return s, nil
}

// lastSuccessOf returns the last success of a subscription. Where there is none among the newest deliveries, it is looked for among
// those before its failures began.
func (l *Reader) lastSuccessOf(ctx context.Context, subscription uuid.UUID) (at sql.NullTime, err error) {
	err = l.db.QueryRowContext(ctx, lastSuccess, subscription, uuid.Max, lastSuccessMost).Scan(&at)
	if err != nil || at.Valid {
		return at, err
	}
	var since time.Time
	switch err := l.db.QueryRowContext(ctx, `SELECT since FROM failing WHERE subscription_id = $1`, subscription).Scan(&since); err {
	case nil:
	case sql.ErrNoRows:
		return at, nil
	default:
		return at, err
	}
	err = l.db.QueryRowContext(ctx, lastSuccess, subscription, outcome.FirstID(since), lastSuccessMost).Scan(&at)
	return at, err
}
