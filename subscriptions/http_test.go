package subscriptions_test

import (
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/danielgtaylor/huma/v2"
	"github.com/google/uuid"

	"github.com/fanfarehq/fanfare/subscriptions"
)

func TestPostAndRead(t *testing.T) {
	t.Parallel()
	s := serve(t)
	id, made := s.post(t, "acme", least)
	if got := made.header.Get("Location"); got != "/v1/subscriptions/"+id {
		t.Errorf("location: %s", got)
	}
	if secret, _ := made.body["secret"].(string); !isSecret(secret) || made.body["public_key"] != nil {
		t.Errorf("secret: %v, public key: %v", made.body["secret"], made.body["public_key"])
	}
	read := s.want(t, 200, "reader GET /v1/subscriptions/"+id, "")
	if read.header.Get("ETag") == "" || read.header.Get("ETag") != made.header.Get("ETag") {
		t.Errorf("etags: %q, %q", made.header.Get("ETag"), read.header.Get("ETag"))
	}
	want := map[string]any{
		"id": id, "number": made.body["number"], "tenant": "acme", "dialect": "native", "name": "n", "description": "",
		"url": "https://example.com/", "event_types": []any{"a"}, "resource_id": nil, "content_type": nil, "auth": nil, "client_certificate": nil, "changed": []any{}, "filter": nil, "headers": map[string]any{},
		"payload_format": "standard", "timeout": "15s", "max_in_flight": 32.0, "rate_limit": nil, "ordering": nil, "signing": "hmac", "status": "active",
		"retry":           map[string]any{"schedule": []any{"5s", "5m", "30m", "2h", "5h", "10h", "14h", "20h", "24h"}, "max_retries": 9.0},
		"disabled_reason": nil, "version": "V1", "metadata": map[string]any{}, "created_at": made.body["created_at"], "updated_at": made.body["created_at"],
	}
	if !reflect.DeepEqual(read.body, want) {
		t.Errorf("got  %v\nwant %v", read.body, want)
	}
	if strings.Contains(read.text, "whsec_") {
		t.Error("reading shows the secret")
	}
	list := s.want(t, 200, "reader GET /v1/subscriptions", "")
	if strings.Contains(list.text, "whsec_") || !strings.Contains(list.text, id) {
		t.Errorf("list: %s", list.text)
	}
	if got := s.want(t, 200, "acme GET /v1/subscriptions/"+id+"/secret", ""); got.body["secret"] != made.body["secret"] {
		t.Errorf("secret: %s", got.text)
	}
	s.want(t, 403, "reader GET /v1/subscriptions/"+id+"/secret", "")
	s.want(t, 403, "reader POST /v1/subscriptions", least)
	s.want(t, 403, "reader PATCH /v1/subscriptions/"+id, "{}")
	s.want(t, 403, "reader DELETE /v1/subscriptions/"+id, "")
	s.want(t, 401, "nobody GET /v1/subscriptions", "")
}

// Another tenant's id, one that does not exist and one that is none are told alike, on every operation.
func TestForeignIDsAreNotThere(t *testing.T) {
	t.Parallel()
	s := serve(t)
	id, _ := s.post(t, "acme", least)
	operations := 0
	for path, item := range s.api.OpenAPI().Paths {
		if !strings.Contains(path, "/subscriptions/{id}") {
			continue
		}
		for method, op := range map[string]*huma.Operation{"GET": item.Get, "POST": item.Post, "PATCH": item.Patch, "DELETE": item.Delete} {
			if op == nil {
				continue
			}
			operations++
			body := ""
			if op.RequestBody != nil {
				body = "{}"
			}
			var texts []string
			for _, id := range []string{id, uuid.Must(uuid.NewV7()).String(), "x", "0198c0de", strings.ToUpper(id) + "0"} {
				r := s.want(t, 404, "globex "+method+" "+strings.Replace(path, "{id}", id, 1), body)
				texts = append(texts, r.text)
			}
			if len(slices.Compact(texts)) != 1 {
				t.Errorf("%s %s: the answers differ: %v", method, path, texts)
			}
		}
	}
	if operations != 8 {
		t.Errorf("%d operations on a subscription", operations)
	}
	if got := s.want(t, 200, "globex GET /v1/subscriptions", ""); got.text != "{\"data\":[],\"next_cursor\":null}\n" {
		t.Errorf("list: %s", got.text)
	}
	s.want(t, 403, "globex GET /v1/subscriptions?tenant=acme", "")
	s.want(t, 403, "globex GET /v1/subscriptions/"+id+"?tenant=acme", "")
}

func TestAdminsNameTheTenant(t *testing.T) {
	t.Parallel()
	s := serve(t)
	s.want(t, 422, "admin POST /v1/subscriptions", least)
	r := s.want(t, 201, "admin POST /v1/subscriptions?tenant=acme", least)
	s.want(t, 201, "admin POST /v1/subscriptions", with("tenant", `"globex"`))
	id := fmt.Sprint(r.body["id"])
	s.want(t, 200, "acme GET /v1/subscriptions/"+id, "")
	s.want(t, 200, "admin GET /v1/subscriptions/"+id+"?tenant=acme", "")
	s.want(t, 404, "admin GET /v1/subscriptions/"+id+"?tenant=globex", "")
	s.want(t, 200, "admin GET /v1/subscriptions/"+id, "")
	if list := s.want(t, 200, "admin GET /v1/subscriptions", ""); len(list.body["data"].([]any)) != 2 {
		t.Errorf("all: %s", list.text)
	}
	if list := s.want(t, 200, "admin GET /v1/subscriptions?tenant=globex", ""); len(list.body["data"].([]any)) != 1 {
		t.Errorf("globex's: %s", list.text)
	}
}

func TestDialectsGuardWhatTheyFix(t *testing.T) {
	t.Parallel()
	s := serve(t)
	make1 := func(dialect string, change func(*subscriptions.Subscription)) string {
		sub := &subscriptions.Subscription{Tenant: "acme", Dialect: dialect, Name: "x", URL: "https://example.com/", EventTypes: []string{"a"},
			Metadata: map[string]string{dialect + "_site": "1"}, Scopes: []string{subscriptions.AllScopes}}
		change(sub)
		return "/v1/subscriptions/" + s.create(t, sub).ID.String()
	}
	all := []string{subscriptions.Leat, subscriptions.Kajabi, subscriptions.Passona, subscriptions.Babelfor}
	nothing := func(*subscriptions.Subscription) {}
	paths := map[string]string{
		subscriptions.Leat:   make1(subscriptions.Leat, func(s *subscriptions.Subscription) { s.Secrets = []subscriptions.Secret{{Value: "any text"}} }),
		subscriptions.Kajabi: make1(subscriptions.Kajabi, nothing),
		subscriptions.Passona: make1(subscriptions.Passona, func(s *subscriptions.Subscription) {
			s.EventTypes, s.Retry = nil, subscriptions.Retry{MaxRetries: new(0)}
		}),
		subscriptions.Babelfor: make1(subscriptions.Babelfor, func(s *subscriptions.Subscription) {
			s.Retry = subscriptions.Retry{Schedule: subscriptions.DefaultSchedule[1:2], MaxRetries: new(3)}
		}),
	}
	for _, tt := range []struct {
		patch   string
		refused []string
	}{
		{`{"event_types":["b"]}`, []string{subscriptions.Leat, subscriptions.Kajabi, subscriptions.Passona}},
		{`{"url":"https://example.org/"}`, []string{subscriptions.Kajabi}},
		{`{"resource_id":"7"}`, []string{subscriptions.Kajabi}},
		{`{"payload_format":"standard"}`, all},
		{`{"retry":{"max_retries":5}}`, []string{subscriptions.Passona}},
		{`{"retry":{"schedule":["1s"]}}`, []string{subscriptions.Passona, subscriptions.Babelfor}},
		{`{"metadata":{"leat_site":"2","kajabi_site":"2","passona_site":"2","babelfor_site":"2"}}`, all},
		{`{"metadata":{"mine":"2"}}`, nil},
		{`{"name":"y","description":"d","status":"paused"}`, nil},
		{`{"timeout":"2s","max_in_flight":1}`, nil},
	} {
		for dialect, path := range paths {
			status := 200
			if slices.Contains(tt.refused, dialect) {
				status = 422
			}
			r := s.want(t, status, "acme PATCH "+path, tt.patch)
			if status == 200 && r.body["dialect"] != dialect {
				t.Errorf("%s: shown as %v", dialect, r.body["dialect"])
			}
		}
	}
	for dialect, path := range paths {
		status := 422
		if dialect == subscriptions.Babelfor {
			status = 202
		}
		s.want(t, status, "acme POST "+path+"/rotate-secret", `{}`)
	}
	if r := s.want(t, 200, "acme GET "+paths[subscriptions.Leat]+"/secret", ""); r.body["secret"] != "any text" {
		t.Errorf("Leat's secret: %s", r.text)
	}
	if r := s.want(t, 200, "acme GET "+paths[subscriptions.Kajabi]+"/secret", ""); r.body["secret"] != nil {
		t.Errorf("Kajabi's secret: %s", r.text)
	}
}

func TestDocument(t *testing.T) {
	t.Parallel()
	s := serve(t)
	count := 0
	for path, item := range s.api.OpenAPI().Paths {
		for method, op := range map[string]*huma.Operation{"GET": item.Get, "POST": item.Post, "PATCH": item.Patch, "DELETE": item.Delete} {
			if op == nil {
				continue
			}
			count++
			if op.Summary == "" || op.Description == "" || op.OperationID == "" {
				t.Errorf("%s %s is not described", method, path)
			}
			for _, p := range op.Parameters {
				if p.Description == "" && p.Name != "If-Match" {
					t.Errorf("%s %s: parameter %s is not described", method, path, p.Name)
				}
			}
		}
	}
	if count != 19 {
		t.Errorf("%d operations", count)
	}
}
