package babelfor

import (
	"net/http"
	"time"

	"github.com/fanfarehq/fanfare/deliver/history"
	"github.com/fanfarehq/fanfare/fanout"
	"github.com/fanfarehq/fanfare/ingest"
	"github.com/fanfarehq/fanfare/internal/dialects"
	"github.com/fanfarehq/fanfare/subscriptions"
)

// Name is the dialect's name, and its payload format's.
const Name = "babelfor"

// The retries of a subscription: how many unless the client says so, at most, and how far apart.
const (
	defaultRetries = 3
	maxRetries     = 100
	retryInterval  = 5 * time.Minute
)

// userKey holds, among a subscription's metadata, the key that made it: the vendor's userId.
const userKey = "babelfor_user"

const root = "/v1/webhooks"

// Deps are what this vendor needs beyond the others.
type Deps struct {
	dialects.Deps
	Deliveries *history.Log
	Ingest     *ingest.Ingest
	Reader     *fanout.Reader
	Ledger     *fanout.Ledger
	// Strict takes only event types that are registered.
	Strict bool
	// Foreign says of an event type of every tenant that another vendor brought it with it: it is not shown.
	Foreign func(name string) bool
}

// babelfor serves the vendor's routes.
type babelfor struct {
	deps          Deps
	subscriptions *dialects.Subscriptions
}

// New makes the vendor's API.
func New(deps Deps) *dialects.Vendor {
	v := dialects.New(Name, deps.Deps)
	v.Prefixes = []string{root}
	v.Fail = fail
	v.Malformed = func(err error) *dialects.Failure { return dialects.BadRequest("%v", err) }
	b := &babelfor{deps: deps, subscriptions: deps.Subscriptions(Name, words())}
	v.Handle(root+"/subscriptions", dialects.Methods{http.MethodGet: b.list, http.MethodPost: b.create})
	v.Handle(root+"/subscriptions/{id}", dialects.Methods{http.MethodGet: b.get, http.MethodPut: b.update, http.MethodDelete: b.delete})
	v.Handle(root+"/event-types", dialects.Methods{http.MethodGet: b.eventTypes})
	v.Handle(root+"/subscriptions/{id}/test", dialects.Methods{http.MethodPost: b.test})
	v.Handle(root+"/subscriptions/{id}/events", dialects.Methods{http.MethodGet: b.events})
	v.Handle(root+"/subscriptions/{id}/events/{event}", dialects.Methods{http.MethodDelete: b.deleteEvent})
	return v
}

// list answers the subscriptions that pass the filter, a page of them.
func (b *babelfor) list(c *dialects.Call) error {
	if err := c.Require(dialects.ReadSubscriptions); err != nil {
		return err
	}
	q, err := parseQuery(c.R.URL.Query(), subscriptionFields, "id")
	if err != nil {
		return dialects.BadRequest("%v", err)
	}
	all, err := b.subscriptions.All(c)
	if err != nil {
		return err
	}
	rows := make([]subscription, len(all))
	for i, s := range all {
		rows[i] = show(s)
	}
	if q.events {
		if err := c.Require(dialects.ReadDeliveries); err != nil {
			return err
		}
		q.take = min(q.take, maxIncluded)
	}
	page, total := q.page(q.filter(rows))
	if q.events && q.prints("webhookEvents") {
		room := maxPayloads
		for i := range page {
			if err := b.include(c, &page[i], &room); err != nil {
				return err
			}
		}
	}
	shown, err := selectKeys(page, q.selected)
	if err != nil {
		return err
	}
	reply(c, subscriptionsAnswer{shown, total, done})
	return nil
}

// include shows a subscription's newest events.
func (b *babelfor) include(c *dialects.Call, s *subscription, room *int) (err error) {
	if s.WebhookEvents, err = b.newest(c.R.Context(), *s, maxIncluded); err != nil {
		return err
	}
	return b.fill(c, s.WebhookEvents, room)
}

func (b *babelfor) create(c *dialects.Call) error {
	if err := c.Require(dialects.WriteSubscriptions); err != nil {
		return err
	}
	in, err := inputOf(c)
	if err != nil {
		return err
	}
	for _, name := range []string{"name", "eventType", "url"} {
		if !in.Gives(name) {
			return dialects.BadRequest("The %s is required.", name)
		}
	}
	s := &subscriptions.Subscription{
		Status:   subscriptions.Active,
		Metadata: map[string]string{userKey: c.Caller.KeyID},
		Retry:    retries(defaultRetries),
	}
	if s.EventTypes, err = b.readTypes(c, in); err != nil {
		return err
	}
	if err := change(s, in); err != nil {
		return err
	}
	if err := b.subscriptions.Create(c, s); err != nil {
		return err
	}
	reply(c, subscriptionAnswer{show(s), done})
	return nil
}

func (b *babelfor) get(c *dialects.Call) error {
	if err := c.Require(dialects.ReadSubscriptions); err != nil {
		return err
	}
	s, err := b.one(c)
	if err != nil {
		return err
	}
	withEvents, err := parseInclude(c.R.URL.Query().Get("include"))
	if err != nil {
		return dialects.BadRequest("%v", err)
	}
	shown := show(s)
	if withEvents {
		if err := c.Require(dialects.ReadDeliveries); err != nil {
			return err
		}
		room := maxPayloads
		if err := b.include(c, &shown, &room); err != nil {
			return err
		}
	}
	reply(c, subscriptionAnswer{shown, done})
	return nil
}

func (b *babelfor) update(c *dialects.Call) error {
	if err := c.Require(dialects.WriteSubscriptions); err != nil {
		return err
	}
	s, err := b.one(c)
	if err != nil {
		return err
	}
	in, err := inputOf(c)
	if err != nil {
		return err
	}
	var types []string
	if in.Has("eventType") {
		if types, err = b.readTypes(c, in); err != nil {
			return err
		}
	}
	s, err = b.subscriptions.Update(c, s, func(s *subscriptions.Subscription) error {
		if types != nil {
			s.EventTypes = types
		}
		return change(s, in)
	})
	if err != nil {
		return err
	}
	reply(c, subscriptionAnswer{show(s), done})
	return nil
}

func (b *babelfor) delete(c *dialects.Call) error {
	if err := c.Require(dialects.WriteSubscriptions); err != nil {
		return err
	}
	s, err := b.one(c)
	if err != nil {
		return err
	}
	if err := b.subscriptions.Delete(c, s); err != nil {
		return err
	}
	reply(c, done)
	return nil
}

// one is the subscription of the path.
func (b *babelfor) one(c *dialects.Call) (*subscriptions.Subscription, error) {
	if _, ok := c.Number("id"); !ok {
		return nil, dialects.BadRequest("The subscription's id must be a number.")
	}
	return b.subscriptions.ByNumber(c, "id")
}

// inputOf is the object below "subscription".
func inputOf(c *dialects.Call) (dialects.Input, error) {
	in, err := c.Input()
	if err != nil {
		return nil, err
	}
	inner := in.Object("subscription")
	if inner == nil {
		return nil, dialects.BadRequest("The subscription is required.")
	}
	return inner, nil
}

// change applies the keys that were sent, but for the event types; null clears the secret and the headers.
func change(s *subscriptions.Subscription, in dialects.Input) error {
	for _, field := range []struct {
		name string
		into *string
	}{{"name", &s.Name}, {"url", &s.URL}} {
		if text, _ := in.Text(field.name); text != "" {
			*field.into = text
		} else if in.Has(field.name) {
			return dialects.BadRequest("The %s must be a string that is not empty.", field.name)
		}
	}
	if in.Has("secret") {
		secret, ok := in.Text("secret")
		if !ok && in.Gives("secret") {
			return dialects.BadRequest("The secret must be a string.")
		}
		s.Secrets, s.Err = nil, nil // Also of one that does not open any more.
		if secret != "" {
			s.Secrets = []subscriptions.Secret{{Value: secret}}
		}
	}
	if in.Has("headers") {
		headers, ok := readHeaders(in)
		if !ok {
			return dialects.BadRequest("The headers must be a map of strings.")
		}
		s.Headers = headers
	}
	return changeRules(s, in)
}

// changeRules applies maxRetryCount and isActive.
func changeRules(s *subscriptions.Subscription, in dialects.Input) error {
	if in.Has("maxRetryCount") {
		n, ok := in.Int("maxRetryCount")
		if !ok || n < 0 || n > maxRetries {
			return dialects.BadRequest("The maxRetryCount must be a number from 0 to %d.", maxRetries)
		}
		s.Retry = retries(n)
	}
	if in.Has("isActive") {
		active, ok := in.Bool("isActive")
		if !ok {
			return dialects.BadRequest("The isActive must be true or false.")
		}
		dialects.Switch(s, active)
	}
	return nil
}

func retries(n int) subscriptions.Retry {
	return subscriptions.Retry{Schedule: []time.Duration{retryInterval}, MaxRetries: &n}
}
