package subscriptions

import (
	"context"
	"database/sql"
	"fmt"
	"maps"
	"reflect"
	"slices"

	"github.com/lib/pq"

	"github.com/fanfarehq/fanfare/internal/postgres"
)

// checkTypes refuses subscribing to types that are archived, or whose scopes the subscription does not hold.
// Patterns are not refused: what they must not receive is left out when events are matched.
func (s *Store) checkTypes(ctx context.Context, sub *Subscription, fresh []string) error {
	names := slices.DeleteFunc(slices.Clone(fresh), func(p string) bool { return !isExact(p) })
	if len(names) == 0 {
		return nil
	}
	found, err := s.eventTypesFor(ctx, sub.Tenant, names)
	if err != nil {
		return err
	}
	bad := &Invalid{}
	for i, name := range sub.EventTypes {
		t, ok := found[name]
		if !ok {
			continue
		}
		if t.Archived {
			bad.addf(fmt.Sprintf("event_types[%d]", i), "is archived and takes no new subscriptions")
		}
		for _, scope := range t.Scopes {
			if !hold(sub.Scopes, []string{scope}) {
				return &ScopeError{EventType: name, Scope: scope}
			}
		}
	}
	return bad.orNil()
}

// Rescope sets what scopes a changed subscription holds, and refuses changes that would hand events to a caller who
// may not see them. Held are the scopes of the caller. A change of where events go (see moved) or of the event types needs
// the scopes of all event types that the subscription receives, and bounds the subscription to the caller's scopes from
// then on; AllScopes bounds nothing. So a subscription's scopes are always within those of whoever set its destination, and
// deliveries made before the change are sent only as far as they reach (Directory.MayReceive). Update must follow.
func (s *Store) Rescope(ctx context.Context, before, after *Subscription, held []string) error {
	fresh := added(before.EventTypes, after.EventTypes)
	away := moved(before, after)
	if !away && len(fresh) == 0 {
		return nil
	}
	types, err := s.ScopedTypes(ctx, after.Tenant)
	if err != nil {
		return err
	}
	var granted []string
	for _, t := range types {
		takes := func(p string) bool { return patternTakes(p, t.Name) }
		receives := hold(before.Scopes, t.Scopes) && slices.ContainsFunc(after.EventTypes, takes)
		if receives && away || slices.Contains(fresh, t.Name) {
			for _, scope := range t.Scopes {
				if !hold(held, []string{scope}) {
					return &ScopeError{EventType: t.Name, Scope: scope}
				}
			}
		}
		if slices.Contains(fresh, t.Name) {
			granted = append(granted, t.Scopes...)
		}
	}
	switch {
	case hold(held, []string{AllScopes}): // An admin key bounds nothing.
		after.Scopes = slices.Clone(before.Scopes)
	case hold(before.Scopes, []string{AllScopes}):
		after.Scopes = slices.Clone(held)
	default:
		after.Scopes = slices.DeleteFunc(slices.Clone(before.Scopes), func(scope string) bool { return !slices.Contains(held, scope) })
	}
	after.Scopes = distinct(append(after.Scopes, granted...))
	return nil
}

// moved reports whether requests go elsewhere after a change: to another URL, or to another recipient there, which
// credentials, certificates and headers may choose.
func moved(before, after *Subscription) bool {
	return before.URL != after.URL || before.Dialect != after.Dialect || !maps.Equal(before.Headers, after.Headers) ||
		!reflect.DeepEqual(before.Auth, after.Auth) || !reflect.DeepEqual(before.Certificate, after.Certificate)
}

// ScopedTypes are the names and scopes of the event types that demand scopes of a tenant's subscriptions; of
// two of one name the tenant's own counts.
func (s *Store) ScopedTypes(ctx context.Context, tenant string) ([]*EventType, error) {
	rows, err := s.db.QueryContext(ctx, `SELECT name, scopes FROM (
	SELECT DISTINCT ON (name) name, scopes FROM event_types WHERE tenant IN ($1, '') AND NOT deleted ORDER BY name, tenant DESC
) own WHERE cardinality(scopes) > 0`, tenant)
	types, err := postgres.Collect(rows, err, func(rows *sql.Rows) (*EventType, error) {
		t := &EventType{}
		if err := rows.Scan(&t.Name, pq.Array(&t.Scopes)); err != nil {
			return t, err
		}
		return t, nil
	})
	if err != nil {
		return nil, fmt.Errorf("read scopes of event types: %w", err)
	}
	return types, nil
}
