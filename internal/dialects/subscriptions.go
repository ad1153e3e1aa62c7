package dialects

import (
	"errors"
	"math/rand/v2"
	"net/http"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/fanfarehq/fanfare/subscriptions"
)

// Subscriptions are those of one dialect, within the caller's tenant.
type Subscriptions struct {
	store   *subscriptions.Store
	dialect string
	words   Words
}

// Words are how a vendor speaks of subscriptions.
type Words struct {
	// Missing is the failure of an id that is not the caller's.
	Missing func() *Failure
	// Field names a field that the store refused: path is where it stands, as in the native API, taken apart
	// (url; event_types, 0; headers, X-Env).
	Field func(path []string) string
	// Label is how a message calls the field; nil is as Field does.
	Label func(field string) string
}

// Subscriptions are those of one dialect.
func (d Deps) Subscriptions(dialect string, words Words) *Subscriptions {
	if words.Label == nil {
		words.Label = func(field string) string { return field }
	}
	return &Subscriptions{store: d.Store, dialect: dialect, words: words}
}

// maxListed bounds a list. It is far beyond what one account makes through a vendor's API.
const maxListed = 10_000

// All are the caller's, the oldest first.
func (s *Subscriptions) All(c *Call) ([]*subscriptions.Subscription, error) {
	list, err := s.store.List(c.R.Context(), subscriptions.Query{
		Tenant: c.Caller.Tenant, Dialect: s.dialect, Asc: true, Limit: maxListed,
	})
	for i := range list {
		list[i] = c.seen(list[i])
	}
	return list, err
}

// seen is a subscription as the caller may see it: only callers that may change it see secrets, headers and tokens.
func (c *Call) seen(sub *subscriptions.Subscription) *subscriptions.Subscription {
	if c.Has(WriteSubscriptions) {
		return sub
	}
	return sub.Masked()
}

// ByID is the one that the path's id names.
func (s *Subscriptions) ByID(c *Call, param string) (*subscriptions.Subscription, error) {
	id, ok := c.UUID(param)
	if !ok {
		return nil, s.words.Missing()
	}
	return s.byID(c, id)
}

func (s *Subscriptions) byID(c *Call, id uuid.UUID) (*subscriptions.Subscription, error) {
	found, err := s.store.Get(c.R.Context(), c.Caller.Tenant, id)
	if err != nil {
		return nil, s.refused(err)
	}
	if found.Dialect != s.dialect {
		return nil, s.words.Missing()
	}
	return c.seen(found), nil
}

// ByNumber is the one that the path's number names.
func (s *Subscriptions) ByNumber(c *Call, param string) (*subscriptions.Subscription, error) {
	number, ok := c.Number(param)
	if !ok || number != int64(int32(number)) {
		return nil, s.words.Missing()
	}
	found, err := s.store.GetByNumber(c.R.Context(), c.Caller.Tenant, s.dialect, int32(number))
	if err != nil {
		return nil, s.refused(err)
	}
	return c.seen(found), nil
}

// Create stores a new one.
func (s *Subscriptions) Create(c *Call, sub *subscriptions.Subscription) error {
	if err := c.auth.UseTenant(c.R.Context(), c.Caller.Tenant); err != nil {
		return err
	}
	sub.Tenant, sub.Dialect, sub.Scopes = c.Caller.Tenant, s.dialect, c.held()
	return s.refused(s.store.Create(c.R.Context(), sub))
}

// held are the scopes of the caller.
func (c *Call) held() []string {
	if c.Caller.Admin {
		return []string{subscriptions.AllScopes}
	}
	return c.Caller.Scopes
}

// updateTries is how often a change is made anew because somebody else was faster: a receiver that is gone, the
// native API, another client. Vendors know no versions, so the last one wins, field by field.
const updateTries = 10

// updatePause is waited before another try, at random up to this much more each time.
const updatePause = 5 * time.Millisecond

// Update applies a change to a subscription that was just read, and stores it. Change says by its error that the
// input is no good; it may be called several times, and must not write to what sub points to.
func (s *Subscriptions) Update(c *Call, sub *subscriptions.Subscription, change func(*subscriptions.Subscription) error) (*subscriptions.Subscription, error) {
	ctx := c.R.Context()
	for try := range updateTries {
		after := *sub
		if err := change(&after); err != nil {
			return nil, err
		}
		subscriptions.DropCredentials(sub, &after)
		// Whoever changes where events go, or which, must be allowed to see them.
		if err := s.store.Rescope(ctx, sub, &after, c.held()); err != nil {
			return nil, s.refused(err)
		}
		err := s.store.Update(ctx, &after)
		if !errors.Is(err, subscriptions.ErrChanged) {
			return &after, s.refused(err)
		}
		select {
		case <-time.After(rand.N(time.Duration(try+1) * updatePause)):
		case <-ctx.Done():
			return nil, ctx.Err()
		}
		if sub, err = s.byID(c, sub.ID); err != nil {
			return nil, err
		}
	}
	return nil, &Failure{Status: http.StatusConflict, Message: "It is being changed by others."}
}

// Delete removes one.
func (s *Subscriptions) Delete(c *Call, sub *subscriptions.Subscription) error {
	return s.refused(s.store.Delete(c.R.Context(), c.Caller.Tenant, sub.ID))
}

// refused turns the store's refusals into failures in the vendor's words.
func (s *Subscriptions) refused(err error) error {
	if invalid, ok := errors.AsType[*subscriptions.Invalid](err); ok {
		fields := make([]FieldError, len(invalid.Faults))
		for i, fault := range invalid.Faults {
			field := s.words.Field(path(fault.Field))
			fields[i] = FieldError{Field: field, Message: "The " + s.words.Label(field) + " " + fault.Message + "."}
		}
		return Invalid(fields...)
	}
	if lacking, ok := errors.AsType[*subscriptions.ScopeError](err); ok {
		return Forbidden("The key lacks the scope " + lacking.Scope + ".")
	}
	if errors.Is(err, subscriptions.ErrNotFound) {
		return s.words.Missing()
	}
	return err
}

// path takes a field of the native API apart: event_types[1] and headers.X-Env.v2 have two parts each.
func path(field string) []string {
	name, rest, found := strings.Cut(field, ".")
	if found {
		return []string{name, rest}
	}
	if name, rest, found = strings.Cut(field, "["); found {
		return []string{name, strings.TrimSuffix(rest, "]")}
	}
	return []string{field}
}

// Switch makes a subscription active or not, as vendors have it. One that is paused natively is not active in a vendor's
// eyes: a client that sends back what it read leaves it paused.
func Switch(s *subscriptions.Subscription, active bool) {
	switch {
	case active:
		s.Status, s.DisabledReason = subscriptions.Active, ""
	case s.Status == subscriptions.Active:
		s.Status, s.DisabledReason = subscriptions.Disabled, subscriptions.Manual
	}
}
