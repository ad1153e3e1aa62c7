package access_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/fanfarehq/fanfare/internal/changes"
	"github.com/fanfarehq/fanfare/internal/servertest"
)

// A tenant that was first seen in the stream has a change once it is looked at, which the reader did not make.
func TestATenantOfTheStreamIsRecorded(t *testing.T) {
	t.Parallel()
	db := servertest.Postgres(t)
	p := start(t, db)
	if _, err := db.ExecContext(t.Context(), `INSERT INTO events (uid, tenant, id, type, time, accepted_at, seq, matched, hash)
		VALUES (gen_random_uuid(), 'streamed', 'e', 'order.created', now(), now(), 1, 0, '')`); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if status := p.call(t, adminKey, "GET /v1/tenants/streamed", "", nil); status != 200 {
			t.Fatalf("got %d", status)
		}
	}
	p.call(t, adminKey, "GET /v1/tenants/nobody", "", nil)
	if got := recorded(t, p, "tenant"); len(got) != 1 || got[0] != `1 create by system first_use  >""` {
		t.Errorf("got %q", got)
	}
}

// recorded lists the changes of a kind of resource, oldest first, in brief.
func recorded(t *testing.T, p *process, resource string) (brief []string) {
	t.Helper()
	var list struct{ Data []changes.ChangeJSON }
	p.call(t, adminKey, "GET /v1/changes?order=asc&resource="+resource, "", &list)
	for _, c := range list.Data {
		text, err := json.Marshal(c)
		if err != nil || strings.Contains(string(text), "ff_") {
			t.Errorf("got %s, error %v", text, err)
		}
		brief = append(brief, fmt.Sprintf("%d %s by %s %s %s %s>%s", c.Revision, c.Action, c.Actor.Kind, c.Actor.Name, strings.Join(c.Changed, ","), c.Before["name"], c.After["name"]))
	}
	return brief
}

func TestChangesOfKeysAndTenantsAreRecorded(t *testing.T) {
	t.Parallel()
	db := servertest.Postgres(t)
	p := start(t, db)
	made := p.create(t, adminKey, `{"name":"maker","tenant":"acme","scopes":["keys:write","events:read"]}`)
	second := p.create(t, made.Key, `{"name":"second","scopes":["events:read"]}`)
	if status := p.call(t, made.Key, "DELETE /v1/keys/"+second.ID, "", nil); status != 204 {
		t.Fatalf("got %d", status)
	}
	want := []string{`1 create by admin   >"maker"`, `1 create by key maker  >"second"`, `2 delete by key maker  "second">`}
	if got := recorded(t, p, "key"); strings.Join(got, "\n") != strings.Join(want, "\n") {
		t.Errorf("got %q, want %q", got, want)
	}
	p.call(t, adminKey, "PUT /v1/tenants/acme", `{"name":"A"}`, nil)
	p.call(t, adminKey, "PUT /v1/tenants/acme", `{"name":"B","metadata":{"a":"b"}}`, nil)
	p.call(t, adminKey, "PUT /v1/tenants/other", `{"name":"O"}`, nil)
	p.call(t, adminKey, "DELETE /v1/tenants/acme", "", nil)
	want = []string{
		`1 create by admin   >""`, `2 update by admin  name "">"A"`, `3 update by admin  metadata,name "A">"B"`, `1 create by admin   >"O"`,
		`4 delete by admin   "B">`,
	}
	if got := recorded(t, p, "tenant"); strings.Join(got, "\n") != strings.Join(want, "\n") {
		t.Errorf("got %q, want %q", got, want)
	}
	// Erasing the tenant leaves its deletion alone.
	if err := changes.NewLog(db).EraseTenant(t.Context(), "acme"); err != nil {
		t.Fatal(err)
	}
	if got := append(recorded(t, p, "tenant"), recorded(t, p, "key")...); len(got) != 2 || !strings.Contains(strings.Join(got, "\n"), `4 delete by admin   >`) {
		t.Errorf("after the erasure: %q", got)
	}
}
