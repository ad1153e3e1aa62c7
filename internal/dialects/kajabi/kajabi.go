package kajabi

import (
	"net/http"
	"slices"

	"github.com/fanfarehq/fanfare/internal/dialects"
	"github.com/fanfarehq/fanfare/subscriptions"
)

// Name is the dialect's name, and its payload format's.
const Name = "kajabi"

// siteKey holds, among a subscription's metadata, the id of the site that a hook was made for.
const siteKey = "kajabi_site"

// kajabi serves the vendor's routes.
type kajabi struct {
	subscriptions *dialects.Subscriptions
}

// New makes the vendor's API.
func New(deps dialects.Deps) *dialects.Vendor {
	v := dialects.New(Name, deps)
	v.Prefixes = []string{"/v1/hooks", "/api/v1/hooks", "/v1/oauth", "/api/v1/oauth"}
	v.Fail = fail
	v.Malformed = func(err error) *dialects.Failure { return dialects.BadRequest("%v", err) }
	k := &kajabi{subscriptions: deps.Subscriptions(Name, words())}
	tokens := deps.Tokens()
	tokens.Passwords = true
	for _, prefix := range []string{"/v1", "/api/v1"} {
		v.Handle(prefix+"/hooks", dialects.Methods{http.MethodGet: k.list, http.MethodPost: k.create})
		for event := range events {
			v.Handle(prefix+"/hooks/"+event+"_sample", dialects.Methods{http.MethodGet: sample(event)})
		}
		v.Handle(prefix+"/hooks/{id}", dialects.Methods{http.MethodGet: k.get, http.MethodDelete: k.delete})
		v.HandlePublic(prefix+"/oauth/token", dialects.Methods{http.MethodPost: tokens.Token})
		v.HandlePublic(prefix+"/oauth/revoke", dialects.Methods{http.MethodPost: tokens.Revoke})
	}
	return v
}

func (k *kajabi) list(c *dialects.Call) error {
	if err := c.Require(dialects.ReadSubscriptions); err != nil {
		return err
	}
	all, err := k.subscriptions.All(c)
	if err != nil {
		return err
	}
	query := c.R.URL.Query()
	site := query.Get("filter[site_id_eq]")
	if site == "" {
		site = query.Get("filter[site_id]")
	}
	event := query.Get("filter[event_eq]")
	all = slices.DeleteFunc(all, func(s *subscriptions.Subscription) bool {
		return event != "" && s.EventTypes[0] != event || site != "" && s.Metadata[siteKey] != site
	})
	p := pageOf(c, len(all))
	hooks := []hook{}
	for _, s := range all[p.From:p.To] {
		hooks = append(hooks, show(s))
	}
	reply(c, http.StatusOK, listDocument{Data: hooks, Links: linksOf(c, p), Meta: meta{p.Last, len(all), p.Number, len(all)}})
	return nil
}

func (k *kajabi) create(c *dialects.Call) error {
	if err := c.Require(dialects.WriteSubscriptions); err != nil {
		return err
	}
	in, err := c.Input()
	if err != nil {
		return err
	}
	s, wrong := read(in)
	if len(wrong) > 0 {
		return dialects.Invalid(wrong...)
	}
	for _, scope := range events[s.EventTypes[0]].scopes {
		if err := c.RequireScope(scope); err != nil {
			return err
		}
	}
	if err := k.subscriptions.Create(c, s); err != nil {
		return err
	}
	reply(c, http.StatusCreated, document{Data: show(s)})
	return nil
}

func (k *kajabi) get(c *dialects.Call) error {
	if err := c.Require(dialects.ReadSubscriptions); err != nil {
		return err
	}
	s, err := k.subscriptions.ByNumber(c, "id")
	if err != nil {
		return err
	}
	reply(c, http.StatusOK, document{Data: show(s)})
	return nil
}

func (k *kajabi) delete(c *dialects.Call) error {
	if err := c.Require(dialects.WriteSubscriptions); err != nil {
		return err
	}
	s, err := k.subscriptions.ByNumber(c, "id")
	if err != nil {
		return err
	}
	if err := k.subscriptions.Delete(c, s); err != nil {
		return err
	}
	c.W.WriteHeader(http.StatusNoContent)
	return nil
}

// sample answers with a payload of the event: a bare list, for callers that may subscribe to the event.
func sample(event string) dialects.Handler {
	return func(c *dialects.Call) error {
		for _, scope := range events[event].scopes {
			if err := c.RequireScope(scope); err != nil {
				return err
			}
		}
		list, err := sampleOf(event)
		if err != nil {
			return err
		}
		dialects.ReplyRaw(c.W, contentType, list)
		return nil
	}
}
