package access_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
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
	var seen struct {
		State    string
		Progress struct{ Done, Total int64 }
	}
	if status := p.call(t, adminKey, "GET /v1/tenants/acme", "", &seen); status != 200 || seen.State != "erasing" {
		t.Errorf("while it is erased: %d %+v", status, seen)
	}
	for what, want := range map[string]int{"DELETE": 404, "PUT": 409} {
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

// slow has many things and removes one of them at a time, the last one once somebody saw the progress.
type slow struct {
	left atomic.Int64
	seen chan struct{} // closed once somebody saw the progress
}

func (s *slow) EraseTenant(ctx context.Context, _ string) error {
	if s.left.Add(-1) > 0 {
		return errors.New("there is more")
	}
	select {
	case <-s.seen:
		return nil
	case <-ctx.Done():
		s.left.Store(1)
		return ctx.Err()
	}
}

func (s *slow) CountTenant(context.Context, string) (int64, error) { return max(s.left.Load(), 0), nil }

// stuck never ends.
type stuck struct{ begun chan struct{} }

func (s stuck) EraseTenant(ctx context.Context, tenant string) error {
	if tenant != "large" {
		return nil
	}
	close(s.begun)
	<-ctx.Done()
	return ctx.Err()
}

// An erasure shows its progress, which only grows, and then the tenant is gone.
func TestAnErasureShowsItsProgress(t *testing.T) {
	t.Parallel()
	p := start(t, servertest.Postgres(t))
	e := &slow{seen: make(chan struct{})}
	e.left.Store(5)
	p.OnErase(e)
	if err := p.UseTenant(t.Context(), "acme"); err != nil {
		t.Fatal(err)
	}
	if status := p.call(t, adminKey, "DELETE /v1/tenants/acme", "", nil); status != 202 {
		t.Fatal(status)
	}
	p.run(t)
	type answer struct {
		State    string
		Progress struct{ Done, Total int64 }
	}
	var before answer
	p.eventually(t, "the end", func() bool {
		var now answer
		status := p.call(t, adminKey, "GET /v1/tenants/acme", "", &now)
		if status == 200 && (now.Progress.Done < before.Progress.Done || now.Progress.Total < before.Progress.Total || now.Progress.Done > now.Progress.Total) {
			t.Errorf("progress went from %+v to %+v", before, now)
		}
		if status == 200 {
			if now.Progress.Total == 5 && before.Progress.Total != 5 {
				close(e.seen)
			}
			before = now
		}
		return status == 404
	})
	if before.Progress.Total != 5 {
		t.Errorf("the last progress was %+v, want a total of 5", before)
	}
}

// While a tenant is erased that takes long, keys and tenants stay fresh.
func TestErasingStarvesNoRefresh(t *testing.T) {
	t.Parallel()
	db := servertest.Postgres(t)
	p, other := start(t, db), start(t, db)
	e := stuck{begun: make(chan struct{})}
	p.OnErase(e)
	key := p.create(t, adminKey, acmeKeys)
	if err := p.UseTenant(t.Context(), "large"); err != nil {
		t.Fatal(err)
	}
	if status := p.call(t, adminKey, "DELETE /v1/tenants/large", "", nil); status != 202 {
		t.Fatal(status)
	}
	p.run(t)
	<-e.begun
	if _, err := p.who(t, key.Key); err != nil {
		t.Fatal(err)
	}
	if status := other.call(t, adminKey, "DELETE /v1/tenants/acme", "", nil); status != 202 {
		t.Fatal(status)
	}
	p.eventually(t, "the process that erases learns of a deletion", func() bool {
		_, err := p.who(t, key.Key)
		return errors.Is(err, api.ErrUnauthenticated)
	})
}
