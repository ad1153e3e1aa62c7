package throttle_test

import (
	"database/sql"
	"errors"
	"testing"
	"time"

	"github.com/google/uuid"
	_ "github.com/lib/pq" // the driver

	"github.com/fanfarehq/fanfare/deliver/throttle"
	"github.com/fanfarehq/fanfare/subscriptions"
)

// While Postgres is away, a subscription that has a rate limit gets nothing.
func TestWithoutPostgresARateLimitLetsNothingThrough(t *testing.T) {
	t.Parallel()
	db, err := sql.Open("postgres", "postgres://127.0.0.1:1/none?sslmode=disable&connect_timeout=1")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = db.Close() })
	d := newDesk(t, throttle.Config{InFlight: 10}, db)
	sub := subOf("a", "https://a.test/", 10)
	sub.RateLimit = &subscriptions.RateLimit{Limit: 1000, Per: time.Second}
	_, err = d.Enter(t.Context(), throttle.Request{Subscription: sub, Delivery: uuid.New()})
	if refusal, ok := errors.AsType[throttle.Refusal](err); !ok || refusal.Reason != throttle.RateLimited || refusal.Wait <= 0 {
		t.Errorf("got %v, want that it is refused", err)
	}
	d.idle()
}
