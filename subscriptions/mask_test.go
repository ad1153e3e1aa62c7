package subscriptions_test

import (
	"maps"
	"strings"
	"testing"

	"github.com/google/uuid"

	"github.com/fanfarehq/fanfare/subscriptions"
)

func TestMaskURL(t *testing.T) {
	t.Parallel()
	for raw, want := range map[string]string{
		"https://example.com/hooks":                                   "https://example.com/hooks",
		"https://example.com":                                         "https://example.com",
		"https://example.com:8443/hooks/?a=b&c&d=":                    "https://example.com:8443/hooks/?a=***&***&d=",
		"https://example.com/s/T0001/B0002/abcdefghijklmnop12345678":  "https://example.com/s/T0001/B0002/***",
		"https://example.com/0198c0de-7a3c-7000-8000-5f1e2d3c4b5a/in": "https://example.com/***/in",
		"https://me:secret@example.com/":                              "https://***@example.com/",
	} {
		once := (&subscriptions.Subscription{URL: raw}).Masked()
		if twice := once.Masked(); once.URL != want || twice.URL != want {
			t.Errorf("%s: got %s, masked again %s, want %s", raw, once.URL, twice.URL, want)
		}
	}
}

const withTokens = `{"name":"x","url":"https://example.com/hooks?token=tok-sesame","event_types":["a"],"headers":{"X-Api-Key":"key-sesame","X-Env":"env-sesame"}}`

// Headers and tokens in URLs are sealed in the database, and shown to those who may change them alone.
func TestHeadersAndTokensAreSealedAndMasked(t *testing.T) {
	t.Parallel()
	s := serve(t)
	id, _ := s.post(t, "acme", withTokens)
	path := "/v1/subscriptions/" + id
	stored := func() (url, headers, all string) {
		t.Helper()
		if err := s.db.QueryRow(`SELECT url, headers::text, s::text FROM subscriptions s WHERE id = $1`, id).Scan(&url, &headers, &all); err != nil {
			t.Fatal(err)
		}
		return url, headers, all
	}
	if url, headers, all := stored(); url != "https://example.com/hooks?token=***" || headers != "{}" || strings.Contains(all, "sesame") {
		t.Errorf("stored is %s", all)
	}
	shows := func(who string, secrets bool) {
		t.Helper()
		for _, get := range []string{path, "/v1/subscriptions"} {
			if r := s.want(t, 200, who+" GET "+get, ""); strings.Count(r.text, "sesame") != map[bool]int{true: 3}[secrets] || !strings.Contains(r.text, "X-Api-Key") {
				t.Errorf("%s is shown %s", who, r.text)
			}
		}
	}
	shows("acme", true)
	shows("reader", false)
	s.want(t, 200, "acme PATCH "+path, `{"description":"changed"}`)
	shows("acme", true)
	s.fresh(t)
	known, _ := s.dir.Get(uuid.MustParse(id))
	if known.URL != "https://example.com/hooks?token=tok-sesame" || !maps.Equal(known.Headers, map[string]string{"X-Api-Key": "key-sesame", "X-Env": "env-sesame"}) {
		t.Errorf("the directory has %s %v", known.URL, known.Headers)
	}
	s.want(t, 422, "acme PATCH "+path, `{"url":"https://example.com/hooks?token=***"}`)
	s.want(t, 422, "acme PATCH "+path, `{"headers":{"X-Env":"***"}}`)

	// What an earlier version stored in the clear is read, and sealed by Rekey.
	if _, err := s.db.Exec(`UPDATE subscriptions SET url = 'https://example.com/hooks?token=old-sesame', headers = '{"X-Api-Key":"old-sesame","X-Env":"old-sesame"}', secrets = ''
		WHERE id = $1`, id); err != nil {
		t.Fatal(err)
	}
	shows("acme", true)
	shows("reader", false)
	if done, err := s.store.Rekey(t.Context(), nil); err != nil || done != 1 {
		t.Errorf("sealed %d rows, %v", done, err)
	}
	if _, _, all := stored(); strings.Contains(all, "sesame") {
		t.Errorf("stored is %s", all)
	}
	shows("acme", true)
}

// Credentials belong into auth, and another origin gets none that the caller does not know.
func TestCredentialsStayWithTheirOrigin(t *testing.T) {
	t.Parallel()
	s := serve(t)
	for _, name := range []string{"Authorization", "cookie", "Proxy-Authorization"} {
		s.want(t, 422, "acme POST /v1/subscriptions", strings.Replace(withTokens, "X-Api-Key", name, 1))
	}
	id, _ := s.post(t, "acme", strings.Replace(withTokens, `{"name"`, `{"auth":{"type":"bearer","token":"tok"},"name"`, 1))
	path := "acme PATCH /v1/subscriptions/" + id
	for _, url := range []string{"https://evil.example.com/", "http://example.com/hooks", "https://example.com:444/hooks"} {
		r := s.want(t, 422, path, `{"url":"`+url+`"}`)
		if got := r.locations(); !strings.Contains(got, "body.auth") || !strings.Contains(got, "body.headers") {
			t.Errorf("%s: %s", url, r.text)
		}
		s.want(t, 422, path, `{"url":"`+url+`","headers":{},"auth":{"type":"bearer"}}`)
	}
	s.want(t, 200, path, `{"url":"https://EXAMPLE.com:443/other"}`)
	r := s.want(t, 200, path, `{"url":"https://other.example.com/","auth":{"type":"bearer","token":"new"},"headers":{"X-Env":"new"}}`)
	if strings.Contains(r.text, "key-sesame") || !strings.Contains(r.text, `"X-Env":"new"`) {
		t.Errorf("the new origin gets %s", r.text)
	}
	before := &subscriptions.Subscription{URL: "https://a.example.com/", Auth: &subscriptions.Auth{}, Headers: map[string]string{"X-Token": "old", "X-Env": "prod"}}
	after := *before
	after.URL = "https://b.example.com/"
	if subscriptions.DropCredentials(before, &after); after.Auth != nil || !maps.Equal(after.Headers, map[string]string{"X-Env": "prod"}) {
		t.Errorf("through a dialect the new origin gets %+v", after)
	}
}
