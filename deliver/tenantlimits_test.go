package deliver_test

import (
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
	"time"

	"github.com/fanfarehq/fanfare/deliver/outcome"
	"github.com/fanfarehq/fanfare/internal/quota"
	"github.com/fanfarehq/fanfare/subscriptions"
)

// quotas bound what tenants may do in the rig.
func (r *rig) quotas(cfg quota.Config) *quota.Quotas {
	r.T.Helper()
	return must(quota.New(cfg, quota.Deps{DB: r.DB}))(r.T)
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
		p.deps.DB, p.deps.Quotas = r.Open(), quotas
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
	r.T.Helper()
	if err := r.gate().Forget(r.T.Context()); err != nil {
		r.T.Fatal(err)
	}
	return r.Count(`SELECT count(*) FROM rate_limits`)
}
