package passona

import (
	"net/http"

	"github.com/fanfarehq/fanfare/internal/dialects"
	"github.com/fanfarehq/fanfare/subscriptions"
)

// Name is the dialect's name, and its payload format's.
const Name = "passona"

const base = "/api/2.0/webhooks"

// passona serves the vendor's routes.
type passona struct {
	cfg           Config
	subscriptions *dialects.Subscriptions
}

// New makes the vendor's API.
func New(cfg Config, deps dialects.Deps) *dialects.Vendor {
	v := dialects.New(Name, deps)
	v.Prefixes = []string{"/api/2.0"}
	v.Fail = fail
	// A body that cannot be read lacks all its fields.
	v.Malformed = func(error) *dialects.Failure { return dialects.Invalid(required("name"), required("url")) }
	p := &passona{cfg: cfg, subscriptions: deps.Subscriptions(Name, words())}
	v.Handle(base, dialects.Methods{http.MethodGet: p.list, http.MethodPost: p.create})
	v.Handle(base+"/{uuid}", dialects.Methods{
		http.MethodGet: p.get, http.MethodPut: p.update, http.MethodPatch: p.update, http.MethodDelete: p.delete,
	})
	return v
}

func (p *passona) list(c *dialects.Call) error {
	if err := c.Require(dialects.ReadSubscriptions); err != nil {
		return err
	}
	all, err := p.subscriptions.All(c)
	if err != nil {
		return err
	}
	dialects.Reply(c.W, http.StatusOK, contentType, pageOf(c, all))
	return nil
}

func (p *passona) create(c *dialects.Call) error {
	if err := c.Require(dialects.WriteSubscriptions); err != nil {
		return err
	}
	in, err := c.Input()
	if err != nil {
		return err
	}
	s := &subscriptions.Subscription{
		Status: subscriptions.Active,
		Retry:  subscriptions.Retry{MaxRetries: new(int)}, // none, ever
	}
	if p.cfg.EventType != "" {
		s.EventTypes = []string{p.cfg.EventType}
	}
	var wrong []dialects.FieldError
	for _, name := range []string{"name", "url"} {
		if !in.Has(name) {
			wrong = append(wrong, required(name))
		}
	}
	if wrong = append(wrong, change(s, in)...); len(wrong) > 0 {
		return dialects.Invalid(wrong...)
	}
	if err := p.subscriptions.Create(c, s); err != nil {
		return err
	}
	reply(c, http.StatusCreated, s)
	return nil
}

func (p *passona) get(c *dialects.Call) error {
	if err := c.Require(dialects.ReadSubscriptions); err != nil {
		return err
	}
	s, err := p.subscriptions.ByID(c, "uuid")
	if err != nil {
		return err
	}
	reply(c, http.StatusOK, s)
	return nil
}

func (p *passona) update(c *dialects.Call) error {
	if err := c.Require(dialects.WriteSubscriptions); err != nil {
		return err
	}
	s, err := p.subscriptions.ByID(c, "uuid")
	if err != nil {
		return err
	}
	in, err := c.Input()
	if err != nil {
		return err
	}
	s, err = p.subscriptions.Update(c, s, func(s *subscriptions.Subscription) error {
		if wrong := change(s, in); len(wrong) > 0 {
			return dialects.Invalid(wrong...)
		}
		return nil
	})
	if err != nil {
		return err
	}
	reply(c, http.StatusOK, s)
	return nil
}

func (p *passona) delete(c *dialects.Call) error {
	if err := c.Require(dialects.WriteSubscriptions); err != nil {
		return err
	}
	s, err := p.subscriptions.ByID(c, "uuid")
	if err != nil {
		return err
	}
	if err := p.subscriptions.Delete(c, s); err != nil {
		return err
	}
	c.W.WriteHeader(http.StatusNoContent)
	return nil
}

// change applies the fields that were sent; headers replace all that there were.
func change(s *subscriptions.Subscription, in dialects.Input) (wrong []dialects.FieldError) {
	for _, field := range []struct {
		name string
		into *string
	}{{"name", &s.Name}, {"url", &s.URL}} {
		text, _ := in.Text(field.name)
		if in.Has(field.name) && text == "" {
			wrong = append(wrong, required(field.name))
		} else if text != "" {
			*field.into = text
		}
	}
	if in.Has("headers") {
		headers, ok := in.TextMap("headers")
		if !ok {
			wrong = append(wrong, dialects.FieldError{Field: "headers", Message: "The headers must be an object of strings."})
		}
		s.Headers = headers
	}
	return wrong
}
