package subscriptions

import (
	"context"
	"fmt"
	"strings"

	"github.com/google/uuid"
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
	parts := []string{"NOT deleted"}
	var args []any
	also := func(format string, arg any) {
		args = append(args, arg)
		parts = append(parts, fmt.Sprintf(format, fmt.Sprintf("$%d", len(args))))
	}
	if q.Tenant != "" {
		also("tenant = %s", q.Tenant)
	}
	if q.Dialect != "" {
		also("dialect = %s", q.Dialect)
	}
	if q.Status != "" {
		also("status = %s", string(q.Status))
	}
	if q.EventType != "" {
		also(takes, q.EventType)
	}
	if q.Text != "" {
		also("strpos(lower(name || E'\n' || description || E'\n' || url), lower(%s)) > 0", q.Text)
	}
	order, beyond := "DESC", "id < %s"
	if q.Asc {
		order, beyond = "ASC", "id > %s"
	}
	if q.After != uuid.Nil {
		also(beyond, q.After)
	}
	where := "WHERE " + strings.Join(parts, " AND ") + " ORDER BY id " + order
	if q.Limit > 0 {
		where += fmt.Sprintf(" LIMIT %d", q.Limit)
	}
	return where, args
}
