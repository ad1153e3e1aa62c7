package access_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"

	"github.com/fanfarehq/fanfare/internal/api"
	"github.com/fanfarehq/fanfare/internal/servertest"
)

type tenantAnswer struct {
	Tenant, Name, State string
	Metadata            map[string]string
	Status              int
	Errors              []struct{ Location string }
}

func TestTenantExistsFromItsFirstUse(t *testing.T) {
	t.Parallel()
	db := servertest.Postgres(t)
	p := start(t, db)
	exists := func(tenant string) bool {
		var out tenantAnswer
		status := p.call(t, adminKey, "GET /v1/tenants/"+tenant, "", &out)
		if status == 200 && (out.Tenant != tenant || out.Metadata == nil) {
			t.Errorf("%s: got %+v", tenant, out)
		}
		return status == 200
	}
	if exists("acme") || exists("a.b") || exists("%00") {
		t.Error("a tenant exists before its use")
	}
	p.create(t, adminKey, acmeKeys)
	if err := p.UseTenant(t.Context(), "used"); err != nil {
		t.Error(err)
	}
	if _, err := db.Exec(`INSERT INTO events (uid, tenant, id, type, time, accepted_at, seq, matched, hash)
		VALUES (gen_random_uuid(), 'over_nats', 'e', 't', now(), now(), 1, 0, '')`); err != nil {
		t.Fatal(err)
	}
	for _, tenant := range []string{"acme", "used", "over_nats"} {
		if !exists(tenant) {
			t.Errorf("%s does not exist", tenant)
		}
	}
}

func TestPutTenant(t *testing.T) {
	t.Parallel()
	p := start(t, servertest.Postgres(t))
	for _, tc := range []struct {
		path, body string
		status     int
		want       string
	}{
		{"acme", `{"name":"Acme","metadata":{"plan":"gold"}}`, 200, "Acme map[plan:gold]"},
		{"acme", `{"name":"Acme Inc."}`, 200, "Acme Inc. map[]"},
		{"acme", `{}`, 200, " map[]"},
		{"acme", `{"tenant":"other"}`, 422, ""},
		{"acme", `{"metadata":{"a":1}}`, 422, ""},
		{"a.b", `{}`, 404, ""},
	} {
		var out tenantAnswer
		status := p.call(t, adminKey, "PUT /v1/tenants/"+tc.path, tc.body, &out)
		if status != tc.status || status == 200 && fmt.Sprint(out.Name, " ", out.Metadata) != tc.want {
			t.Errorf("%s: want %d %s, got %d %+v", tc.body, tc.status, tc.want, status, out)
		}
	}
}

func TestTenantsAreTheAdmins(t *testing.T) {
	t.Parallel()
	p := start(t, servertest.Postgres(t))
	key := p.create(t, adminKey, acmeKeys).Key
	for _, what := range []string{"GET", "PUT", "DELETE"} {
		if status := p.call(t, key, what+" /v1/tenants/acme", "{}", nil); status != 403 {
			t.Errorf("%s: %d", what, status)
		}
	}
}

// eraser fails the first time it is asked for each tenant.
type eraser struct {
	mu    sync.Mutex
	asked map[string]int
}

func (e *eraser) EraseTenant(_ context.Context, tenant string) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.asked[tenant]++
	if e.asked[tenant] == 1 {
		return errors.New("not yet")
	}
	return nil
}

func TestDeletedTenantIsErased(t *testing.T) {
	t.Parallel()
	db := servertest.Postgres(t)
	p, other := start(t, db), start(t, db)
	e := &eraser{asked: map[string]int{}}
	p.OnErase(e)
	other.run(t)
	key, kept := p.create(t, adminKey, acmeKeys), p.create(t, adminKey, `{"name":"n","tenant":"other","scopes":["keys:write"]}`)
	for _, x := range []*process{p, other} {
		if _, err := x.who(t, key.Key); err != nil {
			t.Fatal(err)
		}
		if err := x.UseTenant(t.Context(), "acme"); err != nil {
			t.Fatal(err)
		}
	}
	var out tenantAnswer
	if status := p.call(t, adminKey, "DELETE /v1/tenants/acme", "", &out); status != 202 || out.State != "erasing" {
		t.Errorf("delete: %d %+v", status, out)
	}
	for what, want := range map[string]int{"GET": 404, "DELETE": 404, "PUT": 409} {
		if status := p.call(t, adminKey, what+" /v1/tenants/acme", "{}", nil); status != want {
			t.Errorf("%s after it: want %d, got %d", what, want, status)
		}
	}
	if _, err := p.who(t, key.Key); !errors.Is(err, api.ErrUnauthenticated) {
		t.Errorf("its key: %v", err)
	}
	if status := p.call(t, adminKey, "POST /v1/keys", acmeKeys, nil); status != 404 {
		t.Errorf("a new key for it: %d", status)
	}
	other.eventually(t, "the other process learns of it", func() bool {
		_, err := other.who(t, key.Key)
		return errors.Is(err, api.ErrUnauthenticated) && other.UseTenant(t.Context(), "acme") != nil
	})
	if _, err := p.who(t, kept.Key); err != nil {
		t.Errorf("another tenant's key: %v", err)
	}
	p.run(t)
	var keys int
	p.eventually(t, "the erasure", func() bool {
		var erased bool
		if err := db.QueryRow(`SELECT erased_at IS NOT NULL, (SELECT count(*) FROM keys WHERE tenant = 'acme') FROM tenants WHERE tenant = 'acme'`).
			Scan(&erased, &keys); err != nil {
			t.Fatal(err)
		}
		return erased
	})
	if keys != 0 || e.asked["acme"] != 2 {
		t.Errorf("%d keys are left, the eraser was asked %d times", keys, e.asked["acme"])
	}
	if status := p.call(t, adminKey, "GET /v1/tenants/acme", "", nil); status != 404 {
		t.Errorf("after the erasure: %d", status)
	}
}
