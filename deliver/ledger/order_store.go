package ledger

import (
	"context"
	"database/sql"
	"errors"
	"fmt"

	"github.com/google/uuid"

	"github.com/fanfarehq/fanfare/deliver/outcome"
	"github.com/fanfarehq/fanfare/internal/postgres"
)

// queueUp writes deliveries that wait for their turn. They are held, so that nobody claims them.
var queueUp = IntoOrder + `)
SELECT ` + DeliveryNames + `, 'key_blocked', 0, 1, false, true, created_at, now(), now(), order_key, true
FROM ` + (deliveryColumns + ", created_at timestamptz, order_key uuid").rows() + `
WHERE NOT EXISTS (SELECT FROM deliveries e WHERE e.id = o.id)
ON CONFLICT DO NOTHING`

// GiveTurns gives the turn to the first of each key, if it waits and nobody of its key has the turn. It must have been
// passed by fan-out ($3, $4), unless it is of a later generation, and its key must not stand still for another event.
// From then on it is due.
const giveTurns = `
WITH asked AS (
    SELECT DISTINCT subscription_id, order_key FROM unnest($1::uuid[], $2::uuid[]) AS k (subscription_id, order_key)
), first AS (
    SELECT h.id, h.generation > 0 OR h.seq <= $3 OR h.event_uid < $4 AS passed
    FROM asked k CROSS JOIN LATERAL (
        SELECT id, event_uid, seq, generation, waits FROM deferrals d
        WHERE d.subscription_id = k.subscription_id AND d.order_key = k.order_key
        ORDER BY d.seq, d.generation LIMIT 1
    ) h
    WHERE h.waits AND NOT EXISTS (
        SELECT FROM deferrals r WHERE r.subscription_id = k.subscription_id AND r.order_key = k.order_key AND NOT r.waits
    ) AND NOT EXISTS (
        SELECT FROM stopped_keys s WHERE s.subscription_id = k.subscription_id AND s.order_key = k.order_key AND s.event_uid <> h.event_uid
    )
), given AS (
    UPDATE deferrals d SET waits = false, held = false, reason = 'busy', due_at = greatest(due_at, now()), claim_at = greatest(due_at, now())
    FROM first WHERE d.id = first.id AND first.passed AND d.waits RETURNING d.id
)
SELECT (SELECT count(*) FROM given), (SELECT count(*) FROM first WHERE NOT passed)`

// stopKeys lets keys stand still whose delivery was given up, where the subscription asks for that, and those go on
// whose delivery was sent with success or cancelled.
const stopKeys = `
WITH o AS (
    SELECT * FROM unnest($1::uuid[], $2::uuid[], $3::uuid[], $4::text[]) AS o (subscription_id, order_key, event_uid, state)
), gone AS (
    DELETE FROM stopped_keys s USING o
    WHERE s.subscription_id = o.subscription_id AND s.order_key = o.order_key AND s.event_uid = o.event_uid AND o.state <> 'dead'
)
INSERT INTO stopped_keys (subscription_id, order_key, event_uid)
SELECT o.subscription_id, o.order_key, o.event_uid FROM o JOIN subscriptions s ON s.id = o.subscription_id
WHERE o.state = 'dead' AND s.settings->'ordering'->>'on_dead' = 'stop'
ON CONFLICT DO NOTHING`

// goOnKeys looks at a page of the keys that stand still and lets those go on whose subscription does not ask for it any more or
// cannot receive. It returns the page.
const goOnKeys = `
WITH page AS (
    SELECT subscription_id, order_key FROM stopped_keys
    WHERE (subscription_id, order_key) > ($1::uuid, $2::uuid) ORDER BY subscription_id, order_key LIMIT $3
), gone AS (
    DELETE FROM stopped_keys k USING page WHERE k.subscription_id = page.subscription_id AND k.order_key = page.order_key AND NOT EXISTS (
        SELECT FROM subscriptions s WHERE s.id = k.subscription_id AND NOT s.deleted AND s.status <> 'disabled'
            AND s.settings->'ordering'->>'on_dead' = 'stop')
)
SELECT subscription_id, order_key FROM page ORDER BY subscription_id, order_key`

// nextPlaces finds keys in the index, one after the other: what lies between them is passed over.
const nextPlaces = `
WITH RECURSIVE k AS (
    (SELECT subscription_id, order_key FROM deferrals
    WHERE order_key IS NOT NULL AND (subscription_id, order_key) > ($1::uuid, $2::uuid) ORDER BY subscription_id, order_key LIMIT 1)
    UNION ALL
    SELECT n.subscription_id, n.order_key FROM k CROSS JOIN LATERAL (
        SELECT d.subscription_id, d.order_key FROM deferrals d
        WHERE d.order_key IS NOT NULL AND (d.subscription_id, d.order_key) > (k.subscription_id, k.order_key)
        ORDER BY d.subscription_id, d.order_key LIMIT 1
    ) n
)
SELECT subscription_id, order_key FROM k LIMIT $3`

// turnsLock makes those who give turns wait for each other.
const turnsLock = `SELECT pg_advisory_xact_lock(hashtextextended('turns', 0))`

// queue writes deliveries that wait for their turn.
func (l *Ledger) queue(ctx context.Context, list []*queued) error {
	n := 0
	for _, q := range list {
		n += len(q.turns)
	}
	c := postgres.Columns(10, n)
	for _, q := range list {
		e := q.event
		for _, t := range q.turns {
			deliveryRow(c, &Deferral{
				Delivery: outcome.ID(e.UID, t.Subscription, 0, e.AcceptedAt), Tenant: e.Tenant, EventUID: e.UID,
				EventID: e.ID, EventType: e.Type, Seq: e.Seq, Subscription: t.Subscription,
			})
			c[8].Time(e.AcceptedAt)
			c[9].UUID(OrderKey(t.Key))
		}
	}
	return postgres.Retry(ctx, l.DB, func(ctx context.Context, tx *sql.Tx) error {
		if _, err := tx.ExecContext(ctx, queueUp, postgres.Args(c)...); err != nil {
			return fmt.Errorf("write %d deliveries that wait for their turn: %w", n, err)
		}
		return nil
	})
}

// GiveTurns gives turns at places. It returns how many it gave, and at how many places the first is not passed yet.
func (l *Ledger) GiveTurns(ctx context.Context, places []Place, floor Floor) (given, early int, err error) {
	if len(places) == 0 {
		return 0, 0, nil
	}
	c := postgres.Columns(2, len(places))
	for _, p := range places {
		c[0].UUID(p.Subscription)
		c[1].UUID(p.Key)
	}
	err = postgres.Retry(ctx, l.DB, func(ctx context.Context, tx *sql.Tx) error {
		// The lock comes first, so that the statement sees what those before it did.
		if _, err := tx.ExecContext(ctx, turnsLock); err != nil {
			return err
		}
		return tx.QueryRowContext(ctx, giveTurns, append(postgres.Args(c), int64(floor.Seq), outcome.FirstID(floor.Since))...).Scan(&given, &early)
	})
	if err != nil {
		return 0, 0, fmt.Errorf("give turns at %d keys: %w", len(places), err)
	}
	return given, early, nil
}

// ordered is a delivery of an order that ended.
type ordered struct {
	Place
	event uuid.UUID
	state string
}

// endOrdered ends deferred deliveries and returns those of an order, whose keys may go on then.
func (l *Ledger) endOrdered(ctx context.Context, tx *sql.Tx, records []*outcome.Record) ([]Place, error) {
	rows, err := l.query(ctx, tx, endDeferred, postgres.Args(endColumns(records, true))...)
	ends, err := postgres.Collect(rows, err, func(rows *sql.Rows) (ordered, error) {
		var o ordered
		if err := rows.Scan(&o.Subscription, &o.Key, &o.event, &o.state); err != nil {
			return o, err
		}
		return o, nil
	})
	if err != nil {
		return nil, err
	}
	if len(ends) == 0 {
		return nil, nil
	}
	return placesOf(ends), l.stopKeys(ctx, tx, ends)
}

func placesOf(ends []ordered) []Place {
	places := make([]Place, len(ends))
	for i, o := range ends {
		places[i] = o.Place
	}
	return places
}

func (l *Ledger) stopKeys(ctx context.Context, tx *sql.Tx, ends []ordered) error {
	c := postgres.Columns(4, len(ends))
	for _, o := range ends {
		c[0].UUID(o.Subscription)
		c[1].UUID(o.Key)
		c[2].UUID(o.event)
		c[3].Text(o.state)
	}
	if _, err := tx.ExecContext(ctx, stopKeys, postgres.Args(c)...); err != nil {
		return fmt.Errorf("let keys stand still: %w", err)
	}
	return nil
}

// PassOver lets the key go on that stands still for a delivery, and reports whether one did.
func (l *Ledger) PassOver(ctx context.Context, e Entry) (bool, error) {
	res, err := l.DB.ExecContext(ctx, `DELETE FROM stopped_keys WHERE event_uid = $1 AND subscription_id = $2`, e.EventUID, e.Subscription)
	if err != nil {
		return false, fmt.Errorf("pass over delivery %s: %w", e.ID, err)
	}
	n, err := res.RowsAffected()
	return n > 0, err
}

// Blocker returns the delivery that one waits for: the first of its key, or the dead one for which the key stands still. It
// is nil where that has just ended.
func (l *Ledger) Blocker(ctx context.Context, e Entry) (*uuid.UUID, error) {
	var before, stopped uuid.NullUUID
	err := l.DB.QueryRowContext(ctx, `
SELECT (
    SELECT p.id FROM deferrals p WHERE p.subscription_id = d.subscription_id AND p.order_key = d.order_key AND p.id <> d.id
        AND (NOT p.waits OR (p.seq, p.generation) < (d.seq, d.generation))
    ORDER BY p.waits, p.seq, p.generation LIMIT 1
), (
    SELECT s.event_uid FROM stopped_keys s
    WHERE s.subscription_id = d.subscription_id AND s.order_key = d.order_key AND s.event_uid <> d.event_uid
) FROM deferrals d WHERE d.id = $1 AND d.waits`, e.ID).Scan(&before, &stopped)
	if err == nil && stopped.Valid && !before.Valid {
		err = l.DB.QueryRowContext(ctx, `SELECT id FROM deliveries WHERE `+OfEvent+` AND subscription_id = $2 AND state = 'dead'
ORDER BY generation DESC LIMIT 1`, stopped.UUID, e.Subscription).Scan(&before)
	}
	switch {
	case err != nil && !errors.Is(err, sql.ErrNoRows):
		return nil, fmt.Errorf("look for what delivery %s waits for: %w", e.ID, err)
	case !before.Valid:
		return nil, nil
	}
	return &before.UUID, nil
}

// goOnKeys lets those keys of a page go on that need not stand still any more, and returns the page.
func (l *Ledger) goOnKeys(ctx context.Context, after Place, limit int) ([]Place, error) {
	return l.listPlaces(ctx, goOnKeys, after, limit)
}

// lastWaiting returns the place in the stream of events of the last one that waits for its turn; 0 if none does.
func (l *Ledger) lastWaiting(ctx context.Context) (seq uint64, err error) {
	if err := l.DB.QueryRowContext(ctx, `SELECT coalesce(max(seq), 0) FROM deferrals WHERE waits`).Scan(&seq); err != nil {
		return 0, fmt.Errorf("look for deliveries that wait for their turn: %w", err)
	}
	return seq, nil
}

// passedTurns returns the keys of deliveries that wait in a part of the stream of events, at most limit rows of it, and where the
// next part begins.
func (l *Ledger) passedTurns(ctx context.Context, after, until uint64, limit int) (places []Place, last uint64, err error) {
	rows, err := l.DB.QueryContext(ctx, `SELECT subscription_id, order_key, seq FROM deferrals
WHERE waits AND seq > $1 AND seq <= $2 ORDER BY seq LIMIT $3`, int64(after), int64(until), limit)
	err = postgres.Each(rows, err, func() error {
		var p Place
		if err := rows.Scan(&p.Subscription, &p.Key, &last); err != nil {
			return err
		}
		places = append(places, p)
		return nil
	})
	if err != nil {
		return nil, 0, fmt.Errorf("look for turns: %w", err)
	}
	if len(places) < limit {
		return places, until, nil
	}
	return places, max(last-1, after+1), nil // Others of the last event may come next.
}

// places returns keys that have deferrals, in order, after one.
func (l *Ledger) places(ctx context.Context, after Place, limit int) ([]Place, error) {
	return l.listPlaces(ctx, nextPlaces, after, limit)
}

func (l *Ledger) listPlaces(ctx context.Context, query string, after Place, limit int) ([]Place, error) {
	rows, err := l.DB.QueryContext(ctx, query, after.Subscription, after.Key, limit)
	list, err := postgres.Collect(rows, err, func(rows *sql.Rows) (Place, error) {
		var p Place
		if err := rows.Scan(&p.Subscription, &p.Key); err != nil {
			return p, err
		}
		return p, nil
	})
	if err != nil {
		return nil, fmt.Errorf("list keys: %w", err)
	}
	return list, nil
}

// countTurns counts deliveries that wait for their turn and the keys that stand still.
func (l *Ledger) countTurns(ctx context.Context) (waiting, stopped int64, err error) {
	err = l.DB.QueryRowContext(ctx, `
SELECT (SELECT count(*) FROM (SELECT FROM deferrals WHERE waits LIMIT 100000) w), (SELECT count(*) FROM (SELECT FROM stopped_keys LIMIT 100000) k)`).Scan(&waiting, &stopped)
	if err != nil {
		return 0, 0, fmt.Errorf("count deliveries that wait for their turn: %w", err)
	}
	return waiting, stopped, nil
}

// unkept returns events before a key whose bytes are not kept while deliveries of them wait for their turn, with their
// places in the stream.
func (l *Ledger) unkept(ctx context.Context, before uuid.UUID, limit int) ([]place, error) {
	rows, err := l.DB.QueryContext(ctx, `
SELECT DISTINCT event_uid, seq FROM deferrals d WHERE waits AND event_uid < $1
    AND NOT EXISTS (SELECT FROM event_data k WHERE k.uid = d.event_uid) LIMIT $2`, before, limit)
	return places(rows, err)
}

// OrderingKey returns the expression by which a subscription orders its deliveries; empty where it does not.
func (l *Ledger) OrderingKey(ctx context.Context, subscription uuid.UUID) (source string, err error) {
	err = l.DB.QueryRowContext(ctx, `SELECT coalesce(settings->'ordering'->>'key', '') FROM subscriptions WHERE id = $1`, subscription).Scan(&source)
	if err != nil && !errors.Is(err, sql.ErrNoRows) {
		return "", fmt.Errorf("read ordering of subscription %s: %w", subscription, err)
	}
	return source, nil
}
