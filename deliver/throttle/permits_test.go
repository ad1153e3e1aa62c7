package throttle

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/fanfarehq/fanfare/internal/group"
	"github.com/fanfarehq/fanfare/subscriptions"
)

// While Postgres is away nothing is sent beyond the limit.
func TestWithoutPostgresARateLimitLetsNothingThrough(t *testing.T) {
	t.Parallel()
	p := newPermits(nil, nil, time.Now)
	p.group = failingGroup()
	limit := &subscriptions.RateLimit{Limit: 1000, Per: time.Second}
	q := &Request{Subscription: &subscriptions.Subscription{ID: uuid.New(), RateLimit: limit}, Delivery: uuid.New()}
	for range 10 {
		var later Refusal
		if err := p.wait(t.Context(), q); !errors.As(err, &later) || later.Wait <= 0 || later.Reason != RateLimited {
			t.Fatalf("got %v, want that it is put off", err)
		}
	}
}

// failingGroup is a Postgres that is away.
func failingGroup() *group.Committer[*applicant] {
	return group.New(group.Limits{}, nil, func(context.Context, []*applicant) error { return errors.New("away") })
}
