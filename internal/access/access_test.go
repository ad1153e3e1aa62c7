package access_test

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/fanfarehq/fanfare/internal/api"
	"github.com/fanfarehq/fanfare/internal/postgres"
	"github.com/fanfarehq/fanfare/internal/servertest"
)

func TestKeyIsShownOnceAndStoredNowhere(t *testing.T) {
	t.Parallel()
	db := servertest.Postgres(t)
	p := start(t, db)
	k := p.create(t, adminKey, acmeKeys)
	if !strings.HasPrefix(k.Key, "ff_"+k.ID+"_") || len(k.Key) != 65 || *k.Tenant != "acme" || k.Admin || k.ExpiresAt != nil || k.LastUsedAt != nil {
		t.Errorf("got %+v", k)
	}
	if got := fmt.Sprint(k.Scopes); got != "[events:write keys:write view:purchases]" {
		t.Errorf("scopes %s", got)
	}
	c, err := p.who(t, k.Key)
	if err != nil || c.Tenant != "acme" || c.KeyID != k.ID || c.Admin || !c.Has("view:purchases") || c.Has("events:read") {
		t.Errorf("got %+v, %v", c, err)
	}
	var list keyAnswer
	if status := p.call(t, k.Key, "GET /v1/keys", "", &list); status != 200 || len(list.Data) != 1 || list.Data[0].Key != "" || list.Data[0].ID != k.ID {
		t.Errorf("list: %d %+v", status, list)
	}
	var stored string
	if err := db.QueryRow(`SELECT string_agg(keys::text, ' ') FROM keys`).Scan(&stored); err != nil {
		t.Fatal(err)
	}
	if secret := k.Key[len("ff_"+k.ID+"_"):]; strings.Contains(stored, secret) {
		t.Error("the secret is in the table")
	}
}

func TestWhoMayMakeWhichKey(t *testing.T) {
	t.Parallel()
	p := start(t, servertest.Postgres(t))
	tenantKey := p.create(t, adminKey, acmeKeys).Key
	poor := p.create(t, adminKey, `{"name":"n","tenant":"acme","scopes":["events:write"]}`).Key
	madeAdmin := p.create(t, adminKey, `{"name":"n","admin":true}`).Key
	operator := p.create(t, adminKey, `{"name":"n","tenant":null,"scopes":["admin:read","events:read"]}`).Key
	in := func(d time.Duration) string { return p.now().Add(d).UTC().Format(time.RFC3339) }
	for _, tc := range []struct {
		caller, body, location string
		status                 int
	}{
		{tenantKey, `{"name":"n","scopes":["events:write"]}`, "", 201},
		{tenantKey, `{"name":"n","scopes":["events:write","events:write"]}`, "", 201},
		{tenantKey, `{"name":"n","scopes":["events:write"],"tenant":"acme"}`, "", 201},
		{tenantKey, `{"name":"n","scopes":["events:write"],"tenant":"other"}`, "", 403},
		{tenantKey, `{"name":"n","scopes":["events:write","events:read"]}`, "", 403},
		{tenantKey, `{"name":"n","scopes":["view:other"]}`, "", 403},
		{tenantKey, `{"name":"n","admin":true}`, "", 403},
		{tenantKey, `{"name":"n","scopes":["admin"]}`, "body.scopes[0]", 422},
		{tenantKey, `{"name":"n"}`, "body.scopes", 422},
		{tenantKey, `{"name":"n","scopes":[]}`, "body.scopes", 422},
		{tenantKey, `{"scopes":["events:write"]}`, "body.name", 422},
		{tenantKey, `{"name":"n","scopes":["Events Write"]}`, "body.scopes[0]", 422},
		{tenantKey, `{"name":"n","scopes":["events:write"],"id":"x"}`, "body.id", 422},
		{tenantKey, `{"name":"n","scopes":["events:write"],"expires_at":"` + in(-time.Hour) + `"}`, "body.expires_at", 422},
		{tenantKey, `{"name":"n","scopes":["events:write"],"expires_at":"soon"}`, "body.expires_at", 422},
		{tenantKey, `{"name":"n","scopes":["events:write"],"expires_at":"` + in(time.Hour) + `"}`, "", 201},
		{tenantKey, `{"name":"n","scopes":["events:write"],"expires_at":null}`, "", 201},
		{poor, `{"name":"n","scopes":["events:write"]}`, "", 403},
		{adminKey, `{"name":"n","scopes":["anything:at_all"],"tenant":"other"}`, "", 201},
		{adminKey, `{"name":"n","scopes":["events:write"]}`, "query.tenant", 422},
		{adminKey, `{"name":"n","scopes":["events:write"],"tenant":"a.b"}`, "body.tenant", 422},
		{adminKey, `{"name":"n","admin":true,"tenant":"acme"}`, "body.admin", 422},
		{adminKey, `{"name":"n","admin":true,"scopes":["events:write"]}`, "body.admin", 422},
		{madeAdmin, `{"name":"n","scopes":["events:write"],"tenant":"third"}`, "", 201},
		{madeAdmin, `{"name":"n","admin":true}`, "", 201},
		{adminKey, `{"name":"n","scopes":["admin:read"],"tenant":"acme"}`, "body.scopes[0]", 422},
		{tenantKey, `{"name":"n","scopes":["admin:read"]}`, "", 403},
		{tenantKey, `{"name":"n","scopes":["events:write"],"tenant":null}`, "", 403},
		{adminKey, `{"name":"n","scopes":["events:write","keys:write"],"tenant":null}`, "body.scopes[1]", 422},
		{adminKey, `{"name":"n","tenant":null}`, "body.scopes", 422},
		{adminKey, `{"name":"n","admin":true,"tenant":null}`, "", 201},
		{adminKey, `{"name":"n","scopes":["events:write"],"tenant":7}`, "body.tenant", 422},
		{madeAdmin, `{"name":"n","scopes":["events:write","admin:read"],"tenant":null}`, "", 201},
		{operator, `{"name":"n","scopes":["events:read"],"tenant":null}`, "", 403},
		{operator, `{"name":"n","scopes":["events:read"],"tenant":"acme"}`, "", 403},
		{operator, `{"name":"n","admin":true}`, "", 403},
		{"ff_000000000000_0000000000000000000000000000000000000000000", `{}`, "", 401},
		{adminKey + "x", `{}`, "", 401},
	} {
		var out keyAnswer
		status := p.call(t, tc.caller, "POST /v1/keys", tc.body, &out)
		location := ""
		if len(out.Errors) > 0 {
			location = out.Errors[0].Location
		}
		if status != tc.status || location != tc.location {
			t.Errorf("%s: want %d %q, got %d %q %s", tc.body, tc.status, tc.location, status, location, out.Detail)
		}
	}
}

func TestKeyCannotOutliveItsMaker(t *testing.T) {
	t.Parallel()
	p := start(t, servertest.Postgres(t))
	end := p.now().Add(time.Hour).UTC().Truncate(time.Second)
	maker := p.create(t, adminKey, `{"name":"n","tenant":"acme","scopes":["keys:write"],"expires_at":"`+end.Format(time.RFC3339)+`"}`)
	child := p.create(t, maker.Key, `{"name":"n","scopes":["keys:write"]}`)
	if !child.ExpiresAt.Equal(end) {
		t.Errorf("inherits %v", child.ExpiresAt)
	}
	later := end.Add(time.Second).Format(time.RFC3339)
	if status := p.call(t, maker.Key, "POST /v1/keys", `{"name":"n","scopes":["keys:write"],"expires_at":"`+later+`"}`, nil); status != 403 {
		t.Errorf("later than its maker: %d", status)
	}
	if _, err := p.who(t, child.Key); err != nil {
		t.Errorf("before the end: %v", err)
	}
	p.advance(time.Hour + time.Second)
	for _, key := range []string{maker.Key, child.Key} {
		if _, err := p.who(t, key); !errors.Is(err, api.ErrUnauthenticated) {
			t.Errorf("after the end: %v", err)
		}
	}
}

func TestRevocationReachesEveryProcess(t *testing.T) {
	t.Parallel()
	db := servertest.Postgres(t)
	here, there, running := start(t, db), start(t, db), start(t, db)
	running.run(t)
	k := here.create(t, adminKey, acmeKeys)
	for _, p := range []*process{here, there, running} {
		if _, err := p.who(t, k.Key); err != nil {
			t.Fatal(err)
		}
	}
	if status := here.call(t, k.Key, "DELETE /v1/keys/"+k.ID, "", nil); status != 204 {
		t.Fatalf("revoke: %d", status)
	}
	if _, err := here.who(t, k.Key); !errors.Is(err, api.ErrUnauthenticated) {
		t.Errorf("here: %v", err)
	}
	there.advance(3 * time.Second)
	if _, err := there.who(t, k.Key); !errors.Is(err, api.ErrUnauthenticated) {
		t.Errorf("elsewhere after 3 s: %v", err)
	}
	running.eventually(t, "the end of the key in a process that runs", func() bool {
		_, err := running.who(t, k.Key)
		return errors.Is(err, api.ErrUnauthenticated)
	})
	if status := here.call(t, adminKey, "DELETE /v1/keys/"+k.ID, "", nil); status != 404 {
		t.Errorf("revoke again: %d", status)
	}
}

// A key over all tenants is no admin's: it does what its scopes say, and belongs to no tenant that could revoke or erase it.
func TestKeyOverAllTenants(t *testing.T) {
	t.Parallel()
	p := start(t, servertest.Postgres(t))
	p.run(t)
	k := p.create(t, adminKey, `{"name":"support","tenant":null,"scopes":["admin:read","deliveries:read"]}`)
	if k.Tenant != nil || k.Admin || fmt.Sprint(k.Scopes) != "[admin:read deliveries:read]" {
		t.Errorf("got %+v", k)
	}
	c, err := p.who(t, k.Key)
	if err != nil || c.Tenant != "" || c.Admin || !c.OverAll() || !c.Has(api.AdminRead) || c.Has(api.Admin) || c.Has("events:read") {
		t.Errorf("got %+v, %v", c, err)
	}
	maker := p.create(t, adminKey, `{"name":"n","tenant":"acme","scopes":["keys:write"]}`)
	for _, tc := range []struct {
		key, what, body string
		status          int
	}{
		{k.Key, "GET /v1/tenants", "", 200},
		{k.Key, "GET /v1/tenants/acme", "", 200},
		{k.Key, "GET /v1/tenants?tenant=acme", "", 200},
		{k.Key, "PUT /v1/tenants/acme", `{"name":"mine"}`, 403},
		{k.Key, "DELETE /v1/tenants/acme", "", 403},
		{k.Key, "GET /v1/keys", "", 403},
		{k.Key, "DELETE /v1/keys/" + maker.ID + "?tenant=acme", "", 403},
		{k.Key, "PATCH /v1/keys/" + k.ID, `{"scopes":["events:read"]}`, 405},
		{k.Key, "PUT /v1/keys/" + k.ID, `{"scopes":["events:read"]}`, 405},
		{k.Key, "GET /v1/changes?resource=tenant", "", 200},
		{k.Key, "GET /v1/changes?resource=key", "", 200},
		{maker.Key, "DELETE /v1/keys/" + k.ID, "", 404},
		{adminKey, "DELETE /v1/keys/" + k.ID + "?tenant=acme", "", 404},
		{adminKey, "DELETE /v1/tenants/acme", "", 202},
		{k.Key, "GET /v1/tenants", "", 200},
		{adminKey, "DELETE /v1/keys/" + k.ID, "", 204},
	} {
		if status := p.call(t, tc.key, tc.what, tc.body, nil); status != tc.status {
			t.Errorf("%s: want %d, got %d", tc.what, tc.status, status)
		}
	}
	if _, err := p.who(t, k.Key); !errors.Is(err, api.ErrUnauthenticated) {
		t.Errorf("revoked: %v", err)
	}
}

// Keys over all tenants read what they hold of the history, and no more.
func TestChangesThatAKeyOverAllTenantsSees(t *testing.T) {
	t.Parallel()
	p := start(t, servertest.Postgres(t))
	p.create(t, adminKey, acmeKeys)
	p.call(t, adminKey, "PUT /v1/tenants/acme", `{"name":"A"}`, nil)
	auditor := p.create(t, adminKey, `{"name":"n","tenant":null,"scopes":["admin:read"]}`).Key
	narrow := p.create(t, adminKey, `{"name":"n","tenant":null,"scopes":["subscriptions:read"]}`).Key
	for _, tc := range []struct {
		key, query string
		status     int
		seen       int
	}{
		{auditor, "", 200, 5}, {auditor, "?resource=key", 200, 3}, {auditor, "?resource=tenant", 200, 2}, {auditor, "?tenant=acme", 200, 3},
		{auditor, "?actor=admin", 200, 5}, {auditor, "?actor=system", 200, 0},
		{narrow, "", 200, 0}, {narrow, "?resource=key", 403, 0}, {narrow, "?resource=tenant", 403, 0},
	} {
		var list struct{ Data []json.RawMessage }
		if status := p.call(t, tc.key, "GET /v1/changes"+tc.query, "", &list); status != tc.status || len(list.Data) != tc.seen {
			t.Errorf("%q: got %d, %d changes, want %d, %d", tc.query, status, len(list.Data), tc.status, tc.seen)
		}
	}
}

func TestForeignKeysDoNotExist(t *testing.T) {
	t.Parallel()
	p := start(t, servertest.Postgres(t))
	acme := p.create(t, adminKey, acmeKeys)
	other := p.create(t, adminKey, `{"name":"n","tenant":"other","scopes":["keys:write"]}`)
	admin := p.create(t, adminKey, `{"name":"n","admin":true}`)
	for _, id := range []string{acme.ID, admin.ID, "000000000000", "x", "0198f000-0000-7000-8000-000000000000", strings.Repeat("a", 1000)} {
		var out keyAnswer
		if status := p.call(t, other.Key, "DELETE /v1/keys/"+id, "", &out); status != 404 || out.Detail != "there is nothing here" {
			t.Errorf("%.20s: %d %s", id, status, out.Detail)
		}
	}
	if status := p.call(t, adminKey, "DELETE /v1/keys/"+acme.ID+"?tenant=other", "", nil); status != 404 {
		t.Errorf("admin in another tenant: %d", status)
	}
	for key, want := range map[string]int{acme.Key: 1, other.Key: 1, adminKey: 3, admin.Key: 3} {
		var list keyAnswer
		if p.call(t, key, "GET /v1/keys", "", &list); len(list.Data) != want {
			t.Errorf("list of %d keys, want %d", len(list.Data), want)
		}
	}
	if status := p.call(t, adminKey, "DELETE /v1/keys/"+admin.ID, "", nil); status != 204 {
		t.Errorf("admin key: %d", status)
	}
	if _, err := p.who(t, admin.Key); !errors.Is(err, api.ErrUnauthenticated) {
		t.Errorf("revoked admin key: %v", err)
	}
}

func TestListOfKeysPages(t *testing.T) {
	t.Parallel()
	p := start(t, servertest.Postgres(t))
	var made []string
	for range 7 {
		made = append(made, p.create(t, adminKey, acmeKeys).ID)
	}
	for order, first := range map[string]string{"desc": made[6], "asc": made[0]} {
		var seen []string
		path := "/v1/keys?tenant=acme&limit=2&order=" + order
		for next := path; ; {
			var list keyAnswer
			if status := p.call(t, adminKey, "GET "+next, "", &list); status != 200 {
				t.Fatalf("%s: %d", next, status)
			}
			for _, k := range list.Data {
				seen = append(seen, k.ID)
			}
			if list.NextCursor == nil {
				break
			}
			next = path + "&cursor=" + *list.NextCursor
		}
		if len(seen) != 7 || seen[0] != first {
			t.Errorf("%s: %v of %v", order, seen, made)
		}
	}
}

func TestLastUse(t *testing.T) {
	t.Parallel()
	db := servertest.Postgres(t)
	p := start(t, db)
	stop := p.run(t)
	k := p.create(t, adminKey, acmeKeys)
	lastUse := func() (at sql.NullTime) {
		if err := db.QueryRow(`SELECT last_used_at FROM keys WHERE id = $1`, k.ID).Scan(&at); err != nil {
			t.Fatal(err)
		}
		return at
	}
	use := func() {
		if _, err := p.who(t, k.Key); err != nil {
			t.Fatal(err)
		}
	}
	if lastUse().Valid {
		t.Error("used before its first use")
	}
	use()
	p.eventually(t, "the last use", func() bool { return lastUse().Valid })
	first := lastUse().Time
	p.advance(59 * time.Second)
	use()
	p.advance(2 * time.Second)
	use()
	p.eventually(t, "the next last use", func() bool { return lastUse().Time.After(first) })
	if d := lastUse().Time.Sub(first); d < time.Minute {
		t.Errorf("written again after %v", d)
	}
	p.advance(time.Hour)
	use()
	stop()
	if d := lastUse().Time.Sub(first); d < time.Hour {
		t.Errorf("what was used is lost at the end: %v", d)
	}
}

// Nobody is let in, and nobody is told that his key is wrong.
func TestWithoutPostgres(t *testing.T) {
	t.Parallel()
	pg := servertest.NewRestartablePostgres(t)
	db, err := postgres.Open(t.Context(), pg.URL(), 4)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = db.Close() })
	p := start(t, db)
	k, unseen := p.create(t, adminKey, acmeKeys), p.create(t, adminKey, acmeKeys)
	if _, err := p.who(t, k.Key); err != nil {
		t.Fatal(err)
	}
	pg.Stop()
	if _, err := p.who(t, k.Key); err != nil {
		t.Errorf("within what is believed: %v", err)
	}
	if status := p.call(t, k.Key+"x", "GET /v1/keys", "", nil); status != 401 {
		t.Errorf("a malformed key: %d", status)
	}
	p.advance(3 * time.Second)
	for name, key := range map[string]string{"known": k.Key, "unseen": unseen.Key, "unknown": "ff_000000000000_" + strings.Repeat("0", 43)} {
		if status := p.call(t, key, "GET /v1/keys", "", nil); status != 503 {
			t.Errorf("%s key: want 503, got %d", name, status)
		}
	}
	if c, err := p.who(t, adminKey); err != nil || !c.Admin {
		t.Errorf("admin key: %+v, %v", c, err)
	}
	if status := p.call(t, adminKey, "GET /v1/keys", "", nil); status != 503 {
		t.Errorf("a list: %d", status)
	}
	pg.Start()
	if err := postgres.Retry(t.Context(), db, func(context.Context, *sql.Tx) error { return nil }); err != nil {
		t.Fatal(err)
	}
	if _, err := p.who(t, k.Key); err != nil {
		t.Errorf("after the restart: %v", err)
	}
}
