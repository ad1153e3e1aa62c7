package deliver

import (
	"strconv"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/fanfarehq/fanfare/deliver/ledger"
)

// This file needs the inside: whose turn it is among tenants is a rule of three queues in memory, which from outside shows only as
// an order of requests that a slow machine disturbs.

// The allowance is used up and comes back.
func TestAllowance(t *testing.T) {
	t.Parallel()
	now := time.Unix(1_700_000_000, 0)
	a := newAllowance(func() time.Time { return now })
	if !a.take("a", allowedAtOnce) || a.take("a", 1) {
		t.Error("a tenant may have its burst and no more")
	}
	if !a.take("b", 1) {
		t.Error("another tenant's allowance is its own")
	}
	now = now.Add(time.Second)
	if !a.take("a", allowedPerSecond) || a.take("a", 1) {
		t.Error("after a second, a second's allowance is there again")
	}
	for i := range 5000 {
		a.take(strconv.Itoa(i), 1)
		now = now.Add(time.Second)
	}
	if len(a.used) > 2048 {
		t.Errorf("%d tenants are remembered", len(a.used))
	}
}

// The backlog leaves room for other tasks, and the tenant that has the least in hand is next.
func TestInHand(t *testing.T) {
	t.Parallel()
	h := newInHand(800)
	take := func(tenant string, weight int) <-chan error {
		done := make(chan error, 1)
		go func() { done <- h.acquire(t.Context(), tenant, weight) }()
		return done
	}
	waits := func(n int) {
		for {
			h.mu.Lock()
			have := 0
			for _, of := range h.tenants {
				have += len(of.queue)
			}
			h.mu.Unlock()
			if have == n {
				return
			}
		}
	}
	for _, weight := range []int{600, 100} {
		if err := <-take("flood", weight); err != nil {
			t.Fatal(err)
		}
	}
	second := take("flood", 100)
	waits(1)
	first := take("late", 100)
	waits(2)
	if err := <-take("", 100); err != nil {
		t.Errorf("tasks of all tenants waited behind the backlog: %v", err)
	}
	h.release("", 100)
	h.release("flood", 100)
	if err := <-first; err != nil {
		t.Error(err)
	}
	select {
	case err := <-second:
		t.Error("the tenant with most in hand was served first", err)
	default:
	}
	h.release("flood", 600)
	if err := <-second; err != nil {
		t.Error(err)
	}
}

// The tenants that wait to be followed have their turn one after the other, and so have the subscriptions of each; a subscription
// is in one hand at a time and queued once, as it was last seen.
func TestFollowingIsFairByTenant(t *testing.T) {
	t.Parallel()
	q := changes{ready: make(chan struct{}, 1)}
	big := []uuid.UUID{uuid.New(), uuid.New(), uuid.New()}
	for i, id := range big {
		q.add(ledger.Change{ID: id, Tenant: "big", Revision: int64(i)})
	}
	small := uuid.New()
	q.add(ledger.Change{ID: small, Tenant: "small", Status: "paused", Revision: 10}, ledger.Change{ID: small, Tenant: "small", Status: "active", Revision: 11})
	take := func(want uuid.UUID) *ledger.Change {
		t.Helper()
		c, ok := q.next()
		if !ok || c.ID != want {
			t.Fatalf("got %+v, want %s", c, want)
		}
		return c
	}
	first := take(big[0])
	if c := take(small); c.Status != "active" {
		t.Errorf("got %+v, want it as it was last seen", c)
	} else {
		q.done(c, false)
	}
	q.done(first, true) // It has the next turn after its tenant's others.
	for _, id := range []uuid.UUID{big[1], big[2], big[0]} {
		q.done(take(id), false)
	}
	if c, ok := q.next(); ok {
		t.Errorf("got %+v, want none", c)
	}
	// A change that comes while its subscription is in hand waits for that.
	q.add(ledger.Change{ID: small, Tenant: "small", Revision: 12})
	c := take(small)
	q.add(ledger.Change{ID: small, Tenant: "small", Status: "disabled", Revision: 13})
	if c, ok := q.next(); ok {
		t.Errorf("got %+v while it is in hand", c)
	}
	q.done(c, true)
	if c := take(small); c.Status != "disabled" {
		t.Errorf("got %+v, want the newer change in the place of the one that was left", c)
	}
}
