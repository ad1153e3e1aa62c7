package subscriptions

import (
	"maps"
	"net/url"
	"slices"
	"strings"
)

// Mask stands in the place of a value that its reader may not see.
const Mask = "***"

// Masked is a subscription as readers without write access see it: without secrets, with the values of headers and
// the parts that may be a token in its URLs masked.
func (s *Subscription) Masked() *Subscription {
	out := *s
	out.Secrets = nil
	out.URL = maskURL(s.URL)
	if out.Headers = maps.Clone(s.Headers); out.Headers != nil {
		for name := range out.Headers {
			out.Headers[name] = Mask
		}
	}
	if s.Auth != nil {
		auth := *s.Auth
		auth.TokenURL = maskURL(auth.TokenURL)
		out.Auth = &auth
	}
	return &out
}

// maskURL masks the parts of a URL that may hold a token: user and password, all values of the query, and parts of the path that
// look made rather than named. What it returns is stored in the clear; masking it again changes nothing.
func maskURL(raw string) string {
	scheme, rest, ok := strings.Cut(raw, "://")
	if !ok {
		return raw
	}
	rest, query, hasQuery := strings.Cut(rest, "?")
	host, path, hasPath := strings.Cut(rest, "/")
	if at := strings.LastIndexByte(host, '@'); at >= 0 {
		host = Mask + host[at:]
	}
	out := scheme + "://" + host
	if hasPath {
		parts := strings.Split(path, "/")
		for i, part := range parts {
			if looksMade(part) {
				parts[i] = Mask
			}
		}
		out += "/" + strings.Join(parts, "/")
	}
	if !hasQuery {
		return out
	}
	pairs := strings.Split(query, "&")
	for i, pair := range pairs {
		switch name, value, ok := strings.Cut(pair, "="); {
		case ok && value != "":
			pairs[i] = name + "=" + Mask
		case !ok && pair != "":
			pairs[i] = Mask
		}
	}
	return out + "?" + strings.Join(pairs, "&")
}

// The lengths from which a part of a path may be a token: with a digit in it, or whatever it consists of.
const (
	madeWithDigit = 16
	madeAnyway    = 32
)

func looksMade(part string) bool {
	return len(part) >= madeAnyway || len(part) >= madeWithDigit && strings.ContainsAny(part, "0123456789")
}

// validateMasks refuses masked values that a client read and sends back: they are not the stored values.
func validateMasks(s *Subscription, bad *Invalid) {
	if s.Err != nil { // Of one that does not open nothing else is known; see Update.
		return
	}
	if rest, ok := strings.CutPrefix(s.URL, "http"); ok && slices.ContainsFunc(strings.FieldsFunc(rest, isURLMark), isMask) {
		bad.addf("url", "holds masked parts; give it in full")
	}
	for name, value := range s.Headers {
		if value == Mask {
			bad.addf("headers."+name, "is masked; give its value")
		}
	}
}

func isURLMark(r rune) bool { return strings.ContainsRune("/?&=@", r) }

func isMask(part string) bool { return part == Mask }

// credentialHeaders belong into auth, where they are never shown again.
var credentialHeaders = []string{"Authorization", "Proxy-Authorization", "Cookie"}

// refuseCredentials refuses headers that were not there before and carry credentials for which there is auth. Dialects whose
// vendor documents such headers do not ask this.
func refuseCredentials(before, after *Subscription) error {
	bad := &Invalid{}
	for name := range after.Headers {
		if isCredential(name) && before.Headers[name] == "" {
			bad.addf("headers."+name, "cannot be set as a header; use auth")
		}
	}
	return bad.orNil()
}

func isCredential(name string) bool {
	return slices.ContainsFunc(credentialHeaders, func(c string) bool { return strings.EqualFold(c, name) })
}

// isSecretHeader says whether a header's name promises a credential.
func isSecretHeader(name string) bool {
	name = strings.ToLower(name)
	return slices.ContainsFunc([]string{"auth", "token", "key", "secret", "cookie", "password", "credential", "signature"}, func(word string) bool {
		return strings.Contains(name, word)
	})
}

// MasksHeader says whether the value of a header of this name may be a credential. What asks for credentials is none.
func MasksHeader(name string) bool {
	return isSecretHeader(name) && !strings.HasSuffix(strings.ToLower(name), "-authenticate")
}

// origin is the scheme, host and port of a URL. What cannot be read is an origin of its own.
func origin(raw string) string {
	u, err := url.Parse(raw)
	if err != nil {
		return raw
	}
	port := u.Port()
	if port == "" && u.Scheme == "http" {
		port = "80"
	} else if port == "" {
		port = "443"
	}
	return strings.ToLower(u.Scheme + "://" + u.Hostname() + ":" + port)
}

// DropCredentials takes the credentials that were kept for another origin off a subscription that was given a new URL, as
// far as the same change does not give others: nobody may send them elsewhere without knowing them.
func DropCredentials(before, after *Subscription) {
	if origin(before.URL) == origin(after.URL) {
		return
	}
	if after.Auth == before.Auth {
		after.Auth = nil
	}
	if after.Certificate == before.Certificate {
		after.Certificate = nil
	}
	after.Headers = withoutSecrets(before.Headers, after.Headers)
}

// withoutSecrets leaves out headers with credentials that are as they were.
func withoutSecrets(before, after map[string]string) map[string]string {
	kept := maps.Clone(after)
	maps.DeleteFunc(kept, func(name, value string) bool { return isSecretHeader(name) && before[name] == value })
	return kept
}
