package history_test

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/fanfarehq/fanfare/deliver/history"
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
	tail := history.NewTail(h.JS, h.Log)
	quotas := must(quota.New(quota.Config{Tails: 2}, quota.Deps{DB: h.DB}))(t)
	tail.Limit(quotas)
	url, _ := serveTail(t, h, tail, named{})
	ctx, leave := context.WithCancel(t.Context())
	try := func(key string) (int, string) {
		t.Helper()
		req := must(http.NewRequestWithContext(ctx, http.MethodGet, url+"/v1/tail", nil))(t)
		req.Header.Set("X-API-Key", key)
		resp := must((&http.Client{Transport: &http.Transport{DisableKeepAlives: true}}).Do(req))(t)
		t.Cleanup(func() { resp.Body.Close() })
		text := make([]byte, 400)
		n, _ := resp.Body.Read(text)
		return resp.StatusCode, string(text[:n])
	}
	open(ctx, t, url, "globex", "") // Now it runs.
	for _, key := range []string{"acme", "operator"} {
		for range 2 {
			if status, text := try(key); status != http.StatusOK {
				t.Fatalf("%s: %d %s", key, status, text)
			}
		}
		if status, text := try(key); status != 422 || !strings.Contains(text, `"location":"tails"`) {
			t.Errorf("a third one of %s: %d %s", key, status, text)
		}
	}
	if status, _ := try("globex"); status != http.StatusOK {
		t.Errorf("another tenant's: %d", status)
	}
	// As many as may be, of many tenants: the last 20 of 100 are admins'.
	for n := range 100 - 20 - 6 {
		if status, text := try(fmt.Sprintf("tenant-%d", n)); status != http.StatusOK {
			t.Fatalf("tenant %d: %d %s", n, status, text)
		}
	}
	if status, _ := try("initech"); status != http.StatusServiceUnavailable {
		t.Errorf("one more of a tenant: %d", status)
	}
	if status, _ := try("admin"); status != http.StatusOK {
		t.Errorf("an admin's: %d", status)
	}
	leave()
	h.Eventually("the tenant to have room again", func() bool {
		return quotas.Inside("acme", quota.Tails) == 0
	})
}
