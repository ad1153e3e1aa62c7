package subscriptions

import (
	"context"
	"fmt"

	"github.com/google/uuid"

	"github.com/fanfarehq/fanfare/internal/postgres"
)

// Query asks for some of the subscriptions.
type Query struct {
	Tenant    string // empty: every tenant's
	Dialect   string // empty: any
	EventType string // those that take this type, or have this very pattern
	Status    Status // empty: any
	Text      string // part of the name, description or URL, in any case
	// After is the id after which to go on, in the order of the list; zero at the start.
	After uuid.UUID
	Asc   bool // the oldest first; else the newest
	Limit int  // 0: all
}

// List returns subscriptions with their secrets, in the order of their making.
func (s *Store) List(ctx context.Context, q Query) ([]*Subscription, error) {
	where, args := q.where()
	var found []*Subscription
	err := readRows(ctx, s.db, func(r *row) error {
		sub, err := s.open(r)
		found = append(found, sub)
		return err
	}, where, args...)
	return found, err
}

// takes is patternTakes in SQL. Patterns are of [A-Za-z0-9_.*>] only, so nothing else needs to be escaped.
const takes = `EXISTS (SELECT 1 FROM unnest(event_types) AS p WHERE p = %[1]s OR p IN ('*', '>') OR
	(p ~ '[*>]' AND %[1]s ~ ('^' || replace(replace(replace(p, '.', '\.'), '*', '[^.]+'), '>', '.+') || '$')))`

func (q Query) where() (string, []any) {
	var w postgres.Where
	w.And("NOT deleted")
	if q.Tenant != "" {
		w.And("tenant = ?", q.Tenant)
	}
	if q.Dialect != "" {
		w.And("dialect = ?", q.Dialect)
	}
	if q.Status != "" {
		w.And("status = ?", string(q.Status))
	}
	if q.EventType != "" {
		w.And(fmt.Sprintf(takes, w.Arg(q.EventType)))
	}
	if q.Text != "" {
		w.And("strpos(lower(name || E'\n' || description || E'\n' || url), lower(?)) > 0", q.Text)
	}
	order, beyond := postgres.Direction(q.Asc)
	if q.After != uuid.Nil {
		w.And("id "+beyond+" ?", q.After)
	}
	where := "WHERE " + w.String() + " ORDER BY id " + order
	if q.Limit > 0 {
		where += fmt.Sprintf(" LIMIT %d", q.Limit)
	}
	return where, w.Args()
}
