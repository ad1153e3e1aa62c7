package vendors_test

import (
	"encoding/json"
	"net/http"
	"strings"
	"testing"

	"github.com/google/uuid"
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

// Attributes come back as they were sent; only contact_updated matches by them.
func TestLeatsAttributes(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	_, key := h.key("acme", allScopes)
	const path = "/api/webhook-subscriptions"
	properties := func(what, body string) (id uuid.UUID, list string) {
		t.Helper()
		var shown struct {
			Data struct {
				UUID       uuid.UUID
				Properties json.RawMessage
			}
		}
		h.call(key, what, body).decode(t, http.StatusOK, &shown)
		return shown.Data.UUID, string(shown.Data.Properties)
	}
	for _, eventType := range []string{"contact_updated", "voucher_created"} {
		id, _ := properties("POST "+path, `{"name":"a","event_type":"`+eventType+`","url":"https://example.com/","attributes":["earlier"]}`)
		h.call(key, "PATCH /v1/subscriptions/"+id.String(), `{"metadata":{"theirs":"1"}}`).decode(t, http.StatusOK, nil)
		lists := []string{`["email"]`, `["a,b","\"c\""]`}
		if eventType != "contact_updated" { // which has to have some
			lists = append(lists, `["a",""]`, `[]`, `["email"]`)
		}
		for _, list := range lists {
			if _, got := properties("PUT "+path+"/"+id.String(), `{"attributes":`+list+`}`); got != list {
				t.Errorf("%s: got %s, want %s", eventType, got, list)
			}
			s := must(h.store.Get(t.Context(), "acme", id))(t)
			if s.Metadata["theirs"] != "1" || (len(s.Changed) > 0) != (eventType == "contact_updated") {
				t.Errorf("%s with %s: matches by %q, its metadata is %v", eventType, list, s.Changed, s.Metadata)
			}
		}
		s := must(h.store.Get(t.Context(), "acme", id))(t)
		if _, ok := s.Metadata["leat_attributes"]; !ok {
			continue
		}
		s.Metadata["leat_attributes"] = "no JSON"
		if err := h.store.Update(t.Context(), s); err != nil {
			t.Fatal(err)
		}
		if _, got := properties("GET "+path+"/"+id.String(), ""); got != "[]" {
			t.Errorf("what cannot be read is shown as %s", got)
		}
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
