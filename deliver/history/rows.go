package history

import (
	"context"
	"database/sql"
	"fmt"
	"net/url"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/fanfarehq/fanfare/deliver/ledger"
	"github.com/fanfarehq/fanfare/deliver/outcome"
	"github.com/fanfarehq/fanfare/internal/postgres"
)

// lastAttempts reads the last attempts of deliveries. The attempt that ended a delivery is part of its row.
const lastAttempts = `
SELECT DISTINCT ON (id) id, started_at, status, error FROM (
    SELECT delivery_id AS id, number, started_at, status, error FROM attempts WHERE delivery_id = ANY ($1::uuid[])
    UNION ALL
    SELECT id, 1000000, started_at, status, error FROM deliveries WHERE id = ANY ($1::uuid[]) AND started_at IS NOT NULL
) a ORDER BY id, number DESC`

// lasts returns the last attempt of each delivery that has one.
func (l *Reader) lasts(ctx context.Context, entries []ledger.Entry) (map[uuid.UUID]*outcome.Made, error) {
	tenants := make(map[uuid.UUID]string, len(entries))
	var ids []uuid.UUID
	for _, e := range entries {
		if e.Attempts > 0 {
			ids, tenants[e.ID] = append(ids, e.ID), e.Tenant
		}
	}
	made := make(map[uuid.UUID]*outcome.Made, len(ids))
	if len(ids) == 0 {
		return made, nil
	}
	rows, err := l.db.QueryContext(ctx, lastAttempts, ledger.Uuids(ids))
	err = postgres.Each(rows, err, func() error {
		var id uuid.UUID
		m := &outcome.Made{}
		if err := rows.Scan(&id, &m.StartedAt, &m.Status, &m.Error); err != nil {
			return err
		}
		made[id] = m
		return m.Open(ctx, l.keys, tenants[id], id)
	})
	if err != nil {
		return nil, fmt.Errorf("read last attempts: %w", err)
	}
	return made, nil
}

// receiver is what a delivery shows of its subscription; null where that is not known any more.
type receiver struct{ name, host *string }

// joinReceivers finds the name and the URL of the subscriptions o.subscription_id of the tenants o.tenant; of deleted ones, those that
// their history has.
const joinReceivers = `
LEFT JOIN subscriptions s ON s.id = o.subscription_id AND NOT s.deleted
LEFT JOIN LATERAL (
    SELECT definition->>'name' AS name, definition->>'url' AS url FROM changes c
    WHERE s.id IS NULL AND c.resource = 'subscription' AND c.resource_id = o.subscription_id::text AND c.tenant = o.tenant AND c.definition IS NOT NULL
    ORDER BY c.revision DESC LIMIT 1
) gone ON true`

// subscriptionsOf returns the subscriptions of deliveries.
func (l *Reader) subscriptionsOf(ctx context.Context, entries []ledger.Entry) (map[uuid.UUID]receiver, error) {
	known := make(map[uuid.UUID]receiver)
	c := postgres.Columns(2, len(entries))
	for _, e := range entries {
		if _, ok := known[e.Subscription]; !ok {
			known[e.Subscription] = receiver{}
			c[0].UUID(e.Subscription)
			c[1].Text(e.Tenant)
		}
	}
	rows, err := l.db.QueryContext(ctx, `
SELECT o.subscription_id, coalesce(s.name, gone.name), coalesce(s.url, gone.url, '')
FROM unnest($1::uuid[], $2::text[]) AS o (subscription_id, tenant)`+joinReceivers, postgres.Args(c)...)
	err = postgres.Each(rows, err, func() error {
		var id uuid.UUID
		var name *string
		var address string
		if err := rows.Scan(&id, &name, &address); err != nil {
			return err
		}
		known[id] = receiver{name: name}
		if address != "" {
			known[id] = receiver{name, new(HostOf(address))}
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("read subscriptions of deliveries: %w", err)
	}
	return known, nil
}

// HostOf returns the host of a URL, with its port unless it is the scheme's own; empty for a URL without a host.
func HostOf(address string) string {
	u, err := url.Parse(address)
	if err != nil {
		return ""
	}
	host := strings.ToLower(u.Host)
	switch u.Scheme {
	case "https":
		return strings.TrimSuffix(host, ":443")
	case "http":
		return strings.TrimSuffix(host, ":80")
	}
	return host
}

// present shows entries as the API does.
func (l *Reader) present(ctx context.Context, entries ...ledger.Entry) ([]deliveryJSON, error) {
	items := make([]deliveryJSON, len(entries))
	if len(entries) == 0 {
		return items, nil
	}
	lasts, err := l.lasts(ctx, entries)
	if err != nil {
		return nil, err
	}
	receivers, err := l.subscriptionsOf(ctx, entries)
	if err != nil {
		return nil, err
	}
	for i, e := range entries {
		items[i] = entry(e)
		items[i].NextAttemptAt = items[i].DueAt
		items[i].attempted(lasts[e.ID])
		of := receivers[e.Subscription]
		items[i].SubscriptionName, items[i].URLHost = of.name, of.host
	}
	return items, nil
}

// attempted shows the last attempt; nil if there was none.
func (d *deliveryJSON) attempted(last *outcome.Made) {
	if last == nil {
		return
	}
	at := last.StartedAt.UTC()
	d.LastAttemptAt = &at
	if last.Status != 0 {
		d.LastStatus = &last.Status
	}
	if last.Error != "" {
		d.LastError = &last.Error
	}
}

// shownTime is a time as the API shows it; nil where there is none.
func shownTime(t sql.NullTime) *time.Time {
	if !t.Valid {
		return nil
	}
	at := t.Time.UTC()
	return &at
}
