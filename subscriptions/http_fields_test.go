package subscriptions_test

import (
	"encoding/json"
	"fmt"
	"reflect"
	"slices"
	"testing"
)

// Each field: what it may be on create and on patch, how it is shown, and that null clears it.
func TestFields(t *testing.T) {
	t.Parallel()
	s := serve(t)
	tests := []struct{ field, value, cleared string }{
		{"description", `"d"`, `""`},
		{"resource_id", `"123"`, `null`},
		{"changed", `["status","a,b"]`, `[]`},
		{"filter", `"event.data.total > 1"`, `null`},
		{"headers", `{"X-A":"1"}`, `{}`},
		{"payload_format", `"raw"`, `"standard"`},
		{"content_type", `"application/vnd.acme+json; charset=utf-8"`, `null`},
		{"retry", `{"schedule":["1ms","7d"],"max_retries":0}`, `{"schedule":["5s","5m","30m","2h","5h","10h","14h","20h","24h"],"max_retries":9}`},
		{"timeout", `"1s"`, `"15s"`},
		{"max_in_flight", `1000`, `32`},
		{"rate_limit", `{"limit":100,"per":"1s"}`, `null`},
		{"ordering", `{"key":"event.data.order","on_dead":"stop"}`, `null`},
		{"status", `"paused"`, `"active"`},
		{"metadata", `{"a":"1"}`, `{}`},
	}
	same := func(shown any, text string) bool {
		var want any
		if err := json.Unmarshal([]byte(text), &want); err != nil {
			t.Fatal(err)
		}
		return reflect.DeepEqual(shown, want)
	}
	patched, _ := s.post(t, "acme", least)
	for _, tt := range tests {
		id, made := s.post(t, "acme", with(tt.field, tt.value))
		if !same(made.body[tt.field], tt.value) {
			t.Errorf("create with %s: shown as %v", tt.field, made.body[tt.field])
		}
		for what, want := range map[string]string{"GET": tt.value, `{"` + tt.field + `":null}`: tt.cleared} {
			got := s.want(t, 200, "acme GET /v1/subscriptions/"+id, "")
			if what != "GET" {
				got = s.want(t, 200, "acme PATCH /v1/subscriptions/"+id, what, "Content-Type", "application/merge-patch+json")
			}
			if !same(got.body[tt.field], want) && !(what == "GET" && same(got.body[tt.field], tt.cleared)) {
				t.Errorf("%s %s: shown as %v, want %s", tt.field, what, got.body[tt.field], want)
			}
		}
		before := s.want(t, 200, "acme GET /v1/subscriptions/"+patched, "")
		after := s.want(t, 200, "acme PATCH /v1/subscriptions/"+patched, `{"`+tt.field+`":`+tt.value+`}`)
		if !same(after.body[tt.field], tt.value) {
			t.Errorf("patch %s: shown as %v", tt.field, after.body[tt.field])
		}
		for field := range after.body {
			if field != tt.field && field != "updated_at" && !reflect.DeepEqual(before.body[field], after.body[field]) {
				t.Errorf("patch of %s changes %s: %v -> %v", tt.field, field, before.body[field], after.body[field])
			}
		}
		if before.header.Get("ETag") == after.header.Get("ETag") {
			t.Errorf("patch of %s leaves the ETag", tt.field)
		}
		// On create, null is what is left out.
		_, made = s.post(t, "acme", with(tt.field, "null"))
		if tt.field != "description" && tt.field != "payload_format" && tt.field != "status" && !same(made.body[tt.field], tt.cleared) {
			t.Errorf("create with %s null: shown as %v", tt.field, made.body[tt.field])
		}
	}
}

func TestPatchMerges(t *testing.T) {
	t.Parallel()
	s := serve(t)
	id, _ := s.post(t, "acme", with("headers", `{"X-A":"1","X-B":"2"},"retry":{"max_retries":3},"metadata":{"a":"1"}`))
	r := s.want(t, 200, "acme PATCH /v1/subscriptions/"+id,
		`{"name":"m","url":"https://example.org/x","event_types":["b.*"],"headers":{"X-A":null,"X-C":"3"},"retry":{"schedule":["1s"]}}`)
	want := map[string]any{
		"name": "m", "url": "https://example.org/x", "event_types": []any{"b.*"}, "headers": map[string]any{"X-B": "2", "X-C": "3"},
		"retry": map[string]any{"schedule": []any{"1s"}, "max_retries": 3.0}, "metadata": map[string]any{"a": "1"},
	}
	for field, value := range want {
		if !reflect.DeepEqual(r.body[field], value) {
			t.Errorf("%s: got %v, want %v", field, r.body[field], value)
		}
	}
	// Mass assignment: what is not the caller's to set is refused, not passed over.
	for _, field := range []string{"id", "number", "tenant", "dialect", "version", "secret", "signing", "disabled_reason", "created_at", "updated_at",
		"scopes", "revision", "deleted", "tenant_id", "nonsense"} {
		r := s.want(t, 422, "acme PATCH /v1/subscriptions/"+id, `{"`+field+`":"x"}`)
		if r.locations() != "body."+field {
			t.Errorf("patch of %s: got %s", field, r.text)
		}
		if slices.Contains([]string{"tenant", "secret", "signing"}, field) {
			continue
		}
		if r := s.want(t, 422, "acme POST /v1/subscriptions", with(field, `"x"`)); r.locations() != "body."+field {
			t.Errorf("create with %s: got %s", field, r.text)
		}
	}
	for patch, location := range map[string]string{
		`{"url":null}`: "body.url", `{"event_types":null}`: "body.event_types", `{"event_types":[]}`: "body.event_types",
		`{"timeout":"0s"}`: "body.timeout", `{"timeout":5}`: "body.timeout", `{"timeout":"soon"}`: "body.timeout",
		`{"retry":{"schedule":["1s","x"]}}`: "body.retry.schedule[1]", `{"retry":{"schedule":["1s","0s"]}}`: "body.retry.schedule[1]",
		`{"rate_limit":{"limit":1}}`: "body.rate_limit.per", `{"headers":{"Host":"x"}}`: "body.headers.Host", `{"filter":"1"}`: "body.filter",
		`{"ordering":{"key":"event.dta"}}`: "body.ordering.key", `{"ordering":{"key":"event.id","on_dead":"wait"}}`: "body.ordering.on_dead",
		`{"ordering":{"on_dead":"stop"}}`: "body.ordering.key", `{"status":"on"}`: "body.status", `{"payload_format":"xml"}`: "body.payload_format", `{"max_in_flight":0}`: "body.max_in_flight",
		`{"max_in_flight":99999999999}`: "body.max_in_flight", `{"metadata":{"a":1}}`: "body.metadata.a", `[]`: "body",
	} {
		if r := s.want(t, 422, "acme PATCH /v1/subscriptions/"+id, patch); r.locations() != location {
			t.Errorf("%s: got %s", patch, r.text)
		}
	}
}

func TestCreateNamesWhatIsWrong(t *testing.T) {
	t.Parallel()
	s := serve(t)
	for body, want := range map[string]string{
		`{}`:                               "body.event_types body.url",
		`{"name":"n","event_types":["a"]}`: "body.url",
		`{"name":"n","url":"http://127.0.0.1:80","event_types":["a"]}`:      "",
		`{"name":"n","url":"http://10.0.0.1","event_types":["a"]}`:          "body.url",
		`{"name":"n","url":"https://u:p@example.com","event_types":["a"]}`:  "body.url",
		`{"name":"n","url":"https://example.com","event_types":["a","**"]}`: "body.event_types[1]",
		with("secret", `"x"`):                         "body.secret",
		with("signing", `"rsa"`):                      "body.signing",
		with("filter", `"event.datum == 1"`):          "body.filter",
		with("retry", `{"max_retries":101}`):          "body.retry.max_retries",
		with("rate_limit", `{"limit":1,"per":"10m"}`): "body.rate_limit",
		with("tenant", `"globex"`):                    "403",
		`{"name":"n`:                                  "400",
	} {
		r := s.call(t, "acme POST /v1/subscriptions", body)
		switch want {
		case "":
			if r.status != 201 {
				t.Errorf("%s: %d %s", body, r.status, r.text)
			}
		case "400", "403":
			if fmt.Sprint(r.status) != want {
				t.Errorf("%s: %d %s", body, r.status, r.text)
			}
		default:
			if r.status != 422 || r.locations() != want {
				t.Errorf("%s: %d %s, want %s", body, r.status, r.text, want)
			}
		}
	}
}
