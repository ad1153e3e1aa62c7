package vendors_test

import (
	"net/http"
	"strings"
	"testing"
)

// Leat's clients send fields as JSON, as either kind of form, or in the query.
func TestLeatTakesFieldsFromFormsAndTheQuery(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	_, key := h.key("acme", allScopes)
	part := func(name, value string) string {
		return "--b\r\nContent-Disposition: form-data; name=\"" + name + "\"\r\n\r\n" + value + "\r\n"
	}
	fields := part("name", "multi") + part("event_type", "contact_updated") + part("url", "https://example.com/") + part("attributes[]", "email") + "--b--\r\n"
	const path = "POST /api/webhook-subscriptions"
	a := h.call(key, path, fields, "Content-Type", "multipart/form-data; boundary=b")
	if a.status != http.StatusOK || !strings.Contains(a.body, `"name":"multi"`) || !strings.Contains(a.body, `"properties":["email"]`) {
		t.Errorf("multipart: %d %s", a.status, a.body)
	}
	a = h.call(key, path+"?name=query&event_type=contact_updated&url=https%3A%2F%2Fexample.com%2F&attributes[]=email", "")
	if a.status != http.StatusOK || !strings.Contains(a.body, `"name":"query"`) {
		t.Errorf("query: %d %s", a.status, a.body)
	}
	a = h.call(key, path+"?name=query&event_type=contact_updated&attributes[]=email", `{"name":"body","url":"https://example.com/"}`)
	if a.status != http.StatusOK || !strings.Contains(a.body, `"name":"body"`) {
		t.Errorf("both: %d %s", a.status, a.body)
	}
	if a := h.call(key, path, "--c\r\nbroken", "Content-Type", "multipart/form-data; boundary=b"); a.status < 400 || a.status >= 500 {
		t.Errorf("a broken one: %d %s", a.status, a.body)
	}
}

// Kajabi's token endpoint takes a user's name and password, for which the key's id and the key stand.
func TestKajabiTakesANameAndAPassword(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	id, key := h.key("acme", allScopes)
	ask := func(password string) answer {
		return h.call("", "POST /v1/oauth/token", "grant_type=password&client_id=app&username="+id+"&password="+password,
			"Content-Type", "application/x-www-form-urlencoded")
	}
	if a := ask(key); a.status != http.StatusOK || !strings.Contains(a.body, `"access_token"`) {
		t.Errorf("%d %s", a.status, a.body)
	}
	if a := ask("wrong"); a.status != http.StatusUnauthorized {
		t.Errorf("%d %s", a.status, a.body)
	}
}
