package subscriptions

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/fanfarehq/fanfare/internal/postgres"
)

// mostReplaced bounds the names in a ReplacementError.
const mostReplaced = 20

// ReplacementError says that an event type cannot be deleted because other types name it in replaced_by.
type ReplacementError struct {
	EventTypes []string // the first ones, by name
}

func (e *ReplacementError) Error() string {
	return "other event types name it in replaced_by: " + strings.Join(e.EventTypes, ", ")
}

// checkReplacement refuses the name of a replacement that does not exist; one that stays is not looked for again. Its error
// may be an *Invalid.
func (s *Store) checkReplacement(ctx context.Context, t *EventType, before string) error {
	if t.ReplacedBy == before || t.ReplacedBy == "" {
		return nil
	}
	bad := &Invalid{}
	if t.ReplacedBy == t.Name {
		bad.addf("replaced_by", "must be another event type")
		return bad
	}
	_, err := s.EventTypeFor(ctx, t.Tenant, t.ReplacedBy)
	if errors.Is(err, ErrNotFound) {
		bad.addf("replaced_by", "must be an event type that exists")
		return bad
	}
	return err
}

// replacedBy selects the event types that would name no type any more without one: of its tenant, or where it is every tenant's, of
// all tenants without a type of that name of their own.
const replacedBy = `SELECT t.name || CASE WHEN t.tenant IN ('', $1) THEN '' ELSE ' of tenant ' || t.tenant END FROM event_types t
WHERE t.replaced_by = $2 AND NOT t.deleted AND ($1 = '' OR t.tenant = $1)
AND NOT EXISTS (SELECT FROM event_types o WHERE o.name = $2 AND o.tenant IN (t.tenant, '') AND o.tenant <> $1 AND NOT o.deleted)
ORDER BY t.name, t.tenant LIMIT $3`

// checkReplaced refuses to delete an event type that others name as their replacement; its error may be a *ReplacementError.
func (s *Store) checkReplaced(ctx context.Context, tenant, name string) error {
	rows, err := s.db.QueryContext(ctx, replacedBy, tenant, name, mostReplaced)
	names, err := postgres.Collect(rows, err, postgres.ScanOne[string])
	if err != nil {
		return fmt.Errorf("read event types that %s replaces: %w", name, err)
	}
	if len(names) > 0 {
		return &ReplacementError{names}
	}
	return nil
}
