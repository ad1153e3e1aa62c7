package history

import (
	"context"
	"database/sql"
	"fmt"
	"time"

	"github.com/google/uuid"

	"github.com/fanfarehq/fanfare/deliver/ledger"
	"github.com/fanfarehq/fanfare/deliver/outcome"
	"github.com/fanfarehq/fanfare/internal/postgres"
)

// The statements of audits. $1 and $2 are the ids that bound the span: a delivery of the first generation lies
// in its event's millisecond, a later one after it.

// ofSpan asks for those deliveries that are of the span's events.
const ofSpan = `id >= $1 AND event_uid >= $1 AND event_uid < $2 AND (generation > 0 OR id < $2)`

// within is the part of a span that the ledger has something in.
func (l *Reader) within(ctx context.Context, span ledger.Span) (ledger.Span, error) {
	var first, last uuid.NullUUID
	err := l.db.QueryRowContext(ctx, `
SELECT least(
    (SELECT uid FROM events WHERE uid >= $1 AND uid < $2 ORDER BY uid LIMIT 1),
    (SELECT id FROM deliveries WHERE id >= $1 AND id < $2 ORDER BY id LIMIT 1),
    (SELECT event_uid FROM deferrals WHERE event_uid >= $1 AND event_uid < $2 ORDER BY event_uid LIMIT 1)
), greatest(
    (SELECT uid FROM events WHERE uid >= $1 AND uid < $2 ORDER BY uid DESC LIMIT 1),
    (SELECT id FROM deliveries WHERE id >= $1 AND id < $2 ORDER BY id DESC LIMIT 1),
    (SELECT event_uid FROM deferrals WHERE event_uid >= $1 AND event_uid < $2 ORDER BY event_uid DESC LIMIT 1)
)`, outcome.FirstID(span.Since), outcome.FirstID(span.Until)).Scan(&first, &last)
	if err != nil {
		return span, fmt.Errorf("look for the first and the last of a span: %w", err)
	}
	if !first.Valid {
		return ledger.Span{Since: span.Until, Until: span.Until}, nil
	}
	if at := outcome.TimeOf(first.UUID); at.After(span.Since) {
		span.Since = at
	}
	if at := outcome.TimeOf(last.UUID).Add(time.Millisecond); at.Before(span.Until) {
		span.Until = at
	}
	return span, nil
}

func (l *Reader) tally(ctx context.Context, span ledger.Span) (t Tally, err error) {
	err = l.db.QueryRowContext(ctx, `
WITH ended AS (
    SELECT count(*) FILTER (WHERE state = 'delivered') AS delivered, count(*) FILTER (WHERE state = 'dead') AS dead,
        count(*) FILTER (WHERE state = 'cancelled') AS cancelled, count(*) FILTER (WHERE generation > 0) AS later
    FROM deliveries WHERE `+ofSpan+` AND ($3 = '' OR tenant = $3)
), waiting AS (
    SELECT count(*) AS pending, count(*) FILTER (WHERE held AND NOT waits) AS held, count(*) FILTER (WHERE generation > 0) AS later
    FROM deferrals p WHERE event_uid >= $1 AND event_uid < $2 AND ($3 = '' OR tenant = $3)
        AND NOT EXISTS (SELECT FROM deliveries e WHERE e.id = p.id)
)
SELECT delivered, dead, cancelled, pending, held, ended.later + waiting.later FROM ended, waiting`,
		outcome.FirstID(span.Since), outcome.FirstID(span.Until), span.Tenant).Scan(&t.Delivered, &t.Dead, &t.Cancelled, &t.Pending, &t.Held, &t.Later)
	if err != nil {
		return t, fmt.Errorf("count deliveries: %w", err)
	}
	return t, nil
}

func (l *Reader) shortages(ctx context.Context, span ledger.Span, limit int) ([]Shortage, error) {
	rows, err := l.db.QueryContext(ctx, `
WITH found AS (
    SELECT event_uid, count(DISTINCT subscription_id) AS n FROM (
        SELECT event_uid, subscription_id FROM deliveries
        WHERE id >= $1 AND id < $2 AND event_uid >= $1 AND event_uid < $2 AND generation = 0
        UNION ALL
        SELECT event_uid, subscription_id FROM deferrals WHERE event_uid >= $1 AND event_uid < $2 AND generation = 0
    ) d GROUP BY event_uid
)
SELECT e.uid, e.tenant, e.id, e.seq, e.matched, coalesce(found.n, 0)
FROM events e LEFT JOIN found ON found.event_uid = e.uid
WHERE e.uid >= $1 AND e.uid < $2 AND ($4 = '' OR e.tenant = $4) AND e.matched <> coalesce(found.n, 0)
    AND NOT EXISTS (SELECT FROM tenants t WHERE t.tenant = e.tenant AND t.deleted_at IS NOT NULL) -- its erasure takes deliveries before events
ORDER BY e.uid LIMIT $3`, outcome.FirstID(span.Since), outcome.FirstID(span.Until), limit, span.Tenant)
	list, err := postgres.Collect(rows, err, func(rows *sql.Rows) (Shortage, error) {
		var s Shortage
		if err := rows.Scan(&s.EventUID, &s.Tenant, &s.EventID, &s.Seq, &s.Matched, &s.Found); err != nil {
			return s, err
		}
		return s, nil
	})
	if err != nil {
		return nil, fmt.Errorf("look for missing deliveries: %w", err)
	}
	return list, nil
}

// receivers returns the subscriptions that have a delivery of an event, of a generation or one before.
func (l *Reader) receivers(ctx context.Context, event uuid.UUID, generation int) (map[uuid.UUID]bool, error) {
	rows, err := l.db.QueryContext(ctx, `
SELECT subscription_id FROM deliveries WHERE `+ledger.OfEvent+` AND generation <= $2
UNION SELECT subscription_id FROM deferrals WHERE event_uid = $1 AND generation <= $2`, event, generation)
	found := map[uuid.UUID]bool{}
	err = postgres.Each(rows, err, func() error {
		var id uuid.UUID
		if err := rows.Scan(&id); err != nil {
			return err
		}
		found[id] = true
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("look who received event %s: %w", event, err)
	}
	return found, nil
}

func (l *Reader) faults(ctx context.Context, kind Kind, query string, args ...any) ([]Fault, error) {
	rows, err := l.db.QueryContext(ctx, query, args...)
	list, err := postgres.Collect(rows, err, func(rows *sql.Rows) (Fault, error) {
		f := Fault{Kind: kind}
		var extra bool
		if err := rows.Scan(&f.EventID, &f.EventUID, &f.Subscription, &f.Generation, &f.Delivery, &f.expected, &extra); err != nil {
			return f, err
		}
		if extra {
			f.Kind = KindExtraAttempt
		}
		return f, nil
	})
	if err != nil {
		return nil, fmt.Errorf("look for %s: %w", kind, err)
	}
	return list, nil
}

// duplicates finds generations that have two rows of different ids.
func (l *Reader) duplicates(ctx context.Context, span ledger.Span, limit int) ([]Fault, error) {
	return l.faults(ctx, KindDuplicate, `
SELECT min(event_id), event_uid, subscription_id, generation, (min(id::text))::uuid, 0, false FROM (
    SELECT event_id, event_uid, subscription_id, generation, id FROM deliveries WHERE `+ofSpan+` AND ($4 = '' OR tenant = $4)
    UNION
    SELECT event_id, event_uid, subscription_id, generation, id FROM deferrals WHERE event_uid >= $1 AND event_uid < $2 AND ($4 = '' OR tenant = $4)
) d GROUP BY event_uid, subscription_id, generation HAVING count(*) > 1 LIMIT $3`, outcome.FirstID(span.Since), outcome.FirstID(span.Until), limit, span.Tenant)
}

// miscounted finds deliveries whose attempts are not as many as they say. The one that ended a delivery is part of
// its row. Few deliveries have more than one, so only those are looked at that have or should have some.
func (l *Reader) miscounted(ctx context.Context, span ledger.Span, limit int) ([]Fault, error) {
	return l.faults(ctx, KindMissingAttempt, `
WITH made AS (
    SELECT delivery_id, count(*) AS n, max(number) AS last FROM attempts WHERE delivery_id >= $1 AND delivery_id < $2 GROUP BY delivery_id
), said AS (
    SELECT id, event_id, event_uid, subscription_id, generation, attempts - CASE WHEN started_at IS NULL THEN 0 ELSE 1 END AS n
    FROM deliveries WHERE id >= $1 AND id < $2 AND ($4 = '' OR tenant = $4)
    UNION ALL
    SELECT id, event_id, event_uid, subscription_id, generation, attempts FROM deferrals p WHERE id >= $1 AND id < $2 AND ($4 = '' OR tenant = $4)
        AND NOT EXISTS (SELECT FROM deliveries e WHERE e.id = p.id)
)
SELECT event_id, event_uid, subscription_id, generation, id, said.n, coalesce(made.last, 0) > said.n
FROM said LEFT JOIN made ON made.delivery_id = id
WHERE coalesce(made.n, 0) <> said.n OR coalesce(made.last, 0) <> said.n LIMIT $3`, outcome.FirstID(span.Since), outcome.FirstID(span.Until), limit, span.Tenant)
}

// astray finds held deliveries of subscriptions that are not paused. A minute is left for the follower to set them free.
func (l *Reader) astray(ctx context.Context, span ledger.Span, limit int) ([]Fault, error) {
	return l.faults(ctx, KindAstray, `
SELECT d.event_id, d.event_uid, d.subscription_id, d.generation, d.id, 0, false
FROM deferrals d JOIN subscriptions s ON s.id = d.subscription_id
WHERE d.held AND NOT d.waits AND d.event_uid >= $1 AND d.event_uid < $2 AND s.status = 'active' AND NOT s.deleted
    AND s.updated_at < now() - interval '1 minute' AND ($4 = '' OR d.tenant = $4) LIMIT $3`, outcome.FirstID(span.Since), outcome.FirstID(span.Until), limit, span.Tenant)
}

// dropDuplicates leaves one row of a generation: the one with the id that the delivery has, else the oldest.
func (l *Reader) dropDuplicates(ctx context.Context, tx *sql.Tx, f Fault) error {
	keep := f.Delivery
	if f.Generation == 0 {
		keep = outcome.FirstDelivery(f.EventUID, f.Subscription)
	}
	for _, rows := range []string{"deliveries WHERE " + ledger.OfEvent, "deferrals WHERE event_uid = $1"} {
		if _, err := tx.ExecContext(ctx, `DELETE FROM `+rows+` AND subscription_id = $2 AND generation = $3 AND id <> $4
    AND EXISTS (SELECT FROM deliveries WHERE id = $4 UNION ALL SELECT FROM deferrals WHERE id = $4)`,
			f.EventUID, f.Subscription, f.Generation, keep); err != nil {
			return err
		}
	}
	return nil
}

// recount makes the attempts of a delivery as many as it says: surplus attempts go, and missing ones are said
// to be lost.
func (l *Reader) recount(ctx context.Context, tx *sql.Tx, f Fault) error {
	if _, err := tx.ExecContext(ctx, `DELETE FROM attempts WHERE delivery_id = $1 AND number > $2`, f.Delivery, f.expected); err != nil {
		return err
	}
	_, err := tx.ExecContext(ctx, `
INSERT INTO attempts (delivery_id, number, started_at, duration_us, status, error, reason)
SELECT $1, n, $3, 0, 0, 'the record of this attempt was lost', $4 FROM generate_series(1, $2::int) AS n
ON CONFLICT DO NOTHING`, f.Delivery, f.expected, outcome.TimeOf(f.Delivery), string(outcome.ReasonCancelled))
	return err
}
