package subscriptions_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/fanfarehq/fanfare/internal/changes"
)

// history reads a list of changes, oldest first.
func (s *site) history(t *testing.T, what string) []changes.ChangeJSON {
	t.Helper()
	r := s.want(t, 200, what+"order=asc", "")
	var list struct{ Data []changes.ChangeJSON }
	if err := json.Unmarshal([]byte(r.text), &list); err != nil {
		t.Fatal(err)
	}
	return list.Data
}

// inBrief is a change in one line.
func inBrief(c changes.ChangeJSON) string {
	return fmt.Sprintf("%s by %s %s%s %s", c.Action, c.Actor.Kind, c.Actor.ID, c.Actor.Name, strings.Join(c.Changed, ","))
}

func TestEachChangeOfASubscriptionIsRecorded(t *testing.T) {
	t.Parallel()
	s := serve(t)
	id, _ := s.post(t, "acme", `{"name":"n","url":"https://example.com/hook?token=hidden","event_types":["a"],"headers":{"X-Env":"hidden"},
		"auth":{"type":"bearer","token":"hidden"}}`)
	one := "/v1/subscriptions/" + id
	s.want(t, 200, "acme PATCH "+one, `{"name":"m","url":"https://example.com/other?token=hidden"}`)
	s.want(t, 200, "acme PATCH "+one, `{"auth":{"type":"bearer","token":"hidden-too"}}`)
	s.want(t, 200, "acme PATCH "+one, `{"auth":{"type":"basic","username":"hidden","password":"hidden"}}`)
	s.want(t, 200, "acme PATCH "+one, `{"auth":{"type":"oauth2","client_id":"hidden","client_secret":"hidden","token_url":"https://example.com/token"}}`)
	s.want(t, 202, "acme POST "+one+"/pause", "")
	s.want(t, 202, "admin POST "+one+"/resume", "")
	s.want(t, 202, "acme POST "+one+"/rotate-secret", "{}")
	s.want(t, 200, "acme PATCH "+one, `{"status":"disabled"}`)
	s.want(t, 200, "acme PATCH "+one, `{"status":"active"}`)
	sub, err := s.store.Get(t.Context(), "", uuid.MustParse(id))
	if err != nil {
		t.Fatal(err)
	}
	if done, err := s.store.Disable(t.Context(), sub.ID, sub.Revision, "gone"); err != nil || !done {
		t.Fatalf("got %v, error %v", done, err)
	}
	// What changes nothing leaves nothing.
	if done, err := s.store.Disable(t.Context(), sub.ID, sub.Revision, "gone"); err != nil || done {
		t.Fatalf("got %v, error %v", done, err)
	}
	s.want(t, 204, "acme DELETE "+one, "")

	list := s.history(t, "acme GET "+one+"/changes?")
	want := []string{
		"create by key 1A ", "update by key 1A name,url", "update by key 1A auth", "update by key 1A auth", "update by key 1A auth", "pause by key 1A status", "resume by admin admin status",
		"rotate_secret by key 1A secret", "disable by key 1A disabled_reason,status", "enable by key 1A disabled_reason,status",
		"disable by system systemgone disabled_reason,status", "delete by key 1A ",
	}
	var got []string
	for _, c := range list {
		got = append(got, inBrief(c))
	}
	if strings.Join(got, "\n") != strings.Join(want, "\n") {
		t.Fatalf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	for i, c := range list {
		text, _ := json.Marshal(c)
		switch {
		case strings.Contains(string(text), "hidden") || strings.Contains(string(text), "whsec_"):
			t.Errorf("a secret is shown: %s", text)
		case (c.Before == nil) != (i == 0) || (c.After == nil) != (i == len(list)-1):
			t.Errorf("%s: before %v, after %v", inBrief(c), c.Before, c.After)
		case i > 0 && (string(c.Before["name"]) != string(list[i-1].After["name"]) || c.Revision <= list[i-1].Revision):
			t.Errorf("%s does not follow %s", inBrief(c), inBrief(list[i-1]))
		case i < len(list)-1 && c.At.Format(`"`+time.RFC3339Nano+`"`) != string(c.After["updated_at"]):
			t.Errorf("%s at %v is defined as of %s", inBrief(c), c.At, c.After["updated_at"])
		case *c.Tenant != "acme" || c.ResourceID != id || c.After["granted_scopes"] != nil || c.After["signed"] != nil:
			t.Errorf("got %s", text)
		}
	}
	if number := string(list[0].After["number"]); number == "0" || number == "" {
		t.Errorf("the first definition has the number %q", number)
	}
	if name := string(list[1].After["name"]) + string(list[1].After["url"]); name != `"m""https://example.com/other?token=***"` {
		t.Errorf("the second definition has %s", name)
	}

	if auth := string(list[4].After["auth"]); !strings.Contains(auth, `"client_id":"***"`) || !strings.Contains(auth, "https://example.com/token") {
		t.Errorf("auth is kept as %s", auth)
	}

	s.want(t, 404, "globex GET "+one+"/changes", "")
	if seen := s.history(t, "globex GET /v1/changes?"); len(seen) > 0 {
		t.Errorf("another tenant sees %v", seen)
	}
	// Filters.
	for query, n := range map[string]int{
		"id=" + id + "&": 12, "resource=event_type&": 0, "actor=1&": 10, "since=2100-01-01T00:00:00Z&": 0, "until=2100-01-01T00:00:00Z&": 12,
		"resource=subscription&id=" + uuid.NewString() + "&": 0,
	} {
		if got := len(s.history(t, "acme GET /v1/changes?"+query)); got != n {
			t.Errorf("%s: got %d changes, want %d", query, got, n)
		}
	}
	s.want(t, http.StatusForbidden, "acme GET /v1/changes?resource=key", "")
	s.want(t, http.StatusForbidden, "acme GET /v1/changes?resource=tenant", "")
	// Pages.
	r := s.want(t, 200, "acme GET /v1/changes?limit=4", "")
	next := s.want(t, 200, "acme GET /v1/changes?limit=4&cursor="+fmt.Sprint(r.body["next_cursor"]), "")
	if n := len(next.body["data"].([]any)); n != 4 || strings.Contains(next.text, list[11].ID.String()) {
		t.Errorf("the second page is %s", next.text)
	}
}

// A subscription that is older than the history has its definition before the first change.
func TestTheFirstChangeKeepsTheFormerDefinition(t *testing.T) {
	t.Parallel()
	s := serve(t)
	id, _ := s.post(t, "acme", least)
	if _, err := s.db.Exec(`DELETE FROM changes`); err != nil {
		t.Fatal(err)
	}
	s.want(t, 200, "acme GET /v1/subscriptions/"+id+"/changes", "")
	s.want(t, 200, "acme PATCH /v1/subscriptions/"+id, `{"name":"m"}`)
	list := s.history(t, "acme GET /v1/subscriptions/"+id+"/changes?")
	if len(list) != 1 || string(list[0].Before["name"]) != `"n"` || string(list[0].After["name"]) != `"m"` {
		t.Errorf("got %v", list)
	}
}

// A page is cut where its definitions become large, and the next one goes on from there.
func TestPagesOfLargeChangesAreCut(t *testing.T) {
	t.Parallel()
	s := serve(t)
	const n = 60
	if _, err := s.db.Exec(`INSERT INTO changes (id, at, tenant, resource, resource_id, revision, action, actor_kind, actor_id, actor_name, changed, definition)
SELECT ('00000000-0000-7000-8000-' || lpad(n::text, 12, '0'))::uuid, now(), 'acme', 'subscription', 'x', n, 'update', 'key', '1', '', '{}',
    jsonb_build_object('description', repeat('x', 200000)) FROM generate_series(1, $1) n`, n); err != nil {
		t.Fatal(err)
	}
	pages, seen, at := 0, map[string]bool{}, ""
	for {
		r := s.want(t, 200, "acme GET /v1/changes?limit=500"+at, "")
		pages++
		items := r.body["data"].([]any)
		if size := len(r.text); size > 5<<20 || len(items) == 0 {
			t.Fatalf("page %d has %d items of %d bytes", pages, len(items), size)
		}
		for _, item := range items {
			seen[item.(map[string]any)["id"].(string)] = true
		}
		next, ok := r.body["next_cursor"].(string)
		if !ok {
			break
		}
		at = "&cursor=" + next
	}
	if pages < 4 || len(seen) != n {
		t.Errorf("%d pages have %d changes, want all %d", pages, len(seen), n)
	}
}

func TestEachChangeOfAnEventTypeIsRecorded(t *testing.T) {
	t.Parallel()
	s := serve(t)
	s.want(t, 201, "admin POST /v1/event-types?tenant=acme", `{"name":"a.b","schema":{"type":"object","properties":{"z":{},"a":{}}}}`)
	s.want(t, 200, "admin PATCH /v1/event-types/a.b?tenant=acme", `{"description":"x"}`)
	s.want(t, 204, "admin DELETE /v1/event-types/a.b?tenant=acme", "")
	s.want(t, 201, "admin POST /v1/event-types?tenant=acme", `{"name":"a.b"}`)
	var got []string
	for _, c := range s.history(t, "acme GET /v1/changes?resource=event_type&id=a.b&") {
		got = append(got, inBrief(c))
	}
	want := "create by admin admin \nupdate by admin admin description\ndelete by admin admin \ncreate by admin admin "
	if strings.Join(got, "\n") != want {
		t.Errorf("got %s, want %s", strings.Join(got, "\n"), want)
	}
}
