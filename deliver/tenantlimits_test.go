package deliver

import (
	"context"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/fanfarehq/fanfare/deliver/history"
	"github.com/fanfarehq/fanfare/deliver/outcome"
	"github.com/fanfarehq/fanfare/internal/api"
	"github.com/fanfarehq/fanfare/internal/quota"
	"github.com/fanfarehq/fanfare/subscriptions"
)

// quotas bound what tenants may do in the rig.
func (r *rig) quotas(cfg quota.Config) *quota.Quotas {
	r.t.Helper()
	return must(quota.New(cfg, quota.Deps{DB: r.db}))(r.t)
}

// A tenant's rate holds over all its subscriptions and all workers; another tenant's deliveries do not wait.
func TestDeliveriesPerSecondOfATenant(t *testing.T) {
	t.Parallel()
	const rate, each = 50, 60
	r := newRig(t)
	quotas := r.quotas(quota.Config{})
	quotas.Note("acme", quota.Limits{DeliveriesPerSecond: new(int64(rate))})
	var mu sync.Mutex
	var begun []int64
	for range 2 {
		p := r.parts(quick())
		p.deps.DB, p.deps.Quotas = r.open(), quotas
		p.deps.Poster = timedPoster{Attempter: p.deps.Poster, mu: &mu, begun: &begun}
		r.start(p)
	}
	r.recorder()
	receiver := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	t.Cleanup(receiver.Close)
	var subs []*subscriptions.Subscription
	for range 3 {
		subs = append(subs, r.subscribe(receiver.URL, func(s *subscriptions.Subscription) { s.MaxInFlight = 100 }))
	}
	start := time.Now().UnixMicro()
	for _, sub := range subs {
		r.sendAll(each, sub)
	}
	for _, sub := range subs {
		r.all(sub, each, outcome.Delivered)
	}
	mu.Lock()
	defer mu.Unlock()
	if len(begun) != len(subs)*each {
		t.Errorf("%d attempts for %d deliveries", len(begun), len(subs)*each)
	}
	noneTooSoon(t, begun, start, subscriptions.RateLimit{Limit: rate, Per: time.Second})
	// What forgets the limits of subscriptions that are gone leaves the tenant's.
	if n := r.rateLimits(); n != 1 {
		t.Errorf("%d rate limits are kept, want the tenant's", n)
	}
}

// rateLimits forgets what is gone and returns how many rate limits there are.
func (r *rig) rateLimits() int {
	r.t.Helper()
	p := r.parts(quick())
	w := must(NewWorker(p.cfg, p.deps))(r.t)
	if err := w.gate.Forget(r.t.Context()); err != nil {
		r.t.Fatal(err)
	}
	return r.count(`SELECT count(*) FROM rate_limits`)
}

// named takes "admin" for an admin's key, and any other text for a key of that tenant.
type named struct{}

func (named) Authenticate(_ context.Context, key string) (api.Caller, error) {
	if key == "admin" {
		return api.Caller{Admin: true}, nil
	}
	return api.Caller{Tenant: key, Scopes: []string{"deliveries:read"}}, nil
}

// One tenant's tails shut out no other's, and all tenants' together no admin.
func TestTailsOfATenant(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	tail := history.NewTail(r.js, r.log)
	tail.Limit(r.quotas(quota.Config{Tails: 2}))
	s := r.run(tail.Run)
	mux := http.NewServeMux()
	tail.Register(api.New(mux, api.Config{Title: "t", Version: "1"}, named{}))
	server := httptest.NewServer(mux)
	t.Cleanup(func() { _ = s.stop(); server.Close() })
	r.eventually("the tail to run", func() bool {
		tail.Mu.Lock()
		defer tail.Mu.Unlock()
		return tail.Ends != nil
	})
	ctx, leave := context.WithCancel(t.Context())
	open := func(key string) (int, string) {
		t.Helper()
		req := must(http.NewRequestWithContext(ctx, http.MethodGet, server.URL+"/v1/tail", nil))(t)
		req.Header.Set("X-API-Key", key)
		resp := must((&http.Client{Transport: &http.Transport{DisableKeepAlives: true}}).Do(req))(t)
		t.Cleanup(func() { resp.Body.Close() })
		text := make([]byte, 400)
		n, _ := resp.Body.Read(text)
		return resp.StatusCode, string(text[:n])
	}
	for range 2 {
		if status, text := open("acme"); status != http.StatusOK {
			t.Fatalf("%d %s", status, text)
		}
	}
	if status, text := open("acme"); status != 422 || !strings.Contains(text, `"location":"tails"`) {
		t.Errorf("a third one: %d %s", status, text)
	}
	if status, _ := open("globex"); status != http.StatusOK {
		t.Errorf("another tenant's: %d", status)
	}
	// As many as may be, of many tenants.
	tail.Mu.Lock()
	for len(tail.Readers) < history.TailMost-history.TailAdmins {
		tail.Readers[history.NewTailReader(uuid.NewString(), "")] = true
	}
	tail.Mu.Unlock()
	if status, _ := open("initech"); status != http.StatusServiceUnavailable {
		t.Errorf("one more of a tenant: %d", status)
	}
	if status, _ := open("admin"); status != http.StatusOK {
		t.Errorf("an admin's: %d", status)
	}
	leave()
	r.eventually("the tenant to have room again", func() bool {
		return tail.Quotas.Inside("acme", quota.Tails) == 0
	})
}
