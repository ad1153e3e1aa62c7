package subscriptions

import (
	"encoding/json"
	"time"

	"github.com/danielgtaylor/huma/v2"
)

// newAuth is Auth as it is given.
type newAuth struct {
	_            struct{} `nullable:"true"`
	Type         AuthType `json:"type" enum:"basic,bearer,oauth2" doc:"basic: user name and password. bearer: a token. oauth2: a token from a token endpoint by the client credentials grant, kept until shortly before it expires, and asked for anew when the receiver answers 401."`
	Username     string   `json:"username,omitempty" doc:"Of basic: up to 256 bytes, without a colon."`
	Password     string   `json:"password,omitempty" writeOnly:"true" doc:"Of basic: up to 1024 bytes. Never shown."`
	Token        string   `json:"token,omitempty" writeOnly:"true" doc:"Of bearer: up to 4096 visible ASCII characters. Never shown."`
	TokenURL     string   `json:"token_url,omitempty" doc:"Of oauth2: where tokens are asked for; judged as url is."`
	ClientID     string   `json:"client_id,omitempty" doc:"Of oauth2: up to 256 printable ASCII characters."`
	ClientSecret string   `json:"client_secret,omitempty" writeOnly:"true" doc:"Of oauth2: up to 1024 printable ASCII characters. Never shown."`
	Scopes       []string `json:"scopes,omitempty" maxItems:"50" doc:"Of oauth2: what the token is asked for, up to 50."`
}

// TransformSchema gives an example of one type, where those of the fields would make a mixture of all.
func (newAuth) TransformSchema(_ huma.Registry, s *huma.Schema) *huma.Schema {
	s.Examples = []any{map[string]any{"type": "basic", "username": "fanfare", "password": "a long password"}}
	return s
}

// authJSON is Auth as it is shown.
type authJSON struct {
	_        struct{} `nullable:"true"`
	Type     AuthType `json:"type" enum:"basic,bearer,oauth2" example:"basic"`
	Username string   `json:"username,omitempty" example:"fanfare"`
	TokenURL string   `json:"token_url,omitempty" example:"https://login.example.com/oauth2/token"`
	ClientID string   `json:"client_id,omitempty" example:"fanfare"`
	Scopes   []string `json:"scopes,omitempty" example:"[\"hooks.write\"]"`
}

// newCertificate is a ClientCertificate as it is given.
type newCertificate struct {
	_           struct{} `nullable:"true"`
	Certificate string   `json:"certificate" doc:"PEM: the certificate, then those that lead from it to an authority; up to 10. RSA of 2048 to 4096 bits, ECDSA or Ed25519."`
	Key         string   `json:"key" writeOnly:"true" doc:"PEM: its private key, not encrypted. Never shown."`
}

// certificateJSON is a ClientCertificate as it is shown.
type certificateJSON struct {
	_           struct{}  `nullable:"true"`
	Subject     string    `json:"subject" example:"CN=fanfare,O=Example"`
	Fingerprint string    `json:"fingerprint" doc:"The certificate's SHA-256 in hexadecimal." example:"9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"`
	ExpiresAt   time.Time `json:"expires_at" doc:"From then on receivers refuse it; deliveries are retried, with reason tls."`
}

func (in *newAuth) auth() *Auth {
	if in == nil {
		return nil
	}
	return &Auth{
		Type: in.Type, Username: in.Username, Password: in.Password, Token: in.Token,
		TokenURL: in.TokenURL, ClientID: in.ClientID, ClientSecret: in.ClientSecret, Scopes: distinct(in.Scopes),
	}
}

// newAuthOf is what a patch is merged into, secrets included; nobody sees it.
func newAuthOf(a *Auth) *newAuth {
	if a == nil {
		return nil
	}
	return &newAuth{
		Type: a.Type, Username: a.Username, Password: a.Password, Token: a.Token,
		TokenURL: a.TokenURL, ClientID: a.ClientID, ClientSecret: a.ClientSecret, Scopes: a.Scopes,
	}
}

func presentAuth(a *Auth) *authJSON {
	if a == nil {
		return nil
	}
	return &authJSON{Type: a.Type, Username: a.Username, TokenURL: a.TokenURL, ClientID: a.ClientID, Scopes: a.Scopes}
}

// auth is what is shown of an Auth.
func (shown *authJSON) auth() *Auth {
	if shown == nil {
		return nil
	}
	return &Auth{Type: shown.Type, Username: shown.Username, TokenURL: shown.TokenURL, ClientID: shown.ClientID, Scopes: shown.Scopes}
}

func (in *newCertificate) certificate() *ClientCertificate {
	if in == nil {
		return nil
	}
	return &ClientCertificate{Certificate: in.Certificate, Key: in.Key}
}

func newCertificateOf(c *ClientCertificate) *newCertificate {
	if c == nil {
		return nil
	}
	return &newCertificate{Certificate: c.Certificate, Key: c.Key}
}

func presentCertificate(c *ClientCertificate) *certificateJSON {
	if c == nil {
		return nil
	}
	leaf := c.leaf()
	if leaf == nil {
		return &certificateJSON{}
	}
	return &certificateJSON{Subject: leaf.Subject.String(), Fingerprint: fingerprint(leaf), ExpiresAt: leaf.NotAfter.UTC()}
}

// otherAuth says whether a patch of auth asks for another type than there is. Nothing of the old one is then merged with the new
// one: what the caller cannot see he cannot clear.
func otherAuth(patch json.RawMessage, before *Auth) bool {
	var next struct {
		Type *AuthType `json:"type"`
	}
	return before != nil && json.Unmarshal(patch, &next) == nil && next.Type != nil && *next.Type != before.Type
}
