package access_test

import (
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/fanfarehq/fanfare/internal/access"
	"github.com/fanfarehq/fanfare/internal/quota"
	"github.com/fanfarehq/fanfare/internal/servertest"
)

func withQuotas(t *testing.T, cfg quota.Config) func(*access.Config, *access.Deps) {
	return func(_ *access.Config, d *access.Deps) {
		var err error
		if d.Quotas, err = quota.New(cfg, quota.Deps{DB: d.DB}); err != nil {
			t.Fatal(err)
		}
	}
}

type limitAnswer struct {
	Type, Detail string
	Errors       []struct{ Location string }
}

// However many processes make keys at once, the tenant has no more than it may.
func TestLimitOfKeys(t *testing.T) {
	t.Parallel()
	db := servertest.Postgres(t)
	var made, refused atomic.Int64
	var all sync.WaitGroup
	for range 4 {
		p := start(t, db, withQuotas(t, quota.Config{Keys: 5}))
		for range 5 {
			all.Go(func() {
				var out limitAnswer
				switch status := p.call(t, adminKey, "POST /v1/keys", acmeKeys, &out); {
				case status == http.StatusCreated:
					made.Add(1)
				case status == 422 && strings.HasSuffix(out.Type, "/problems/limit") && len(out.Errors) == 1 && out.Errors[0].Location == "keys":
					refused.Add(1)
				default:
					t.Errorf("got %d %+v", status, out)
				}
			})
		}
	}
	all.Wait()
	if made.Load() != 5 || refused.Load() != 15 {
		t.Errorf("%d made, %d refused", made.Load(), refused.Load())
	}
}

// Keys that ended make room, and do not pile up.
func TestEndedKeysMakeRoom(t *testing.T) {
	t.Parallel()
	db := servertest.Postgres(t)
	p := start(t, db, withQuotas(t, quota.Config{Keys: 2}))
	p.create(t, adminKey, `{"name":"n","tenant":"acme","scopes":["keys:write"],"expires_at":"`+time.Now().Add(time.Hour).UTC().Format(time.RFC3339)+`"}`)
	for range 6 {
		k := p.create(t, adminKey, acmeKeys)
		if status := p.call(t, adminKey, "DELETE /v1/keys/"+k.ID, "", nil); status != http.StatusNoContent {
			t.Fatal(status)
		}
	}
	p.create(t, adminKey, `{"name":"n","admin":true}`)
	var rows int
	if err := db.QueryRow(`SELECT count(*) FROM keys WHERE NOT admin`).Scan(&rows); err != nil || rows > 4 {
		t.Errorf("%d keys are kept, %v", rows, err)
	}
}

func TestLimitsOfATenant(t *testing.T) {
	t.Parallel()
	p := start(t, servertest.Postgres(t), withQuotas(t, quota.Config{Keys: 1}))
	type tenant struct {
		Limits, Usage map[string]*int64
		Name          string
	}
	var out tenant
	if status := p.call(t, adminKey, "PUT /v1/tenants/acme", `{"name":"Acme","limits":{"keys":2,"tails":null}}`, &out); status != 200 || *out.Limits["keys"] != 2 {
		t.Fatalf("%d %+v", status, out)
	}
	p.create(t, adminKey, acmeKeys)
	p.create(t, adminKey, acmeKeys)
	if status := p.call(t, adminKey, "POST /v1/keys", acmeKeys, nil); status != 422 {
		t.Errorf("a third key: %d", status)
	}
	// Without limits they stay; each that is left out is the default.
	p.call(t, adminKey, "PUT /v1/tenants/acme", `{"name":"Acme Inc."}`, nil)
	out = tenant{}
	p.call(t, adminKey, "GET /v1/tenants/acme", "", &out)
	if out.Limits["keys"] == nil || *out.Limits["keys"] != 2 || len(out.Limits) != 8 || out.Limits["tails"] != nil || len(out.Usage) != 8 || *out.Usage["keys"] != 2 {
		t.Errorf("got %+v", out)
	}
	p.call(t, adminKey, "PUT /v1/tenants/acme", `{"limits":{}}`, &out)
	if out.Limits["keys"] != nil {
		t.Errorf("got %+v", out)
	}
	for _, body := range []string{`{"limits":{"keys":-1}}`, `{"limits":{"events_per_second":0}}`, `{"limits":{"unknown":1}}`, `{"limits":{"keys":"2"}}`} {
		if status := p.call(t, adminKey, "PUT /v1/tenants/acme", body, nil); status != 422 {
			t.Errorf("%s: %d", body, status)
		}
	}
}
