package subscriptions

import (
	"fmt"
	"strings"

	"github.com/fanfarehq/fanfare/internal/egress"
)

// AuthType is how the Authorization header of a subscription's requests comes about.
type AuthType string

// The types of Auth.
const (
	AuthBasic  AuthType = "basic"  // user name and password
	AuthBearer AuthType = "bearer" // a token that does not change
	AuthOAuth2 AuthType = "oauth2" // a token from a token endpoint, by OAuth 2.0's client credentials
)

// Auth is what the receiver knows the sender by, beside signatures and certificates. Which fields there are depends
// on the type. The store seals all of it.
type Auth struct {
	Type         AuthType `json:"type"`
	Username     string   `json:"username,omitempty"`
	Password     string   `json:"password,omitempty"`
	Token        string   `json:"token,omitempty"`
	TokenURL     string   `json:"token_url,omitempty"`
	ClientID     string   `json:"client_id,omitempty"`
	ClientSecret string   `json:"client_secret,omitempty"`
	Scopes       []string `json:"scopes,omitempty"`
}

// Bounds of Auth, in bytes.
const (
	maxUsername   = 256
	maxPassword   = 1024
	maxToken      = 4096
	maxClientID   = 256
	maxAuthScopes = 50
	maxAuthScope  = 256
)

// authField is one text of an Auth: which type has it, and its error.
type authField struct {
	name  string
	of    AuthType
	value string
	wrong func(string) string
}

func (a *Auth) fields() []authField {
	return []authField{
		{"username", AuthBasic, a.Username, wrongUsername},
		{"password", AuthBasic, a.Password, upTo(maxPassword, wrongText)},
		{"token", AuthBearer, a.Token, upTo(maxToken, wrongToken)},
		{"token_url", AuthOAuth2, a.TokenURL, upTo(egress.MaxURL, func(string) string { return "" })},
		{"client_id", AuthOAuth2, a.ClientID, upTo(maxClientID, wrongPrintable)},
		{"client_secret", AuthOAuth2, a.ClientSecret, upTo(maxPassword, wrongPrintable)},
	}
}

// validateAuth judges what goes into the Authorization header. No message repeats a value. It brings the token URL to the
// form that is requested.
func (s *Store) validateAuth(sub *Subscription, bad *Invalid) {
	a := sub.Auth
	if a == nil {
		return
	}
	if a.Type != AuthBasic && a.Type != AuthBearer && a.Type != AuthOAuth2 {
		bad.addf("auth.type", "must be %s, %s or %s", AuthBasic, AuthBearer, AuthOAuth2)
		return
	}
	for _, f := range a.fields() {
		switch {
		case f.of != a.Type && f.value != "":
			bad.addf("auth."+f.name, "does not belong to type %s", a.Type)
		case f.of == a.Type && f.value == "":
			bad.addf("auth."+f.name, "is required")
		case f.of == a.Type:
			if fault := f.wrong(f.value); fault != "" {
				bad.addf("auth."+f.name, "%s", fault)
			}
		}
	}
	validateAuthScopes(a, bad)
	for name := range sub.Headers {
		if strings.EqualFold(name, "Authorization") {
			bad.addf("headers."+name, "is what auth sets; give one of the two")
		}
	}
	if a.Type == AuthOAuth2 && a.TokenURL != "" {
		next := *a
		next.TokenURL = s.judgeURL(a.TokenURL, "auth.token_url", bad)
		sub.Auth = &next
	}
}

func validateAuthScopes(a *Auth, bad *Invalid) {
	switch {
	case a.Type != AuthOAuth2 && len(a.Scopes) > 0:
		bad.addf("auth.scopes", "does not belong to type %s", a.Type)
		return
	case len(a.Scopes) > maxAuthScopes:
		bad.addf("auth.scopes", "must not have more than %d entries", maxAuthScopes)
		return
	}
	for i, scope := range a.Scopes {
		// RFC 6749 lets neither quotes nor backslashes be in a scope.
		if scope == "" || len(scope) > maxAuthScope || wrongToken(scope) != "" || strings.ContainsAny(scope, `"\`) {
			bad.addf(fmt.Sprintf("auth.scopes[%d]", i), "must be 1 to %d visible ASCII characters without quotes and backslashes", maxAuthScope)
		}
	}
}

func upTo(most int, wrong func(string) string) func(string) string {
	return func(s string) string {
		if len(s) > most {
			return fmt.Sprintf("must not be longer than %d bytes", most)
		}
		return wrong(s)
	}
}

func wrongText(s string) string {
	if err := checkText(s, len(s)); err != nil {
		return err.Error()
	}
	return ""
}

func wrongUsername(s string) string {
	if strings.Contains(s, ":") { // What follows a colon is the password.
		return "must not hold a colon"
	}
	return upTo(maxUsername, wrongText)(s)
}

func wrongToken(s string) string {
	for _, c := range []byte(s) {
		if c <= ' ' || c > '~' {
			return "must consist of visible ASCII characters, without spaces"
		}
	}
	return ""
}

func wrongPrintable(s string) string {
	for _, c := range []byte(s) {
		if c < ' ' || c > '~' {
			return "must consist of printable ASCII characters"
		}
	}
	return ""
}
