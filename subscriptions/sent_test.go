package subscriptions_test

import (
	"errors"
	"slices"
	"testing"

	"github.com/google/uuid"

	"github.com/fanfarehq/fanfare/internal/changes"
	"github.com/fanfarehq/fanfare/subscriptions"
)

// A subscription is read as requests were sent by it, without what is confidential, for as long as that is known.
func TestSubscriptionsAsRequestsWereSent(t *testing.T) {
	t.Parallel()
	b := setup(t)
	past := subscriptions.Past{Changes: changes.NewLog(b.db), Directory: b.dir}
	s := plain("acme", "a")
	s.URL, s.Headers = "https://example.com/hook?token=hidden", map[string]string{"X-Env": "hidden"}
	s.Auth = &subscriptions.Auth{Type: subscriptions.AuthBearer, Token: "hidden-token"}
	if err := b.store.Create(t.Context(), s); err != nil {
		t.Fatal(err)
	}
	first := s.Revision
	s.URL, s.Auth = "https://example.com/other", nil
	if err := b.store.Update(t.Context(), s); err != nil {
		t.Fatal(err)
	}
	vendors := plain("acme", "a")
	vendors.Dialect, vendors.PayloadFormat = "leat", "leat"
	if err := b.store.Create(t.Context(), vendors); err != nil {
		t.Fatal(err)
	}
	bulk := plain("acme", "a") // has no history
	bulk.Headers = map[string]string{"X-Env": "hidden"}
	if _, err := b.store.CreateMany(t.Context(), slices.Values([]*subscriptions.Subscription{bulk})); err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		sub      *subscriptions.Subscription
		revision int64
		url      string
		auth     bool
		signed   bool
	}{
		{s, first, "https://example.com/hook?token=***", true, true},
		{s, s.Revision, "https://example.com/other", false, true},
		{vendors, vendors.Revision, vendors.URL, false, false},
		{bulk, bulk.Revision, bulk.URL, false, true},
	} {
		got, err := past.At(t.Context(), "acme", tc.sub.ID, tc.revision)
		if err != nil || got.URL != tc.url || (got.Auth != nil) != tc.auth || got.Signed != tc.signed || len(got.Secrets) > 0 {
			t.Errorf("got %+v, error %v, want %+v", got, err, tc)
			continue
		}
		if value, ok := got.Headers["X-Env"]; ok && value != subscriptions.Mask || got.Auth != nil && got.Auth.Token != "" {
			t.Errorf("confidential: %+v", got)
		}
	}
	if err := b.store.Delete(t.Context(), "acme", s.ID); err != nil {
		t.Fatal(err)
	}
	if got, err := past.At(t.Context(), "acme", s.ID, first); err != nil || got.Revision != first {
		t.Errorf("of a deleted one: got %+v, error %v", got, err)
	}
	for what, ask := range map[string]func() (subscriptions.Sent, error){
		"another tenant's":    func() (subscriptions.Sent, error) { return past.At(t.Context(), "globex", s.ID, first) },
		"unknown":             func() (subscriptions.Sent, error) { return past.At(t.Context(), "acme", uuid.New(), first) },
		"bulk, other version": func() (subscriptions.Sent, error) { return past.At(t.Context(), "acme", bulk.ID, bulk.Revision-1) },
	} {
		if got, err := ask(); !errors.Is(err, changes.ErrNone) {
			t.Errorf("%s: got %+v, error %v", what, got, err)
		}
	}
}
