package throttle_test

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/fanfarehq/fanfare/deliver/throttle"
)

func TestATenantAloneLeavesTheReserve(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		d := newDesk(t, throttle.Config{InFlight: 64}, nil)
		a := d.come(many(100, "a", "")...)
		if n := a.entered(); n != 56 {
			t.Errorf("a tenant alone has %d of 64 places, want 56", n)
		}
		b := d.come(many(8, "b", "")...)
		if n := b.entered(); n != 8 {
			t.Errorf("the other tenant has %d places at once, want the 8 of the reserve", n)
		}
		a.drain()
		b.drain()
		d.idle()
	})
}

// Beyond its share a tenant gets nothing of the reserve, although nothing else is free.
func TestTheReserveIsForTenantsBelowTheirShare(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		d := newDesk(t, throttle.Config{InFlight: 32}, nil)
		a := d.come(many(20, "a", "")...)
		b := d.come(many(20, "b", "")...) // The share of each of two is a third: 10.
		if na, nb := a.entered(), b.entered(); na != 20 || nb != 10 {
			t.Errorf("they have %d and %d of 32 places, want 20 and 10", na, nb)
		}
		if n := d.Free(); n != 2 {
			t.Errorf("%d places are free, want 2", n)
		}
		c := d.come(many(1, "c", "")...)
		if n := c.entered(); n != 1 {
			t.Error("a third tenant has to wait")
		}
		a.drain()
		b.drain()
		c.drain()
		d.idle()
	})
}

func TestAFreePlaceGoesToTheTenantThatHoldsFewest(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		d := newDesk(t, throttle.Config{InFlight: 64}, nil)
		a := d.come(many(100, "a", "")...)
		b := d.come(many(100, "b", "")...)
		inA, inB := a.entered(), b.entered()
		a.end(13, fine) // a has waited for longer, and has more that wait.
		if na, nb := a.entered(), b.entered(); na != inA-13 || nb != inB+13 {
			t.Errorf("the one that held %d has %d after 13 places were freed, the one that held %d has %d", inA, na, inB, nb)
		}
		a.drain()
		b.drain()
		a.drain()
		d.idle()
	})
}

func TestSubscriptionsOfATenantTakeTurns(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		d := newDesk(t, throttle.Config{InFlight: 8}, nil)
		full := d.come(many(7, "a", "")...)
		first := subOf("a", "https://first.test/", 100)
		quick := d.come(first, first)
		other := d.come(subOf("a", "https://other.test/", 100))
		full.end(2, fine)
		if n, m := quick.entered(), other.entered(); n != 1 || m != 1 {
			t.Errorf("of two freed places the subscriptions got %d and %d, want one each", n, m)
		}
		full.drain()
		quick.drain()
		other.drain()
		d.idle()
	})
}

// The endpoints of one host share three quarters of the worker, by tenant.
func TestLanesAreFairByTenant(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		d := newDesk(t, throttle.Config{InFlight: 64}, nil)
		shared := "https://chat.test/"
		a := d.come(many(180, "a", shared)...)
		if n := a.entered(); n != 42 {
			t.Errorf("a tenant alone has %d of the 48 places of a host, want 42", n)
		}
		b := d.come(many(6, "b", shared)...)
		if n := b.entered(); n != 6 {
			t.Errorf("the other tenant has %d places at the host at once, want the 6 of the reserve", n)
		}
		more := d.come(many(10, "b", shared)...)
		a.end(10, fine)
		if n := more.entered(); n != 10 {
			t.Errorf("of 10 freed places the other tenant got %d, want all", n)
		}
		c := d.come(many(8, "a", "")...) // at other hosts
		if n := c.entered(); n == 0 {
			t.Error("the host holds back deliveries to others")
		}
		for range 2 {
			a.drain()
			b.drain()
			c.drain()
			more.drain()
		}
		d.idle()
	})
}

func TestANewSubscriptionBeginsSlowly(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		d := newDesk(t, throttle.Config{InFlight: 1024}, nil)
		sub := subOf("a", "https://new.test/", 32)
		c := d.come(repeat(sub, 100)...)
		// Each quick answer doubles what it may have.
		for _, want := range []int{2, 4, 8, 16, 32, 32} {
			if n := c.entered(); n != want {
				t.Fatalf("got %d requests at once, want %d", n, want)
			}
			c.end(1, fine)
		}
		c.drain()
		d.idle()
	})
}

func TestASlowAnswerAddsOnePlace(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		d := newDesk(t, throttle.Config{InFlight: 1024, Patience: time.Hour}, nil)
		c := d.come(repeat(subOf("a", "https://slow.test/", 32), 18)...)
		for _, want := range []int{2, 3, 4} {
			if n := c.entered(); n != want {
				t.Fatalf("got %d requests at once, want %d", n, want)
			}
			time.Sleep(2 * throttle.SlowHold)
			c.end(1, fine)
		}
		time.Sleep(2 * throttle.SlowHold)
		n := c.entered()
		c.end(1, timeout)
		if got := c.entered(); got != n {
			t.Errorf("a timeout changed the requests at once from %d to %d", n, got)
		}
		c.drain()
		d.idle()
	})
}

// A quiet subscription that never used more than it began with is not remembered.
func TestWhatIsQuietIsForgotten(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		d := newDesk(t, throttle.Config{InFlight: 64}, nil)
		for _, sub := range many(50, "a", "") {
			d.send(3, sub, fine)
		}
		if _, subs, _, _ := d.Remembered(); subs != 0 {
			t.Errorf("%d subscriptions are remembered", subs)
		}
		time.Sleep(2 * throttle.Lately)
		d.Sweep()
		d.Sweep()
		if endpoints, subs, hosts, tenants := d.Remembered(); endpoints+subs+hosts+tenants != 0 {
			t.Errorf("%d endpoints, %d subscriptions, %d hosts and %d tenants are remembered", endpoints, subs, hosts, tenants)
		}
	})
}

// Of the deliveries that were put off before, few of one tenant wait in line at a time, so that a worker has room to lease
// those of others.
func TestFewDueDeliveriesOfATenantWait(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		d := newDesk(t, throttle.Config{InFlight: 256}, nil)
		slow := many(60, "a", "")
		full := d.come(append(slow, slow...)...) // two each: all that they may have
		waiting := 0
		var tickets []*throttle.Ticket
		for _, s := range append(slow, slow...) {
			ticket, err := d.Line(throttle.Request{Subscription: s, Due: true})
			if err != nil {
				continue
			}
			waiting++
			tickets = append(tickets, ticket)
		}
		if waiting != 256/8 {
			t.Errorf("%d wait, want %d", waiting, 256/8)
		}
		other := subOf("b", "https://b.test/", 1)
		holder := d.enter(other)
		ticket, err := d.Line(throttle.Request{Subscription: other, Due: true})
		if err != nil {
			t.Fatalf("another tenant's may not wait: %v", err)
		}
		for _, ticket := range append(tickets, ticket) {
			ticket.Leave()
		}
		holder.Cancel()
		full.drain()
		d.idle()
	})
}
