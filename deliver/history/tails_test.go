package history

import (
	"context"
	"net/http"
	"strings"
	"testing"

	"github.com/google/uuid"

	"github.com/fanfarehq/fanfare/internal/api"
	"github.com/fanfarehq/fanfare/internal/quota"
)

// named takes "admin" for an admin's key, "operator" for one over all tenants, and any other text for a key of that tenant.
type named struct{}

func (named) Authenticate(_ context.Context, key string) (api.Caller, error) {
	switch key {
	case "admin":
		return api.Caller{Admin: true}, nil
	case "operator":
		return api.Caller{AllTenants: true, KeyID: "one", Scopes: []string{"deliveries:read"}}, nil
	}
	return api.Caller{Tenant: key, Scopes: []string{"deliveries:read"}}, nil
}

// One tenant's tails shut out no other's, and all tenants' together no admin.
func TestTailsOfATenant(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	tail := NewTail(h.JS, h.Log)
	quotas := must(quota.New(quota.Config{Tails: 2}, quota.Deps{DB: h.DB}))(t)
	tail.Limit(quotas)
	url, _ := serveTail(t, h, tail, named{})
	ctx, leave := context.WithCancel(t.Context())
	open := func(key string) (int, string) {
		t.Helper()
		req := must(http.NewRequestWithContext(ctx, http.MethodGet, url+"/v1/tail", nil))(t)
		req.Header.Set("X-API-Key", key)
		resp := must((&http.Client{Transport: &http.Transport{DisableKeepAlives: true}}).Do(req))(t)
		t.Cleanup(func() { resp.Body.Close() })
		text := make([]byte, 400)
		n, _ := resp.Body.Read(text)
		return resp.StatusCode, string(text[:n])
	}
	for _, key := range []string{"acme", "operator"} {
		for range 2 {
			if status, text := open(key); status != http.StatusOK {
				t.Fatalf("%s: %d %s", key, status, text)
			}
		}
		if status, text := open(key); status != 422 || !strings.Contains(text, `"location":"tails"`) {
			t.Errorf("a third one of %s: %d %s", key, status, text)
		}
	}
	if status, _ := open("globex"); status != http.StatusOK {
		t.Errorf("another tenant's: %d", status)
	}
	// As many as may be, of many tenants.
	tail.mu.Lock()
	for len(tail.readers) < tailMost-tailAdmins {
		tail.readers[newTailReader(uuid.NewString(), "")] = true
	}
	tail.mu.Unlock()
	if status, _ := open("initech"); status != http.StatusServiceUnavailable {
		t.Errorf("one more of a tenant: %d", status)
	}
	if status, _ := open("admin"); status != http.StatusOK {
		t.Errorf("an admin's: %d", status)
	}
	leave()
	h.Eventually("the tenant to have room again", func() bool {
		return quotas.Inside("acme", quota.Tails) == 0
	})
}
