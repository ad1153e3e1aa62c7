package ledger

import (
	"context"
	"database/sql"
	"fmt"
	"slices"

	"github.com/google/uuid"
	"github.com/lib/pq"

	"github.com/fanfarehq/fanfare/deliver/outcome"
	"github.com/fanfarehq/fanfare/internal/postgres"
)

// Erased reports whether an event's bytes were removed on demand.
func (l *Ledger) Erased(ctx context.Context, event uuid.UUID) (erased bool, err error) {
	if err := l.DB.QueryRowContext(ctx, `SELECT EXISTS (SELECT FROM events WHERE uid = $1 AND erased_at IS NOT NULL)`, event).Scan(&erased); err != nil {
		return false, fmt.Errorf("look for event %s: %w", event, err)
	}
	return erased, nil
}

// deadExamined is how many dead letters a page looks at.
const deadExamined = 5000

// dead lists dead letters. The ids of a span bound the search, as a delivery is not older than its event. Dead letters that a
// later generation counts instead of are left out, so that nothing is sent twice, as are subscriptions that cannot receive and erased events.
func (l *Ledger) dead(ctx context.Context, d Dead, after uuid.UUID, limit int) (list []Again, cut uuid.UUID, err error) {
	near := &postgres.Where{}
	near.And("tenant = ? AND state = 'dead' AND id > ?", d.Tenant, after)
	near.And("id >= ? AND id < ?", outcome.FirstID(d.Since), outcome.FirstID(d.Before))
	if d.Subscription != uuid.Nil {
		near.And("subscription_id = ?", d.Subscription)
	}
	asked := near.After()
	asked.And("superseded_by IS NULL AND event_uid >= ? AND event_uid < ?", outcome.FirstID(d.Since), outcome.FirstID(d.Until))
	if d.EventID != "" {
		asked.And("event_id = ?", d.EventID)
	}
	if d.Properties != nil {
		d.Properties(asked)
	}
	asked.And(`EXISTS (SELECT FROM subscriptions s WHERE s.id = d.subscription_id AND NOT s.deleted AND s.status <> 'disabled')`)
	asked.And(`NOT EXISTS (SELECT FROM events v WHERE v.uid = d.event_uid AND v.erased_at IS NOT NULL
        AND NOT EXISTS (SELECT FROM event_data k WHERE k.uid = v.uid))`)
	examined, most := asked.Arg(deadExamined), asked.Arg(limit)
	// The last row that is examined is returned even if it is not asked for, and says where the page stopped.
	rows, err := l.DB.QueryContext(ctx, fmt.Sprintf(`
SELECT id, tenant, event_uid, event_id, event_type, seq, subscription_id, generation, %[1]s AS asked, nth FROM (
    SELECT id, tenant, event_uid, event_id, event_type, seq, subscription_id, generation, reason, status, superseded_by,
        row_number() OVER (ORDER BY id) AS nth
    FROM deliveries WHERE %[2]s ORDER BY id LIMIT %[3]s
) d WHERE (%[1]s) OR nth = %[3]s ORDER BY id LIMIT %[4]s`, asked, near, examined, most), asked.Args()...)
	err = postgres.Each(rows, err, func() error {
		var a Again
		var asked bool
		var nth int
		if err := rows.Scan(&a.Place, &a.Tenant, &a.EventUID, &a.EventID, &a.EventType, &a.Seq, &a.Subscription, &a.Ended, &asked, &nth); err != nil {
			return err
		}
		if asked {
			list = append(list, a)
		}
		if nth == deadExamined {
			cut = a.Place
		}
		return nil
	})
	if err != nil {
		return nil, uuid.Nil, fmt.Errorf("read dead letters: %w", err)
	}
	return list, cut, nil
}

// lockPairs makes whoever else asks for a new generation of the same deliveries wait; retry locks by the same key.
func (l *Ledger) lockPairs(ctx context.Context, tx *sql.Tx, list []Again) error {
	keys := make([]string, len(list))
	for i, a := range list {
		keys[i] = a.EventUID.String() + a.Subscription.String()
	}
	slices.Sort(keys) // so that two who lock several do not wait for each other
	_, err := tx.ExecContext(ctx, `
SELECT count(pg_advisory_xact_lock(hashtextextended(k, 0))) FROM unnest($1::text[]) AS k`, pq.StringArray(slices.Compact(keys)))
	if err != nil {
		return fmt.Errorf("lock deliveries: %w", err)
	}
	return nil
}

// querier is a database or a transaction.
type querier interface {
	QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error)
}

// standings look at all generations of each pair. What is in both tables ended.
const standings = `
SELECT coalesce(x.generation, -1), coalesce(x.states[1], ''), coalesce(x.delivered, false), coalesce(x.open, '{}'::text[])
FROM unnest($1::uuid[], $2::uuid[], $3::uuid[], $4::uuid[]) WITH ORDINALITY AS o (event_uid, subscription_id, first, oldest, place)
LEFT JOIN LATERAL (
    SELECT max(generation) AS generation, bool_or(state = 'delivered') AS delivered,
        array_agg(state ORDER BY generation DESC, state) AS states,
        array_agg(id::text) FILTER (WHERE state = 'dead' AND superseded_by IS NULL) AS open
    FROM (
        SELECT id, generation, state, superseded_by FROM deliveries d WHERE d.id = o.first
        UNION ALL
        SELECT id, generation, state, superseded_by FROM deliveries d
        WHERE d.event_uid = o.event_uid AND d.subscription_id = o.subscription_id AND d.generation > 0 AND d.id >= o.oldest
        UNION ALL
        SELECT id, generation, 'pending', NULL FROM deferrals p
        WHERE p.event_uid = o.event_uid AND p.subscription_id = o.subscription_id
    ) g
) x ON true
ORDER BY o.place`

// standing returns how each of the list stands, in its order.
func (l *Ledger) standing(ctx context.Context, q querier, list []Again) ([]standing, error) {
	if len(list) == 0 {
		return nil, nil
	}
	c := postgres.Columns(4, len(list))
	for _, a := range list {
		c[0].UUID(a.EventUID)
		c[1].UUID(a.Subscription)
		c[2].UUID(outcome.FirstDelivery(a.EventUID, a.Subscription))
		c[3].UUID(outcome.Oldest(a.EventUID))
	}
	rows, err := q.QueryContext(ctx, standings, postgres.Args(c)...)
	found := make([]standing, 0, len(list))
	err = postgres.Each(rows, err, func() error {
		var s standing
		var open pq.StringArray
		if err := rows.Scan(&s.generation, &s.state, &s.delivered, &open); err != nil {
			return err
		}
		for _, text := range open {
			id, err := uuid.Parse(text)
			if err != nil {
				return err
			}
			s.open = append(s.open, id)
		}
		found = append(found, s)
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("look how deliveries stand: %w", err)
	}
	return found, nil
}

// waitings counts the pairs that are pending. Without the outer OFFSET all deferrals might be read to look for a few.
const waitings = `
SELECT count(*) FROM unnest($1::uuid[], $2::uuid[]) AS o (event_uid, subscription_id)
WHERE EXISTS (SELECT FROM deferrals p WHERE p.event_uid = o.event_uid AND p.subscription_id = o.subscription_id
    AND NOT EXISTS (SELECT FROM deliveries e WHERE e.id = p.id OFFSET 0) OFFSET 0)`

// waiting returns how many of the list are pending.
func (l *Ledger) waiting(ctx context.Context, list []Again) (n int, err error) {
	if len(list) == 0 {
		return 0, nil
	}
	c := postgres.Columns(2, len(list))
	for _, a := range list {
		c[0].UUID(a.EventUID)
		c[1].UUID(a.Subscription)
	}
	if err := l.DB.QueryRowContext(ctx, waitings, postgres.Args(c)...).Scan(&n); err != nil {
		return 0, fmt.Errorf("count pending deliveries: %w", err)
	}
	return n, nil
}

// sendAgain inserts new generations, which count instead of the dead letters that they are made of.
func (l *Ledger) sendAgain(ctx context.Context, tx *sql.Tx, list []fresh, replay uuid.UUID) error {
	if len(list) == 0 {
		return nil
	}
	c := postgres.Columns(10, len(list))
	for _, f := range list {
		deliveryRow(c, &Deferral{
			Delivery: f.id(), Tenant: f.Tenant, EventUID: f.EventUID,
			EventID: f.EventID, EventType: f.EventType, Seq: f.Seq, Subscription: f.Subscription, Generation: f.generation,
		})
		c[8].Time(f.due)
		c[9].NullUUID(f.Order)
	}
	if _, err := tx.ExecContext(ctx, IntoOrder+`, replay_id)
SELECT `+DeliveryNames+`, CASE WHEN order_key IS NULL THEN 'busy' ELSE 'key_blocked' END, 0, 1,
    false, order_key IS NOT NULL, due, due, due, order_key, order_key IS NOT NULL, $11::uuid
FROM `+(deliveryColumns+", due timestamptz, order_key uuid").rows(), append(postgres.Args(c), replay)...); err != nil {
		return fmt.Errorf("make %d deliveries again: %w", len(list), err)
	}
	return l.supersede(ctx, tx, list)
}

// backlog counts waiting deliveries. Those in hand of a worker do not count, nor those of one that died.
func (l *Ledger) backlog(ctx context.Context, subscription uuid.UUID, limit int) (n int, err error) {
	if err := l.DB.QueryRowContext(ctx, `
SELECT count(*) FROM (SELECT FROM deferrals WHERE subscription_id = $1 AND worker = '' LIMIT $2) AS waiting`, subscription, limit).Scan(&n); err != nil {
		return 0, fmt.Errorf("count waiting deliveries of %s: %w", subscription, err)
	}
	return n, nil
}
