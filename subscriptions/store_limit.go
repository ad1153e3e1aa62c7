package subscriptions

import (
	"context"
	"database/sql"
	"fmt"

	"github.com/google/uuid"

	"github.com/fanfarehq/fanfare/internal/postgres"
	"github.com/fanfarehq/fanfare/internal/quota"
)

const (
	// entryBytes is about what a Directory holds for a subscription beside its texts: the entry, and its places in the index.
	entryBytes = 512
	// tombstonesOf is how many tombstones a tenant may have for each subscription that it may have: a subscription created and
	// deleted in a loop leaves a row until Sweep takes it.
	tombstonesOf = 10
)

// Limit bounds what each tenant may have. It is called before the Store is used.
func (s *Store) Limit(q *quota.Quotas) { s.quotas = q }

// size is about how many bytes a Directory holds for the subscription, beside its sealed parts. Headers and the whole
// URL are among that, unless nothing new is sealed.
func (s *Subscription) size(sealed []byte) int64 {
	r := rowOf(s)
	c := &r.settings
	if sealed != nil {
		r.url, c.headers = maskURL(s.URL), ""
	}
	n := entryBytes
	for _, text := range []string{
		r.name, r.url, r.types, r.resource, r.changed, r.filter, c.description, c.headers, c.schedule, c.extra, c.disabledReason,
		c.metadata, c.scopes,
	} {
		n += len(text)
	}
	return int64(n)
}

// room makes sure that the tenant may have one more subscription, and these bytes, when tx commits. Nobody else makes one
// of the tenant meanwhile.
func (s *Store) room(ctx context.Context, tx *sql.Tx, tenant string, bytes int64) error {
	bounds, err := s.quotas.Lock(ctx, tx, tenant)
	if err != nil {
		return err
	}
	u, err := usage(ctx, tx, tenant, uuid.Nil)
	if err != nil {
		return err
	}
	if err := bounds.Check(quota.Subscriptions, u.count, 1); err != nil {
		return err
	}
	if most := bounds.Most(quota.Subscriptions); u.tombstones/tombstonesOf >= most {
		return bounds.Check(quota.Subscriptions, most, 1)
	}
	return bounds.Check(quota.SubscriptionBytes, u.bytes, bytes)
}

// grow makes sure that the tenant may have these bytes for a subscription that it has.
func (s *Store) grow(ctx context.Context, tx *sql.Tx, sub *Subscription, bytes int64) error {
	bounds, err := s.quotas.Lock(ctx, tx, sub.Tenant)
	if err != nil {
		return err
	}
	others, err := usage(ctx, tx, sub.Tenant, sub.ID)
	if err != nil {
		return err
	}
	if bytes <= others.without {
		return nil // What shrinks helps, whatever the limit is by now.
	}
	return bounds.Check(quota.SubscriptionBytes, others.bytes, bytes)
}

// used is what a tenant has. Without are the bytes of the subscription that was left out.
type used struct{ count, tombstones, bytes, without int64 }

// rowQuerier is a database or a transaction.
type rowQuerier interface {
	QueryRowContext(ctx context.Context, query string, args ...any) *sql.Row
}

func usage(ctx context.Context, db rowQuerier, tenant string, but uuid.UUID) (u used, err error) {
	err = db.QueryRowContext(ctx, `SELECT count(*) FILTER (WHERE NOT deleted), count(*) FILTER (WHERE deleted),
		coalesce(sum(bytes) FILTER (WHERE NOT deleted), 0) FROM subscriptions WHERE tenant = $1`, tenant).Scan(&u.count, &u.tombstones, &u.bytes)
	if err == nil && but != uuid.Nil {
		err = db.QueryRowContext(ctx, `SELECT coalesce((SELECT bytes FROM subscriptions WHERE id = $1 AND NOT deleted), 0)`, but).Scan(&u.without)
		u.bytes -= u.without
	}
	if err != nil {
		return u, fmt.Errorf("count subscriptions: %w", err)
	}
	return u, nil
}

// Usage is how many subscriptions and event types a tenant has, and the bytes of its subscriptions.
func (s *Store) Usage(ctx context.Context, tenant string) (map[quota.Name]int64, error) {
	u, err := usage(ctx, s.db, tenant, uuid.Nil)
	if err != nil {
		return nil, err
	}
	types, err := countTypes(ctx, s.db, tenant)
	if err != nil {
		return nil, err
	}
	return map[quota.Name]int64{quota.Subscriptions: u.count, quota.SubscriptionBytes: u.bytes, quota.EventTypes: types}, nil
}

func countTypes(ctx context.Context, db rowQuerier, tenant string) (n int64, err error) {
	if err := db.QueryRowContext(ctx, `SELECT count(*) FROM event_types WHERE tenant = $1 AND NOT deleted`, tenant).Scan(&n); err != nil {
		return 0, fmt.Errorf("count event types: %w", err)
	}
	return n, nil
}

// roomForType makes sure that the tenant may have one more event type when tx commits.
func (s *Store) roomForType(ctx context.Context, tx *sql.Tx, tenant string) error {
	bounds, err := s.quotas.Lock(ctx, tx, tenant)
	if err != nil || tenant == "" {
		return err
	}
	n, err := countTypes(ctx, tx, tenant)
	if err != nil {
		return err
	}
	return bounds.Check(quota.EventTypes, n, 1)
}

// within runs a change in a transaction. It takes the next revision last, as that is locked from there to the commit.
func (s *Store) within(ctx context.Context, change func(context.Context, *sql.Tx) error) error {
	return postgres.Retry(ctx, s.db, change)
}
