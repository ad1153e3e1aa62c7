package webhook

import (
	"bytes"
	"encoding/base64"
	"errors"
	"strings"

	"github.com/fanfarehq/fanfare/subscriptions"
)

// leastHidden is how long a credential must be to be looked for in what a receiver says. Shorter ones are in any text.
const leastHidden = 6

const hidden = "***"

// conceal takes credentials out of what a receiver sent back: some repeat the request in their answer, and answers are kept
// and shown.
type conceal struct{ values []string }

// newConceal hides what authenticates the subscription; nil where nothing does.
func newConceal(a *subscriptions.Auth) *conceal {
	if a == nil {
		return nil
	}
	c := &conceal{}
	c.add(a.Password, a.Token, a.ClientSecret)
	if a.Type == subscriptions.AuthBasic {
		c.add(basicCredentials(a))
	}
	return c
}

func (c *conceal) add(values ...string) {
	for _, v := range values {
		if len(v) >= leastHidden {
			c.values = append(c.values, v)
		}
	}
}

// with also hides a token.
func (c *conceal) with(token string) *conceal {
	more := &conceal{values: c.values[:len(c.values):len(c.values)]}
	more.add(token)
	return more
}

// bytes returns raw without credentials. Cut says that raw may end within one.
func (c *conceal) bytes(raw []byte, cut bool) []byte {
	if c == nil {
		return raw
	}
	for _, v := range c.values {
		raw = bytes.ReplaceAll(raw, []byte(v), []byte(hidden))
		for n := min(len(v)-1, len(raw)); cut && n >= leastHidden; n-- {
			if bytes.HasSuffix(raw, []byte(v[:n])) {
				raw = raw[:len(raw)-n]
				break
			}
		}
	}
	return raw
}

// result hides credentials in an error's text, which may quote the receiver.
func (c *conceal) result(r *Result) {
	e, ok := errors.AsType[*Error](r.Err)
	if c == nil || !ok {
		return
	}
	for _, v := range c.values {
		e.text = strings.ReplaceAll(e.text, v, hidden)
	}
	e.text = string(c.bytes([]byte(e.text), strings.HasSuffix(e.text, "...")))
}

func basicCredentials(a *subscriptions.Auth) string {
	return base64.StdEncoding.EncodeToString([]byte(a.Username + ":" + a.Password))
}

// authorization is the header of a subscription whose credentials do not change; empty for any other.
func authorization(a *subscriptions.Auth) string {
	switch {
	case a == nil:
		return ""
	case a.Type == subscriptions.AuthBasic:
		return "Basic " + basicCredentials(a)
	case a.Type == subscriptions.AuthBearer:
		return "Bearer " + a.Token
	}
	return ""
}
