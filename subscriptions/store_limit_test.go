package subscriptions_test

import (
	"errors"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/fanfarehq/fanfare/internal/api"
	"github.com/fanfarehq/fanfare/internal/egress"
	"github.com/fanfarehq/fanfare/internal/quota"
	"github.com/fanfarehq/fanfare/subscriptions"
)

func (b *bundle) limited(t *testing.T, cfg quota.Config) *subscriptions.Store {
	t.Helper()
	q, err := quota.New(cfg, quota.Deps{DB: b.db})
	if err != nil {
		t.Fatal(err)
	}
	s := subscriptions.New(b.db, b.ring, egress.Policy{})
	s.Limit(q)
	return s
}

// limitOf is the limit that an error names.
func limitOf(err error) string {
	if limit, ok := errors.AsType[*api.LimitError](err); ok {
		return limit.Limit
	}
	return ""
}

// However many processes create at once, the tenant has no more than it may.
func TestLimitOfSubscriptions(t *testing.T) {
	t.Parallel()
	b := setup(t)
	var made, refused atomic.Int64
	var all sync.WaitGroup
	for range 4 {
		s := b.limited(t, quota.Config{Subscriptions: 5})
		for range 5 {
			all.Go(func() {
				switch err := s.Create(t.Context(), plain("acme", "*")); {
				case err == nil:
					made.Add(1)
				case limitOf(err) == "subscriptions":
					refused.Add(1)
				default:
					t.Error(err)
				}
			})
		}
	}
	all.Wait()
	if made.Load() != 5 || refused.Load() != 15 {
		t.Errorf("%d made, %d refused", made.Load(), refused.Load())
	}
	if err := b.limited(t, quota.Config{Subscriptions: 5}).Create(t.Context(), plain("globex", "*")); err != nil {
		t.Errorf("another tenant: %v", err)
	}
}

// Subscriptions that are created and deleted in a loop are bounded by their tombstones.
func TestTombstonesAreBounded(t *testing.T) {
	t.Parallel()
	b := setup(t)
	s := b.limited(t, quota.Config{Subscriptions: 1})
	const most = 10 // tombstones for each subscription that the tenant may have
	for n := 0; ; n++ {
		sub := plain("acme", "*")
		err := s.Create(t.Context(), sub)
		if limitOf(err) == "subscriptions" && n == most {
			return
		}
		if err != nil || n > most {
			t.Fatalf("after %d: %v", n, err)
		}
		if err := s.Delete(t.Context(), "acme", sub.ID); err != nil {
			t.Fatal(err)
		}
	}
}

func TestLimitOfSubscriptionBytes(t *testing.T) {
	t.Parallel()
	b := setup(t)
	s := b.limited(t, quota.Config{SubscriptionBytes: 20_000})
	large := plain("acme", "*")
	large.Headers = map[string]string{"X-A": strings.Repeat("a", 4000), "X-B": strings.Repeat("b", 4000)}
	if err := s.Create(t.Context(), large); err != nil {
		t.Fatal(err)
	}
	other := plain("acme", "*")
	if err := s.Create(t.Context(), other); err != nil {
		t.Fatal(err)
	}
	used, err := s.Usage(t.Context(), "acme")
	if err != nil || used[quota.Subscriptions] != 2 || used[quota.SubscriptionBytes] < 9000 || used[quota.SubscriptionBytes] > 11_000 {
		t.Errorf("used %v, %v", used, err)
	}
	grown := *other
	grown.Description = strings.Repeat("ä", 2000)
	grown.Headers = map[string]string{"X-A": strings.Repeat("a", 4000), "X-B": strings.Repeat("b", 4000)}
	if err := s.Update(t.Context(), &grown); limitOf(err) != "subscription_bytes" {
		t.Errorf("one grows: %v", err)
	}
	// The secrets count, and stay when they are not written.
	kept := *other
	kept.Name = "renamed"
	if err := s.Update(t.Context(), &kept); err != nil {
		t.Error(err)
	}
	// Beyond a limit that was made smaller, what shrinks is taken.
	small := b.limited(t, quota.Config{SubscriptionBytes: 100})
	shrunk := *large
	shrunk.Headers = nil
	if err := small.Update(t.Context(), &shrunk); err != nil {
		t.Errorf("one shrinks: %v", err)
	}
	if err := small.Create(t.Context(), plain("acme", "*")); limitOf(err) != "subscription_bytes" {
		t.Errorf("one more: %v", err)
	}
}

func TestLimitOfEventTypes(t *testing.T) {
	t.Parallel()
	s := setup(t).limited(t, quota.Config{EventTypes: 1})
	for _, tc := range []struct{ tenant, name, limit string }{
		{"acme", "a", ""}, {"acme", "b", "event_types"}, {"", "a", ""}, {"", "b", ""}, {"globex", "a", ""},
	} {
		err := s.CreateEventType(t.Context(), &subscriptions.EventType{Tenant: tc.tenant, Name: tc.name})
		if limitOf(err) != tc.limit || err != nil && tc.limit == "" {
			t.Errorf("%s of %q: %v", tc.name, tc.tenant, err)
		}
	}
}
