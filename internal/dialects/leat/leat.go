package leat

import (
	"net/http"
	"time"

	"github.com/fanfarehq/fanfare/internal/dialects"
	"github.com/fanfarehq/fanfare/subscriptions"
)

// Name is the dialect's name, and its payload format's.
const Name = "leat"

// timeout is that of one attempt.
const timeout = 10 * time.Second

// leat serves the vendor's routes.
type leat struct {
	cfg           Config
	subscriptions *dialects.Subscriptions
}

// New makes the vendor's API.
func New(cfg Config, deps dialects.Deps) *dialects.Vendor {
	v := dialects.New(Name, deps)
	v.Prefixes = []string{"/api/v3/oauth", "/api/webhook-subscriptions", "/oauth"}
	v.Fail = fail
	v.Malformed = func(error) *dialects.Failure { return dialects.Invalid() }
	l := &leat{cfg: cfg, subscriptions: deps.Subscriptions(Name, words())}
	// The second path is what remains of the documentation's /api//webhook-subscriptions.
	for _, base := range []string{"/api/v3/oauth/clients/webhook-subscriptions", "/api/webhook-subscriptions"} {
		v.Handle(base, dialects.Methods{http.MethodGet: l.list, http.MethodPost: l.create})
		v.Handle(base+"/{uuid}", dialects.Methods{http.MethodGet: l.get, http.MethodPut: l.update, http.MethodDelete: l.delete})
	}
	tokens := deps.Tokens()
	tokens.AnyNumber = true // The vendor's SDK holds client_id in an int.
	v.HandlePublic("/oauth/token", dialects.Methods{http.MethodPost: tokens.Token})
	return v
}

// list answers all of the account's subscriptions, the oldest first; Leat knows no pages.
func (l *leat) list(c *dialects.Call) error {
	if err := c.Require(dialects.ReadSubscriptions); err != nil {
		return err
	}
	query := c.R.URL.Query()
	eventType, status := query.Get("event_type"), query.Get("status")
	var wrong []dialects.FieldError
	if eventType != "" && !l.cfg.offers(eventType) {
		wrong = append(wrong, invalidChoice("event_type"))
	}
	if status != "" && status != active && status != inactive {
		wrong = append(wrong, invalidChoice("status"))
	}
	if len(wrong) > 0 {
		return dialects.Invalid(wrong...)
	}
	all, err := l.subscriptions.All(c)
	if err != nil {
		return err
	}
	list := []subscription{}
	for _, s := range all {
		if (eventType == "" || s.EventTypes[0] == eventType) && (status == "" || statusOf(s) == status) {
			list = append(list, show(s, len(attributes(s)) > 0))
		}
	}
	reply(c, list)
	return nil
}

func (l *leat) create(c *dialects.Call) error {
	if err := c.Require(dialects.WriteSubscriptions); err != nil {
		return err
	}
	in, err := c.InputWithQuery()
	if err != nil {
		return err
	}
	s := &subscriptions.Subscription{Status: subscriptions.Active, Timeout: timeout}
	eventType, _ := in.Text("event_type")
	s.EventTypes = []string{eventType}
	var wrong []dialects.FieldError
	for _, name := range []string{"name", "event_type", "url"} {
		if text, _ := in.Text(name); text == "" {
			wrong = append(wrong, required(name))
		} else if name == "event_type" && !l.cfg.offers(eventType) {
			wrong = append(wrong, invalidChoice(name))
		}
	}
	secret, ok := in.Text("secret")
	if !ok && in.Gives("secret") { // Else its webhooks would go out unsigned.
		wrong = append(wrong, dialects.FieldError{Field: "secret", Message: "The secret must be a string."})
	}
	if wrong = append(wrong, change(s, in)...); len(wrong) > 0 {
		return dialects.Invalid(wrong...)
	}
	if secret != "" {
		s.Secrets = []subscriptions.Secret{{Value: secret}}
	}
	if err := l.subscriptions.Create(c, s); err != nil {
		return err
	}
	reply(c, show(s, len(attributes(s)) > 0))
	return nil
}

func (l *leat) get(c *dialects.Call) error {
	if err := c.Require(dialects.ReadSubscriptions); err != nil {
		return err
	}
	s, err := l.subscriptions.ByID(c, "uuid")
	if err != nil {
		return err
	}
	reply(c, show(s, true))
	return nil
}

// update changes the fields that were sent and may be changed; event_type and secret are taken and ignored, since the
// vendor's own plugin sends them.
func (l *leat) update(c *dialects.Call) error {
	if err := c.Require(dialects.WriteSubscriptions); err != nil {
		return err
	}
	s, err := l.subscriptions.ByID(c, "uuid")
	if err != nil {
		return err
	}
	in, err := c.InputWithQuery()
	if err != nil {
		return err
	}
	s, err = l.subscriptions.Update(c, s, func(s *subscriptions.Subscription) error {
		wrong := empty(in, "name", "url")
		wrong = append(wrong, change(s, in)...)
		if list, ok := in.Texts("attributes"); s.EventTypes[0] == contactUpdated && ok && len(list) == 0 {
			wrong = append(wrong, required("attributes"))
		}
		if len(wrong) > 0 {
			return dialects.Invalid(wrong...)
		}
		return nil
	})
	if err != nil {
		return err
	}
	reply(c, show(s, true))
	return nil
}

func (l *leat) delete(c *dialects.Call) error {
	if err := c.Require(dialects.WriteSubscriptions); err != nil {
		return err
	}
	s, err := l.subscriptions.ByID(c, "uuid")
	if err != nil {
		return err
	}
	if err := l.subscriptions.Delete(c, s); err != nil {
		return err
	}
	reply(c, []string{}) // the SDK's type of data is an array, here too
	return nil
}

// empty says which of the fields were sent without a text in them.
func empty(in dialects.Input, names ...string) (wrong []dialects.FieldError) {
	for _, name := range names {
		if text, _ := in.Text(name); in.Has(name) && text == "" {
			wrong = append(wrong, required(name))
		}
	}
	return wrong
}

// change applies what create and update have in common, and reports its errors. A status or attributes of null
// are as not sent.
func change(s *subscriptions.Subscription, in dialects.Input) (wrong []dialects.FieldError) {
	if text, _ := in.Text("name"); text != "" {
		s.Name = text
	}
	if text, _ := in.Text("url"); text != "" {
		s.URL = text
	}
	if in.Gives("status") {
		status, _ := in.Text("status")
		if status != active && status != inactive {
			wrong = append(wrong, invalidChoice("status"))
		}
		dialects.Switch(s, status == active)
	}
	if in.Gives("attributes") {
		list, ok := in.Texts("attributes")
		if !ok {
			wrong = append(wrong, dialects.FieldError{Field: "attributes", Message: "The attributes must be an array of strings."})
		}
		setAttributes(s, list)
	}
	return wrong
}
