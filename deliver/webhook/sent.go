package webhook

import (
	"fmt"
	"net/http"

	"github.com/fanfarehq/fanfare/internal/event"
	"github.com/fanfarehq/fanfare/subscriptions"
)

// Requests shows requests that were sent, as they were. It sends nothing.
type Requests struct{ formats map[string]*Format }

// NewRequests makes Requests; formats are those of the Poster.
func NewRequests(formats []Format) *Requests { return &Requests{byName(formats)} }

func byName(formats []Format) map[string]*Format {
	named := make(map[string]*Format, len(formats))
	for i := range formats {
		named[formats[i].Name] = &formats[i]
	}
	return named
}

// plan is what the headers of a subscription's requests are made of. The signer has a secret that nobody else knows.
func (r *Requests) plan(sub subscriptions.Sent) (*plan, error) {
	format, ok := r.formats[sub.PayloadFormat]
	if !ok {
		return nil, fmt.Errorf("no payload format %q", sub.PayloadFormat)
	}
	header, err := fixedHeaders(sub.Subscription, format)
	if err != nil {
		return nil, err
	}
	var secrets []subscriptions.Secret
	if sub.Signed {
		secrets = []subscriptions.Secret{subscriptions.NewSecret(sub.Signing)}
	}
	signer, err := format.Signer(secrets)
	if err != nil {
		return nil, fmt.Errorf("prepare signature: %w", err)
	}
	return &plan{subscription: sub.Subscription, header: header, format: format, signer: signer}, nil
}

// NeedsEvent reports whether the headers depend on the event's content type.
func (r *Requests) NeedsEvent(sub subscriptions.Sent) bool {
	format, ok := r.formats[sub.PayloadFormat]
	return ok && format.Published && sub.ContentType == ""
}

// Headers returns the headers of a request, of which only the body is not needed: what authenticates it is masked, signatures
// included. Headers of the connection and of traces are left out.
func (r *Requests) Headers(sub subscriptions.Sent, m Message) (map[string]string, error) {
	// What differs between two secrets comes of the secret.
	one, err := r.headers(sub, m)
	if err != nil {
		return nil, err
	}
	two, err := r.headers(sub, m)
	if err != nil {
		return nil, err
	}
	shown := make(map[string]string, len(one)+1)
	for name := range one {
		if shown[name] = one.Get(name); shown[name] != two.Get(name) {
			shown[name] = subscriptions.Mask
		}
	}
	if sub.Auth != nil {
		shown["Authorization"] = subscriptions.Mask
	}
	return shown, nil
}

func (r *Requests) headers(sub subscriptions.Sent, m Message) (http.Header, error) {
	p, err := r.plan(sub)
	if err != nil {
		return nil, err
	}
	own, err := p.ownHeaders(m)
	if err != nil {
		return nil, err
	}
	return p.headers(own), nil
}

// Body returns the bytes of a request, and their content type.
func (r *Requests) Body(sub subscriptions.Sent, e *event.Event) (body []byte, contentType string, err error) {
	p, err := r.plan(sub)
	if err != nil {
		return nil, "", err
	}
	if body, err = p.format.Body(e); err != nil {
		return nil, "", fmt.Errorf("render %s: %w", p.format.Name, err)
	}
	own, err := p.ownHeaders(Message{Event: e, Body: body})
	if err != nil {
		return nil, "", err
	}
	return body, p.headers(own).Get("Content-Type"), nil
}
