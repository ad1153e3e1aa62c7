package subscriptions_test

import (
	"fmt"
	"strings"
	"sync"
	"testing"

	"github.com/google/uuid"
)

func TestIfMatch(t *testing.T) {
	t.Parallel()
	s := serve(t)
	id, made := s.post(t, "acme", least)
	first := made.header.Get("ETag")
	second := s.want(t, 200, "acme PATCH /v1/subscriptions/"+id, `{"name":"2"}`, "If-Match", first).header.Get("ETag")
	s.want(t, 412, "acme PATCH /v1/subscriptions/"+id, `{"name":"3"}`, "If-Match", first)
	s.want(t, 412, "acme DELETE /v1/subscriptions/"+id, "", "If-Match", first)
	s.want(t, 200, "acme PATCH /v1/subscriptions/"+id, `{"name":"4"}`, "If-Match", "*")
	s.want(t, 412, "acme DELETE /v1/subscriptions/"+id, "", "If-Match", second)
	third := s.want(t, 200, "acme GET /v1/subscriptions/"+id, "").header.Get("ETag")
	s.want(t, 304, "acme GET /v1/subscriptions/"+id, "", "If-None-Match", third)
	s.want(t, 412, "acme PATCH /v1/subscriptions/"+id, `{"name":"5"}`, "If-None-Match", "*")
	s.want(t, 412, "acme DELETE /v1/subscriptions/"+id, "", "If-None-Match", "*")
	s.want(t, 204, "acme DELETE /v1/subscriptions/"+id, "")
	s.want(t, 404, "acme DELETE /v1/subscriptions/"+id, "")
	s.want(t, 404, "acme GET /v1/subscriptions/"+id, "")
}

// A patch that changes nothing leaves the version, the time of the last change and the history as they are.
func TestAPatchThatChangesNothing(t *testing.T) {
	t.Parallel()
	s := serve(t)
	id, _ := s.post(t, "acme", `{"name":"n","url":"https://example.com/hook?token=hidden","event_types":["a","b.*"],"headers":{"X-Env":"v"},
		"auth":{"type":"oauth2","client_id":"c","client_secret":"s","token_url":"https://example.com/token"},"retry":{"schedule":["1s","5s"]},
		"rate_limit":{"limit":5,"per":"1s"},"ordering":{"key":"event.data.id"},"metadata":{"k":"v"},"filter":"event.type != ''"}`)
	s.want(t, 201, "admin POST /v1/event-types", `{"name":"order","schema":{"properties":{"b":{"minimum":1.50},"a":{}}},"sample":{"b":2,"a":1}}`)
	for path, patches := range map[string][]string{
		"acme PATCH /v1/subscriptions/" + id: {`{}`, `{"name":"n"}`, `{"status":"active"}`, `{"event_types":["a","b.*"],"headers":{"X-Env":"v"}}`},
		"admin PATCH /v1/event-types/order":  {`{}`, `{"description":""}`, `{"schema":{"properties":{"a":{},"b":{"minimum":1.50}}},"validation":"enforce"}`},
	} {
		get := strings.Replace(path, "PATCH", "GET", 1)
		before := s.want(t, 200, get, "")
		tag := before.header.Get("ETag")
		for _, patch := range patches {
			got := s.want(t, 200, path, patch, "If-Match", tag)
			if got.header.Get("ETag") != tag || got.text != before.text {
				t.Errorf("%s %s: got %s\nwant %s", path, patch, got.text, before.text)
			}
		}
		s.want(t, 304, get, "", "If-None-Match", tag)
		if changed := s.want(t, 200, path, `{"description":"d"}`, "If-Match", tag); changed.header.Get("ETag") == tag {
			t.Errorf("%s: a change leaves the version", path)
		}
		s.want(t, 412, path, `{}`, "If-Match", tag)
	}
	if n := len(s.history(t, "admin GET /v1/changes?")); n != 4 {
		t.Errorf("got %d changes, want the creations and a change of each", n)
	}
}

func TestPatchesOfDifferentFieldsAtOnceAllCount(t *testing.T) {
	t.Parallel()
	s := serve(t)
	id, made := s.post(t, "acme", least)
	var wg sync.WaitGroup
	for _, patch := range []string{`{"name":"x"}`, `{"description":"x"}`, `{"metadata":{"x":"x"}}`} {
		wg.Go(func() { s.want(t, 200, "acme PATCH /v1/subscriptions/"+id, patch) })
	}
	var won sync.Map
	for i := range 4 {
		wg.Go(func() {
			r := s.call(t, "acme PATCH /v1/subscriptions/"+id, fmt.Sprintf(`{"resource_id":"%d"}`, i), "If-Match", made.header.Get("ETag"))
			if r.status == 200 {
				won.Store(i, true)
			} else if r.status != 412 {
				t.Errorf("got %d %s", r.status, r.text)
			}
		})
	}
	wg.Wait()
	r := s.want(t, 200, "acme GET /v1/subscriptions/"+id, "")
	if r.body["name"] != "x" || r.body["description"] != "x" || len(r.body["metadata"].(map[string]any)) != 1 {
		t.Errorf("a patch was lost: %s", r.text)
	}
	winners := 0
	won.Range(func(any, any) bool { winners++; return true })
	if winners > 1 {
		t.Errorf("%d patches of the same version succeeded", winners)
	}
}

func TestPauseResumeDisable(t *testing.T) {
	t.Parallel()
	s := serve(t)
	id, _ := s.post(t, "acme", least)
	path := "/v1/subscriptions/" + id
	is := func(r reply, status string, reason any) {
		t.Helper()
		if r.body["status"] != status || r.body["disabled_reason"] != reason {
			t.Errorf("got %s", r.text)
		}
	}
	is(s.want(t, 202, "acme POST "+path+"/pause", ""), "paused", nil)
	is(s.want(t, 202, "acme POST "+path+"/pause", ""), "paused", nil)
	is(s.want(t, 202, "acme POST "+path+"/resume", ""), "active", nil)
	is(s.want(t, 200, "acme PATCH "+path, `{"status":"disabled"}`), "disabled", "manual")
	s.want(t, 409, "acme POST "+path+"/pause", "")
	s.want(t, 409, "acme POST "+path+"/resume", "")
	is(s.want(t, 200, "acme PATCH "+path, `{"name":"x"}`), "disabled", "manual")
	is(s.want(t, 200, "acme PATCH "+path, `{"status":"active"}`), "active", nil)
	sub, err := s.store.Get(t.Context(), "acme", uuid.MustParse(id))
	if err != nil {
		t.Fatal(err)
	}
	if done, err := s.store.Disable(t.Context(), sub.ID, sub.Revision, "gone"); err != nil || !done {
		t.Fatal(done, err)
	}
	is(s.want(t, 200, "acme PATCH "+path, `{"status":"disabled"}`), "disabled", "gone")
	s.want(t, 403, "reader POST "+path+"/pause", "")
}

func TestSecretsOverTheAPI(t *testing.T) {
	t.Parallel()
	s := serve(t)
	const given = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
	id, made := s.post(t, "acme", with("secret", `"`+given+`"`))
	if made.body["secret"] != given {
		t.Errorf("given secret: %s", made.text)
	}
	path := "/v1/subscriptions/" + id
	rotated := s.want(t, 202, "acme POST "+path+"/rotate-secret", `{"overlap":"24h"}`)
	now := s.want(t, 200, "acme GET "+path+"/secret", "")
	if rotated.body["secret"] != now.body["secret"] || rotated.body["id"] != id {
		t.Errorf("rotation answers %s, the secret is %s", rotated.text, now.text)
	}
	if now.body["secret"] == given || now.body["public_key"] != nil {
		t.Errorf("after a rotation: %s", now.text)
	}
	s.fresh(t)
	if known, _ := s.dir.Get(uuid.MustParse(id)); len(known.Secrets) != 2 || known.Secrets[1].Value != given || known.Secrets[1].ExpiresAt.IsZero() {
		t.Errorf("the directory has %v", known.Secrets)
	}
	s.want(t, 202, "acme POST "+path+"/rotate-secret", `{"overlap":"0s","secret":"`+given+`"}`)
	if now := s.want(t, 200, "acme GET "+path+"/secret", ""); now.body["secret"] != given {
		t.Errorf("after a rotation to a given one: %s", now.text)
	}
	s.want(t, 202, "acme POST "+path+"/rotate-secret", `{}`)
	s.want(t, 422, "acme POST "+path+"/rotate-secret", `{"overlap":"8d"}`)
	s.want(t, 422, "acme POST "+path+"/rotate-secret", `{"overlap":"-1s"}`)
	s.want(t, 422, "acme POST "+path+"/rotate-secret", `{"secret":"x"}`)
	for range 8 {
		s.want(t, 202, "acme POST "+path+"/rotate-secret", `{}`)
	}
	s.want(t, 409, "acme POST "+path+"/rotate-secret", `{}`)
	s.want(t, 202, "acme POST "+path+"/rotate-secret", `{"overlap":"0s"}`)

	id, made = s.post(t, "acme", with("signing", `"ed25519"`))
	public, _ := made.body["public_key"].(string)
	if made.body["secret"] != nil || !strings.HasPrefix(public, "whpk_") || strings.Contains(made.text, "whsk_") {
		t.Errorf("ed25519: %s", made.text)
	}
	if got := s.want(t, 200, "acme GET /v1/subscriptions/"+id+"/secret", ""); got.text != fmt.Sprintf("{\"secret\":null,\"public_key\":%q}\n", public) {
		t.Errorf("ed25519 secret: %s", got.text)
	}
}
