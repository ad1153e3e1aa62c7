package deliver

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/fanfarehq/fanfare/deliver/outcome"
	"github.com/fanfarehq/fanfare/internal/postgres"
)

// entry is a delivery as the ledger has it, pending or ended.
type entry struct {
	ID           uuid.UUID
	Number       int64
	Tenant       string
	EventUID     uuid.UUID
	EventID      string
	EventType    string
	Seq          uint64
	Subscription uuid.UUID
	Generation   int
	State        string
	Reason       string
	Attempts     int
	Test         bool
	Held         bool
	CreatedAt    time.Time
	DueAt        sql.NullTime // of a pending one
	EndedAt      sql.NullTime
}

// The columns of an entry, from each of the two tables.
const (
	pendingEntry = `id, number, tenant, event_uid, event_id, event_type, seq, subscription_id, generation, 'pending' AS state, reason,
    attempts, test, held, created_at, due_at, NULL::timestamptz AS ended_at`
	endedEntry = `id, number, tenant, event_uid, event_id, event_type, seq, subscription_id, generation, state, reason,
    attempts, false AS test, false AS held, created_at, NULL::timestamptz AS due_at, ended_at`
)

type scanner interface{ Scan(dest ...any) error }

func scanEntry(row scanner) (e entry, err error) {
	err = row.Scan(&e.ID, &e.Number, &e.Tenant, &e.EventUID, &e.EventID, &e.EventType, &e.Seq, &e.Subscription, &e.Generation,
		&e.State, &e.Reason, &e.Attempts, &e.Test, &e.Held, &e.CreatedAt, &e.DueAt, &e.EndedAt)
	return e, err
}

// filter says which deliveries a list shows. Zero fields filter nothing.
type filter struct {
	tenant       string
	subscription uuid.UUID
	event        string      // its id, within the tenant
	uids         []uuid.UUID // what list finds of event: more than one if the id was used again
	eventType    string
	state        string
	since, until time.Time // of acceptance: since included, until not
	after        uuid.UUID
	asc          bool
	limit        int
}

// order is that of ids.
func (f filter) order() string {
	if f.asc {
		return "ASC"
	}
	return "DESC"
}

// conditions are what the filter asks of either table; those that ask for an end are of what ended. The arguments come
// after those that are given.
func (f filter) conditions(before []any) (where string, args []any) {
	args = before
	var b strings.Builder
	b.WriteString("true")
	and := func(format string, values ...any) {
		places := make([]any, len(values))
		for i, v := range values {
			args = append(args, v)
			places[i] = len(args)
		}
		fmt.Fprintf(&b, " AND "+format, places...)
	}
	if f.tenant != "" {
		and("tenant = $%d", f.tenant)
	}
	if f.subscription != uuid.Nil {
		and("subscription_id = $%d", f.subscription)
	}
	if len(f.uids) > 0 {
		and("event_uid = ANY ($%d::uuid[]) AND id >= $%d", uuids(f.uids), outcome.Oldest(f.uids[0]))
		b.WriteString(" AND (generation > 0")
		for _, uid := range f.uids {
			args = append(args, outcome.Oldest(uid), outcome.FirstID(outcome.TimeOf(uid).Add(time.Millisecond)))
			fmt.Fprintf(&b, " OR id >= $%d AND id < $%d", len(args)-1, len(args))
		}
		b.WriteString(")")
	}
	if f.eventType != "" {
		and("event_type = $%d", f.eventType)
	}
	if f.state != "" && f.state != outcome.Pending {
		and("state = $%d", f.state)
	}
	// The ids have the milliseconds of acceptance, and are what the tables are ordered and divided by.
	if !f.since.IsZero() {
		and("id >= $%d AND created_at >= $%d", outcome.FirstID(f.since), f.since)
	}
	if !f.until.IsZero() {
		and("id < $%d AND created_at < $%d", outcome.FirstID(f.until.Add(time.Millisecond)), f.until)
	}
	if f.after != uuid.Nil && f.asc {
		and("id > $%d", f.after)
	} else if f.after != uuid.Nil {
		and("id < $%d", f.after)
	}
	return b.String(), args
}

// ofEvent asks for those deliveries that are of event $1. Those of the first generation have ids of the event's own
// millisecond, as both ids hold its acceptance, so the primary key finds them; an index by event, which only later
// generations have, would cost a third of all that Postgres does for a delivery.
const ofEvent = `event_uid = $1::uuid AND id >= (left($1::uuid::text, 13) || '-0000-0000-000000000000')::uuid
    AND (generation > 0 OR id <= (left($1::uuid::text, 13) || '-ffff-ffff-ffffffffffff')::uuid)`

// leftovers is how many rows of ended deliveries a page of pending ones may meet; they are few and soon gone.
const leftovers = 64

// eventUIDs returns the keys of a tenant's event, the oldest first.
func (l *ledger) eventUIDs(ctx context.Context, tenant, id string) ([]uuid.UUID, error) {
	rows, err := l.db.QueryContext(ctx, `SELECT uid FROM events WHERE tenant = $1 AND id = $2 ORDER BY uid`, tenant, id)
	if err != nil {
		return nil, fmt.Errorf("look for event %s: %w", id, err)
	}
	defer rows.Close()
	var uids []uuid.UUID
	for rows.Next() {
		var uid uuid.UUID
		if err := rows.Scan(&uid); err != nil {
			return nil, fmt.Errorf("look for event %s: %w", id, err)
		}
		uids = append(uids, uid)
	}
	if err := rows.Err(); err != nil {
		return nil, fmt.Errorf("look for event %s: %w", id, err)
	}
	return uids, nil
}

// uuids is an array of ids as a statement takes it.
func uuids(ids []uuid.UUID) any {
	c := postgres.Columns(1, len(ids))
	for _, id := range ids {
		c[0].UUID(id)
	}
	return c[0].Arg()
}

// list returns deliveries in the order of their ids, from both tables. Where it stopped before the end, since it had
// examined all that a page may, it says at which id.
func (l *ledger) list(ctx context.Context, f filter) (entries []entry, cut uuid.UUID, err error) {
	if f.event == "" && (f.eventType != "" || !f.byState()) {
		return l.walk(ctx, f)
	}
	if f.event != "" {
		if f.uids, err = l.eventUIDs(ctx, f.tenant, f.event); err != nil || len(f.uids) == 0 {
			return nil, uuid.Nil, err
		}
	}
	entries, err = l.whole(ctx, f)
	return entries, uuid.Nil, err
}

// whole lists without a bound on what it examines: indexes answer the filter.
func (l *ledger) whole(ctx context.Context, f filter) ([]entry, error) {
	where, args := f.conditions(nil)
	order := f.order()
	args = append(args, f.limit)
	tail := fmt.Sprintf(" ORDER BY id %s LIMIT $%d", order, len(args))
	// A delivery may be in both tables for a moment; then it ended. That is asked of those of the page alone, and
	// some more, as it is a question to every day.
	pending := "SELECT * FROM (SELECT " + pendingEntry + " FROM deferrals WHERE " + where +
		fmt.Sprintf(" ORDER BY id %s LIMIT $%d + %d) AS d", order, len(args), leftovers) +
		" WHERE NOT EXISTS (SELECT FROM deliveries e WHERE e.id = d.id OFFSET 0)" + tail
	ended := "SELECT " + endedEntry + " FROM deliveries WHERE " + where
	var query string
	switch f.state {
	case "":
		query = "(" + pending + ") UNION ALL (" + ended + tail + ")" + tail
	case outcome.Pending:
		query = pending
	default:
		query = ended + tail
	}
	rows, err := l.db.QueryContext(ctx, query, args...)
	if err != nil {
		return nil, fmt.Errorf("list deliveries: %w", err)
	}
	defer rows.Close()
	var entries []entry
	for rows.Next() {
		e, err := scanEntry(rows)
		if err != nil {
			return nil, fmt.Errorf("read delivery: %w", err)
		}
		entries = append(entries, e)
	}
	if err := rows.Err(); err != nil {
		return nil, fmt.Errorf("read deliveries: %w", err)
	}
	return entries, nil
}

// errNotFound says that the tenant has no such delivery.
var errNotFound = errors.New("no such delivery")

// find returns one delivery of a tenant, or of any if tenant is empty; errNotFound if there is none.
func (l *ledger) find(ctx context.Context, id uuid.UUID, tenant string) (entry, error) {
	e, err := scanEntry(l.db.QueryRowContext(ctx, `
SELECT `+endedEntry+` FROM deliveries WHERE id = $1 AND ($2 = '' OR tenant = $2)
UNION ALL
SELECT `+pendingEntry+` FROM deferrals WHERE id = $1 AND ($2 = '' OR tenant = $2)
ORDER BY ended_at LIMIT 1`, id, tenant))
	switch {
	case errors.Is(err, sql.ErrNoRows):
		return e, errNotFound
	case err != nil:
		return e, fmt.Errorf("read delivery %s: %w", id, err)
	}
	return e, nil
}

// attemptEntry is an attempt as the ledger has it.
type attemptEntry struct {
	outcome.Made
	Outcome outcome.Outcome
}

// attempts returns the attempts of a tenant's delivery, the last of which may have ended it.
func (l *ledger) attempts(ctx context.Context, tenant string, id uuid.UUID) ([]attemptEntry, error) {
	rows, err := l.db.QueryContext(ctx, `
SELECT number, started_at, duration_us, status, error, response, reason,
    CASE WHEN reason = 'ok' THEN 'delivered' WHEN last THEN 'dead' ELSE 'later' END
FROM attempts WHERE delivery_id = $1
UNION ALL
SELECT attempts, started_at, duration_us, status, error, response, reason, state FROM deliveries
WHERE id = $1 AND started_at IS NOT NULL
ORDER BY 1`, id)
	if err != nil {
		return nil, fmt.Errorf("read attempts of %s: %w", id, err)
	}
	defer rows.Close()
	var list []attemptEntry
	for rows.Next() {
		var a attemptEntry
		if err := rows.Scan(&a.Number, &a.StartedAt, &a.Micros, &a.Status, &a.Error, &a.Response, &a.Reason, &a.Outcome); err != nil {
			return nil, fmt.Errorf("read attempt of %s: %w", id, err)
		}
		if err := a.Open(ctx, l.keys, tenant, id); err != nil {
			return nil, err
		}
		list = append(list, a)
	}
	if err := rows.Err(); err != nil {
		return nil, fmt.Errorf("read attempts of %s: %w", id, err)
	}
	return list, nil
}

// owns reports whether a subscription is there and the tenant's, or anybody's if tenant is empty.
func (l *ledger) owns(ctx context.Context, subscription uuid.UUID, tenant string) (ok bool, err error) {
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
func (l *ledger) stats(ctx context.Context, subscription uuid.UUID, since time.Time) (s stats, err error) {
	err = l.db.QueryRowContext(ctx, statsQuery, subscription, outcome.FirstID(since), statsMost).Scan(
		&s.Delivered, &s.Dead, &s.Attempts, &s.P50, &s.P99, &s.Pending, &s.Held, &s.Blocked, &s.OldestDue)
	if err == nil {
		s.LastSuccess, err = l.lastSuccess(ctx, subscription)
	}
	if err != nil {
		return s, fmt.Errorf("count deliveries of %s: %w", subscription, err)
	}
	return s, nil
}

// lastSuccess returns the last success of a subscription. Where there is none among the newest deliveries, it is looked for among
// those before its failures began.
func (l *ledger) lastSuccess(ctx context.Context, subscription uuid.UUID) (at sql.NullTime, err error) {
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

// hurry makes a pending delivery due now, unless it is in flight. Asked for by hand, it is attempted once even if its
// subscription is paused. What waits for its turn goes on waiting.
const hurry = `
UPDATE deferrals SET due_at = now(), claim_at = now(), by_hand = by_hand OR held, held = false, worker = ''
WHERE id = $1 AND NOT waits AND (worker = '' OR claim_at <= now())`

// again makes a delivery of a later generation, due now, or once it has its turn.
const again = `
INSERT INTO deferrals (id, tenant, event_uid, event_id, event_type, seq, subscription_id, generation, reason, attempts, step,
    test, held, created_at, due_at, claim_at, order_key, waits)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, CASE WHEN $12::uuid IS NULL THEN $9 ELSE 'key_blocked' END, 0, 1,
    $10, $12::uuid IS NOT NULL, $11, now(), now(), $12::uuid, $12::uuid IS NOT NULL)`

// retry makes a delivery due now: itself while it is pending, else a new generation of it, which takes its place in the
// order of a key, if there is one. It returns which.
func (l *ledger) retry(ctx context.Context, e entry, key uuid.NullUUID, now time.Time) (id uuid.UUID, err error) {
	err = postgres.Retry(ctx, l.db, func(ctx context.Context, tx *sql.Tx) error {
		// Two who ask at the same time get the same generation.
		if _, err := tx.ExecContext(ctx, `SELECT pg_advisory_xact_lock(hashtextextended($1, 0))`, e.EventUID.String()+e.Subscription.String()); err != nil {
			return err
		}
		last, err := scanEntry(tx.QueryRowContext(ctx, `
SELECT `+endedEntry+` FROM deliveries WHERE `+ofEvent+` AND subscription_id = $2
UNION ALL
SELECT `+pendingEntry+` FROM deferrals WHERE event_uid = $1 AND subscription_id = $2
ORDER BY generation DESC, state LIMIT 1`, e.EventUID, e.Subscription))
		if err != nil {
			return err
		}
		if last.State == outcome.Pending {
			id = last.ID
			_, err = tx.ExecContext(ctx, hurry, id)
			return err
		}
		id = outcome.ID(e.EventUID, e.Subscription, last.Generation+1, now)
		_, err = tx.ExecContext(ctx, again, id, e.Tenant, e.EventUID, e.EventID, e.EventType, int64(e.Seq), e.Subscription,
			last.Generation+1, last.Reason, e.Test, now, key)
		return err
	})
	if err != nil {
		return id, fmt.Errorf("retry delivery %s: %w", e.ID, err)
	}
	return id, nil
}

// cancelOne ends one pending delivery; an attempt in flight is not called back, but changes nothing any more.
const cancelOne = `
WITH gone AS (
    DELETE FROM deferrals WHERE id = $1
    RETURNING id, number, tenant, event_uid, event_id, event_type, seq, subscription_id, generation, attempts, created_at
)
INSERT INTO deliveries (id, number, tenant, event_uid, event_id, event_type, seq, subscription_id, generation, state, reason,
    attempts, created_at, ended_at, duration_us, status, error)
SELECT id, number, tenant, event_uid, event_id, event_type, seq, subscription_id, generation, 'cancelled', $2,
    attempts, created_at, now(), 0, 0, '' FROM gone
ON CONFLICT DO NOTHING`

// cancel ends a pending delivery.
func (l *ledger) cancel(ctx context.Context, id uuid.UUID) error {
	return postgres.Retry(ctx, l.db, func(ctx context.Context, tx *sql.Tx) error {
		if _, err := tx.ExecContext(ctx, cancelOne, id, string(outcome.ReasonCancelled)); err != nil {
			return fmt.Errorf("cancel delivery %s: %w", id, err)
		}
		return nil
	})
}
