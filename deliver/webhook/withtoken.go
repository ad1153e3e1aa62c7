package webhook

import (
	"context"
	"errors"
	"maps"
	"net/http"

	"github.com/fanfarehq/fanfare/deliver/outcome"
	"github.com/fanfarehq/fanfare/subscriptions"
)

// newTokens makes the source of a subscription's tokens; nil if it needs none.
func (p *Poster) newTokens(a *subscriptions.Auth) (*tokens, error) {
	if a == nil || a.Type != subscriptions.AuthOAuth2 {
		return nil, nil
	}
	endpoint, err := newTokenEndpoint(p.identities.base, a)
	if err != nil {
		return nil, err
	}
	return &tokens{host: endpoint.host, fetch: endpoint.fetch, now: p.now}, nil
}

// postWithToken makes the request with a token, and once more with a new one if the receiver answers 401: it may have
// forgotten the old one before its time. That is within the attempt, as nothing was delivered.
func (p *Poster) postWithToken(ctx context.Context, plan *plan, out *request, r *Result) (*http.Response, error) {
	token, err := plan.tokens.get(ctx)
	if err != nil {
		return nil, plan.tokens.failed(err)
	}
	resp, err := p.postWith(ctx, plan, out, r, token)
	if err != nil || resp.StatusCode != http.StatusUnauthorized {
		return resp, err
	}
	fresh, err := plan.tokens.replace(ctx, token)
	if err != nil {
		return resp, nil // The receiver's answer says more than that of the token endpoint.
	}
	if fresh == token {
		plan.tokens.refuse()
		return resp, nil
	}
	resp.Body.Close() // unread: that costs the connection, and is rare
	resp, err = p.postWith(ctx, plan, out, r, fresh)
	if err == nil && resp.StatusCode == http.StatusUnauthorized {
		plan.tokens.refuse()
	}
	return resp, err
}

// postWith makes the request with this token.
func (p *Poster) postWith(ctx context.Context, plan *plan, out *request, r *Result, token string) (*http.Response, error) {
	// A copy: the transport may still be reading that of the request before.
	out.header = maps.Clone(out.header)
	out.header["Authorization"] = []string{"Bearer " + token}
	out.conceal = out.conceal.with(token)
	return p.post(ctx, plan, out, r)
}

// failed is the error of get as a *tokenError.
func (t *tokens) failed(err error) error {
	if _, ok := errors.AsType[*tokenError](err); ok {
		return err
	}
	return &tokenError{host: t.host, reason: outcome.ReasonTimeout, text: errTimeout.Error()} // the attempt's time is over
}
