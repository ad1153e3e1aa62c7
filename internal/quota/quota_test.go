package quota_test

import (
	"database/sql"
	"errors"
	"math"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/fanfarehq/fanfare/internal/api"
	"github.com/fanfarehq/fanfare/internal/quota"
	"github.com/fanfarehq/fanfare/internal/servertest"
)

// clock stands still until it is moved.
type clock struct {
	mu sync.Mutex
	at time.Time
}

func (c *clock) now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.at
}

func (c *clock) advance(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.at = c.at.Add(d)
}

func start(t *testing.T, db *sql.DB, cfg quota.Config) (*quota.Quotas, *clock) {
	t.Helper()
	c := &clock{at: time.Now()}
	q, err := quota.New(cfg, quota.Deps{DB: db, Now: c.now})
	if err != nil {
		t.Fatal(err)
	}
	return q, c
}

// take takes one at a time until it is refused.
func take(t *testing.T, q *quota.Quotas, tenant string) (n int, refused *api.LimitError) {
	t.Helper()
	for n < 10_000 {
		if err := q.Take(tenant, 1); err != nil {
			if !errors.As(err, &refused) {
				t.Fatal(err)
			}
			return n, refused
		}
		n++
	}
	return n, nil
}

func TestRateOfOneProcess(t *testing.T) {
	t.Parallel()
	q, c := start(t, servertest.Postgres(t), quota.Config{EventsPerSecond: 100})
	n, refused := take(t, q, "acme")
	if n != 100 || refused == nil || refused.Limit != "events_per_second" || refused.RetryAfter != time.Second {
		t.Errorf("%d, then %+v", n, refused)
	}
	if n, _ := take(t, q, "globex"); n != 100 {
		t.Errorf("another tenant: %d", n)
	}
	c.advance(500 * time.Millisecond)
	if n, _ := take(t, q, "acme"); n != 50 {
		t.Errorf("after half a second: %d", n)
	}
	// A request that is larger than the rate passes, and is paid for by those after it.
	c.advance(10 * time.Second)
	if err := q.Take("acme", 350); err != nil {
		t.Error(err)
	}
	c.advance(2 * time.Second)
	if n, refused := take(t, q, "acme"); n != 0 || refused.RetryAfter != time.Second {
		t.Errorf("after a large one: %d, %v", n, refused)
	}
	c.advance(time.Second)
	if n, _ := take(t, q, "acme"); n != 50 {
		t.Errorf("after it was paid for: %d", n)
	}
}

// Processes that all have more than they may come to the limit together; one that stops leaves its share to the others.
func TestRateOverProcesses(t *testing.T) {
	t.Parallel()
	db := servertest.Postgres(t)
	a, clockA := start(t, db, quota.Config{EventsPerSecond: 100})
	b, clockB := start(t, db, quota.Config{EventsPerSecond: 100})
	second := func(busyA, busyB bool) (sum int) {
		for _, p := range []struct {
			q    *quota.Quotas
			c    *clock
			busy bool
		}{{a, clockA, busyA}, {b, clockB, busyB}} {
			p.c.advance(time.Second)
			if p.busy {
				n, _ := take(t, p.q, "acme")
				sum += n
			}
		}
		for _, q := range []*quota.Quotas{a, b, a, b} { // each learns of this second
			if q == a && !busyA || q == b && !busyB {
				continue
			}
			if err := q.Share(t.Context()); err != nil {
				t.Fatal(err)
			}
			if q == a {
				_ = a.Take("acme", 0)
			}
		}
		return sum
	}
	_ = second(true, true) // they do not know of each other yet
	if sum := second(true, true); sum > 110 || sum < 90 {
		t.Errorf("together: %d", sum)
	}
	if _, err := db.Exec(`UPDATE event_rates SET at = at - interval '4 seconds'`); err != nil { // nobody goes on
		t.Fatal(err)
	}
	_ = second(true, false)
	if sum := second(true, false); sum < 90 {
		t.Errorf("one alone: %d", sum)
	}
}

func TestOwnLimits(t *testing.T) {
	t.Parallel()
	db := servertest.Postgres(t)
	q, _ := start(t, db, quota.Config{Keys: 7})
	if _, err := db.Exec(`INSERT INTO tenants (tenant, limits, limits_at) VALUES ('acme', '{"keys": 3, "tails": 0}', now()), ('plain', NULL, NULL)`); err != nil {
		t.Fatal(err)
	}
	if err := q.Refresh(t.Context()); err != nil {
		t.Fatal(err)
	}
	acme, plain := q.Of("acme"), q.Of("plain")
	if acme.Most(quota.Keys) != 3 || acme.Most(quota.Tails) != 0 || acme.Most(quota.Replays) != math.MaxInt64 || plain.Most(quota.Keys) != 7 {
		t.Errorf("%+v, %+v", acme, plain)
	}
	if _, err := q.Enter("acme", quota.Tails); err == nil {
		t.Error("entered what has no place")
	}
	if _, err := db.Exec(`UPDATE tenants SET limits = '{"tails": 1}', limits_at = now() WHERE tenant = 'acme'`); err != nil {
		t.Fatal(err)
	}
	if err := q.Refresh(t.Context()); err != nil {
		t.Fatal(err)
	}
	leave, err := q.Enter("acme", quota.Tails)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := q.EnterSoon("acme", quota.Tails); err == nil || q.Inside("acme", quota.Tails) != 1 {
		t.Errorf("a second one: %v", err)
	}
	leave()
	if q.Inside("acme", quota.Tails) != 0 {
		t.Error("nobody left")
	}
}

func TestConfigNamesWhatIsWrong(t *testing.T) {
	t.Parallel()
	cfg := quota.DefaultConfig()
	cfg.Tails = -1
	if err := cfg.Validate(); err == nil || !strings.Contains(err.Error(), "FANFARE_LIMIT_TAILS") {
		t.Errorf("got %v", err)
	}
}
