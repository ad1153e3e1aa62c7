package dialects

import (
	"errors"
	"net/http"
	"strings"

	"github.com/fanfarehq/fanfare/internal/access"
	"github.com/fanfarehq/fanfare/internal/api"
)

// Tokens are the token endpoints of RFC 6749 and RFC 7009 over Fanfare's keys: client_id is the key's id, client_secret
// the whole key.
type Tokens struct {
	auth *access.Grants
	// AnyNumber takes any number for a client_id: the type that a vendor's clients hold it in may have no room for a
	// key's id. The secret names the key anyway.
	AnyNumber bool
	// Passwords takes the grant password as well: the key's id as username, the key as password.
	Passwords bool
}

// Tokens are the endpoints of a vendor.
func (d Deps) Tokens() *Tokens { return &Tokens{auth: d.Auth} }

// oauthFailure is the answer of RFC 6749, section 5.2; vendors write the code beside their own shape.
func oauthFailure(status int, code, message string) *Failure {
	return &Failure{Status: status, Code: code, Message: message}
}

// Token answers the grants client_credentials and refresh_token, and password where the vendor has it.
func (t *Tokens) Token(c *Call) error {
	in, err := c.Input()
	if errors.Is(err, errMalformed) {
		return oauthFailure(http.StatusBadRequest, "invalid_request", "The body is not valid.")
	} else if err != nil {
		return err
	}
	grant, _ := in.Text("grant_type")
	var made access.Grant
	switch grant {
	case "client_credentials":
		made, err = t.exchange(c, in)
	case "refresh_token":
		text, _ := in.Text("refresh_token")
		if _, made, err = t.auth.Refresh(c.R.Context(), text); errors.Is(err, api.ErrUnauthenticated) {
			err = oauthFailure(http.StatusBadRequest, "invalid_grant", "The refresh token is not valid.")
		}
	case "password":
		if !t.Passwords {
			err = oauthFailure(http.StatusBadRequest, "unsupported_grant_type", "The grant_type is not supported.")
			break
		}
		made, err = t.exchange(c, Input{"client_id": in["username"], "client_secret": in["password"]})
	case "":
		err = oauthFailure(http.StatusBadRequest, "invalid_request", "grant_type is missing.")
	default:
		err = oauthFailure(http.StatusBadRequest, "unsupported_grant_type", "The grant_type is not supported.")
	}
	if err != nil {
		return err
	}
	Reply(c.W, http.StatusOK, "application/json", struct {
		TokenType    string `json:"token_type"`
		ExpiresIn    int    `json:"expires_in"`
		AccessToken  string `json:"access_token"`
		RefreshToken string `json:"refresh_token"`
	}{"Bearer", int(made.ExpiresIn.Seconds()), made.AccessToken, made.RefreshToken})
	return nil
}

// exchange makes tokens for the client that the body or Basic authentication names.
func (t *Tokens) exchange(c *Call, in Input) (access.Grant, error) {
	id, _ := in.Text("client_id")
	secret, _ := in.Text("client_secret")
	if user, password, ok := c.R.BasicAuth(); ok && secret == "" {
		id, secret = user, password
	}
	if secret == "" {
		return access.Grant{}, oauthFailure(http.StatusBadRequest, "invalid_request", "client_id and client_secret are needed.")
	}
	caller, made, err := t.auth.Exchange(c.R.Context(), secret)
	number := t.AnyNumber && id != "" && strings.Trim(id, "0123456789") == ""
	if errors.Is(err, api.ErrUnauthenticated) || err == nil && caller.KeyID != id && !number {
		return access.Grant{}, oauthFailure(http.StatusUnauthorized, "invalid_client", "Client authentication failed.")
	}
	return made, err
}

// Revoke ends a token. What is none is no error, as RFC 7009 has it.
func (t *Tokens) Revoke(c *Call) error {
	in, err := c.Input()
	if errors.Is(err, errMalformed) {
		return oauthFailure(http.StatusBadRequest, "invalid_request", "The body is not valid.")
	} else if err != nil {
		return err
	}
	text, _ := in.Text("token")
	if err := t.auth.Revoke(c.R.Context(), text); err != nil {
		return err
	}
	c.W.WriteHeader(http.StatusOK)
	return nil
}
