package webhook

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"golang.org/x/oauth2"
	"golang.org/x/oauth2/clientcredentials"

	"github.com/fanfarehq/fanfare/deliver/outcome"
	"github.com/fanfarehq/fanfare/internal/egress"
	"github.com/fanfarehq/fanfare/subscriptions"
)

// Bounds of a token endpoint's answer, in bytes.
const (
	maxTokenResponse = 64 << 10
	maxAccessToken   = 16 << 10 // what receivers take as a header
)

// tokenError says that no token was to be had. Its text is fit for tenants and holds nothing that the endpoint sent, which
// could be the secret.
type tokenError struct {
	host   string
	reason outcome.Reason
	text   string
}

func (e *tokenError) Error() string { return "token endpoint: " + e.text }

// tokenEndpoint asks for tokens by OAuth 2.0's client credentials grant.
type tokenEndpoint struct {
	client *http.Client
	config clientcredentials.Config
	host   string
	// style is how the endpoint takes the client's credentials, an oauth2.AuthStyle: in a header, as the standard
	// demands of all of them, until it has refused that and taken them in the body.
	style atomic.Int32
}

// newTokenEndpoint asks through transport, which is guarded, and bounds the answer.
func newTokenEndpoint(guarded *http.Client, a *subscriptions.Auth) (*tokenEndpoint, error) {
	u, err := url.Parse(a.TokenURL)
	if err != nil || u.Host == "" {
		return nil, errors.New("the token URL cannot be requested")
	}
	client := *guarded
	client.Transport = boundedAnswers{guarded.Transport}
	e := &tokenEndpoint{
		client: &client,
		config: clientcredentials.Config{
			ClientID: a.ClientID, ClientSecret: a.ClientSecret, TokenURL: a.TokenURL, Scopes: a.Scopes,
		},
		host: u.Hostname(),
	}
	e.style.Store(int32(oauth2.AuthStyleInHeader))
	return e, nil
}

// fetch asks for a token, once more in the other style if the endpoint does not know the client. Its error is a *tokenError.
func (e *tokenEndpoint) fetch(ctx context.Context) (value string, life time.Duration, err error) {
	style := oauth2.AuthStyle(e.style.Load())
	token, err := e.ask(ctx, style)
	if refused, ok := errors.AsType[*oauth2.RetrieveError](err); ok && knowsNobody(refused) {
		other := oauth2.AuthStyleInParams
		if style == other {
			other = oauth2.AuthStyleInHeader
		}
		if again, err := e.ask(ctx, other); err == nil {
			e.style.Store(int32(other))
			return e.judge(again)
		}
	}
	if err != nil {
		return "", 0, e.failed(ctx, err)
	}
	return e.judge(token)
}

// knowsNobody says whether the endpoint may have missed the client's credentials.
func knowsNobody(refused *oauth2.RetrieveError) bool {
	return refused.Response.StatusCode == http.StatusUnauthorized || refused.Response.StatusCode == http.StatusBadRequest
}

func (e *tokenEndpoint) ask(ctx context.Context, style oauth2.AuthStyle) (*oauth2.Token, error) {
	config := clientcredentials.Config{
		ClientID: e.config.ClientID, ClientSecret: e.config.ClientSecret, TokenURL: e.config.TokenURL, Scopes: e.config.Scopes, AuthStyle: style,
	}
	return config.Token(context.WithValue(ctx, oauth2.HTTPClient, e.client))
}

// judge takes what a token endpoint gave.
func (e *tokenEndpoint) judge(token *oauth2.Token) (value string, life time.Duration, err error) {
	bad := ""
	switch kind := strings.ToLower(token.TokenType); {
	case kind != "" && !strings.HasPrefix(kind, "bearer"):
		bad = "the token is no bearer token"
	case len(token.AccessToken) > maxAccessToken:
		bad = fmt.Sprintf("the token is longer than %d bytes", maxAccessToken)
	case strings.ContainsFunc(token.AccessToken, func(r rune) bool { return r <= ' ' || r > '~' }):
		bad = "the token cannot be sent in a header"
	}
	if bad != "" {
		return "", 0, &tokenError{host: e.host, reason: outcome.ReasonProtocol, text: bad}
	}
	if !token.Expiry.IsZero() {
		life = max(time.Until(token.Expiry), shortestToken)
	}
	return token.AccessToken, life, nil
}

// failed puts into words why there is no token.
func (e *tokenEndpoint) failed(ctx context.Context, err error) error {
	out := &tokenError{host: e.host}
	refused, isRefusal := errors.AsType[*oauth2.RetrieveError](err)
	requested, isRequest := errors.AsType[*url.Error](err)
	switch {
	case isRefusal:
		out.reason, out.text = judgeRefusal(refused)
	case isRequest && ctx.Err() != nil:
		out.reason, out.text = outcome.ReasonTimeout, errTimeout.Error()
	case isRequest && errors.Is(err, errTokenResponse):
		out.reason, out.text = outcome.ReasonProtocol, errTokenResponse.Error()
	case isRequest:
		out.reason, out.text = classify(requested.Err), egress.Describe(requested.Err)
	default:
		out.reason, out.text = outcome.ReasonProtocol, "the answer holds no token"
	}
	return out
}

// judgeRefusal says what a status other than 2xx means. An endpoint that is gone is no receiver that is gone, so 410 is one
// of many.
func judgeRefusal(refused *oauth2.RetrieveError) (outcome.Reason, string) {
	status := refused.Response.StatusCode
	text := fmt.Sprintf("status %d", status)
	if slices.Contains(tokenErrors[:], refused.ErrorCode) {
		text += " (" + refused.ErrorCode + ")"
	}
	switch {
	case status >= 200 && status < 300: // some answer errors with 200
		return outcome.ReasonClient, text
	case status >= 300 && status < 400:
		return outcome.ReasonRedirect, text + ": a redirect is not followed"
	case status >= 400 && status < 500:
		return outcome.ReasonClient, text
	case status >= 500 && status < 600:
		return outcome.ReasonServer, text
	}
	return outcome.ReasonProtocol, text + " is no answer"
}

// tokenErrors are those of RFC 6749. Any other could be anything.
var tokenErrors = [...]string{
	"invalid_request", "invalid_client", "invalid_grant", "unauthorized_client", "unsupported_grant_type", "invalid_scope",
}

var errTokenResponse = fmt.Errorf("the answer is larger than %d bytes", maxTokenResponse)

// boundedAnswers reads answers to their end, so that what goes wrong keeps its type, which the oauth2 package would lose.
type boundedAnswers struct{ next http.RoundTripper }

// RoundTrip implements http.RoundTripper.
func (b boundedAnswers) RoundTrip(req *http.Request) (*http.Response, error) {
	req.Header.Set("User-Agent", UserAgent)
	req.Header.Set("Accept", "application/json")
	resp, err := b.next.RoundTrip(req)
	if err != nil {
		return nil, err
	}
	if resp.StatusCode < 200 { // 101: there is no body but the bare connection
		return nil, errors.Join(fmt.Errorf("status %d is no answer", resp.StatusCode), resp.Body.Close())
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxTokenResponse+1))
	if err != nil {
		return nil, err
	}
	if len(body) > maxTokenResponse {
		return nil, errTokenResponse
	}
	resp.Body = io.NopCloser(bytes.NewReader(body))
	return resp, nil
}
