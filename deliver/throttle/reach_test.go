package throttle_test

import (
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/uuid"

	"github.com/fanfarehq/fanfare/deliver/throttle"
	"github.com/fanfarehq/fanfare/subscriptions"
)

func outageDesk(t *testing.T) *desk {
	return newDesk(t, throttle.Config{InFlight: 1024, BreakerAfter: 10}, nil)
}

// The breaker of a host goes by connections. What its endpoints answer is not their neighbours' fault.
func TestAHostsBreakerKnowsConnectionsOnly(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		d := newDesk(t, throttle.Config{InFlight: 1024, BreakerAfter: 10}, nil)
		const url = "https://shared.test/"
		neighbour := subOf("a", url+"neighbour", 10)
		untried := throttle.Result{Endpoint: throttle.Fails}
		for _, r := range []throttle.Result{oops, heavy, timeout, untried} {
			d.send(9, subOf("a", url, 10), r)
		}
		d.send(1, neighbour, fine)
		for _, s := range many(10, "a", url) {
			d.send(1, s, away)
		}
		d.refused(neighbour, throttle.BreakerOpen)
		if d.said("host unreachable") != 1 {
			t.Errorf("logged %q", d.logged)
		}
		d.Sweep()
		time.Sleep(throttle.FirstOpen * 11 / 10)
		d.send(1, subOf("a", url, 10), oops)
		if !slices.Equal(d.recovered, []*subscriptions.Subscription{neighbour}) || d.said("host reachable again") != 1 {
			t.Errorf("got %v, want the one that the host held up; logged %q", d.recovered, d.logged)
		}
	})
}

// A host is a scheme, a name in whatever case, and a port.
func TestWhatAHostIs(t *testing.T) {
	t.Parallel()
	for url, want := range map[string]struct {
		same, others []string
	}{
		"http://a.test/x": {
			same:   []string{"http://a.test", "http://A.Test/y", "HTTP://a.test:80?z", "http://u:p@a.test#f"},
			others: []string{"https://a.test/x", "http://a.test:443", "http://a.test:8080/x", "http://b.test/@a.test"},
		},
		"https://a.test": {
			same:   []string{"https://a.test:443/", "https://u@A.test/"},
			others: []string{"http://a.test", "https://a.test:80", "https://a.test.b.test"},
		},
		"https://[2001:db8::1]:8443/": {
			same:   []string{"https://[2001:DB8::1]:8443"},
			others: []string{"https://[2001:db8::1]"},
		},
	} {
		synctest.Test(t, func(t *testing.T) {
			d := outageDesk(t)
			for _, s := range many(10, "a", url) {
				d.send(1, s, away)
			}
			for _, u := range append(want.same, url) {
				d.refused(subOf("b", u, 1), throttle.BreakerOpen)
			}
			for _, u := range want.others {
				d.send(1, subOf("b", u, 1), fine)
			}
		})
	}
}

// The verdict of other tenants does not stop one whose own last connection worked: its own probe must fail first.
func TestATenantsOwnConnectionCounts(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		d := outageDesk(t)
		const url = "https://shared.test/"
		victim, unlucky, stranger := subOf("v", url, 10), subOf("u", url, 10), subOf("s", url, 10)
		d.send(1, victim, oops) // It answers: that is a connection.
		d.send(1, unlucky, fine)
		for _, s := range many(10, "a", url) {
			d.send(1, s, away)
		}
		d.refused(stranger, throttle.BreakerOpen)
		probe := d.enter(unlucky)
		d.refused(unlucky, throttle.BreakerOpen)
		probe.Release(t.Context(), away)
		d.refused(unlucky, throttle.BreakerOpen)
		d.enter(victim).Cancel() // Not made, so there is another.
		d.send(1, victim, fine)
		for _, s := range []*subscriptions.Subscription{victim, unlucky, stranger} {
			d.send(1, s, fine)
		}
	})
}

// silence makes hosts of a tenant that answer, and then not any more.
func (d *desk) silence(tenant string, hosts int) (excused bool) {
	d.t.Helper()
	subs := make([]*subscriptions.Subscription, hosts)
	for i := range subs {
		subs[i] = subOf(tenant, fmt.Sprintf("https://%s-silent-%d.test/", tenant, i), 10)
		d.send(1, subs[i], fine)
	}
	for _, s := range subs {
		excused = d.send(1, s, away) || excused
	}
	return excused
}

// Hosts that never answered prove nothing, however many they are and whoever has them.
func TestHostsThatNeverAnsweredAreNoEvidence(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		d := outageDesk(t)
		for i := range 40 {
			if d.send(1, subOf(fmt.Sprint("tenant", i%4), fmt.Sprintf("https://h%d.invalid/", i), 1), away) || d.Down() {
				t.Fatal("there is an outage")
			}
		}
	})
}

// What the hosts of one tenant prove holds for that tenant.
func TestAnOutageOfOneTenantsHostsIsItsOwn(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		d := outageDesk(t)
		victim := subOf("v", "https://victim.test/", 10)
		if !d.silence("a", 6) || !d.Down() {
			t.Fatal("the outage was not noticed")
		}
		a := subOf("a", "https://a-other.test/", 10)
		d.enter(a).Cancel() // a probe
		d.refused(a, throttle.Connect)
		d.send(1, victim, away) // The victim's failures are its receiver's.
		if d.said("network outage began") != 1 {
			t.Errorf("logged %q", d.logged)
		}
		d.send(1, victim, fine)
		if d.Down() || d.said("network outage ended") != 1 {
			t.Errorf("an answer ends no outage; logged %q", d.logged)
		}
		d.send(1, a, fine)
	})
}

// bothSilent begins an outage for all.
func bothSilent(t *testing.T) *desk {
	d := outageDesk(t)
	list := append(many(3, "a", ""), many(3, "b", "")...)
	for _, s := range list {
		d.send(1, s, fine)
	}
	for _, s := range list {
		d.send(1, s, away)
	}
	if !d.Down() {
		t.Fatal("the outage was not noticed")
	}
	return d
}

// In an outage, failures count for nobody; hosts that were reached last go on, until they fail as well.
func TestHostsThatWereReachedLastGoOn(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		d := outageDesk(t)
		busy := subOf("v", "https://busy.test/", 10)
		d.send(1, busy, fine)
		list := append(many(3, "a", ""), many(3, "b", "")...)
		for _, s := range list {
			d.send(1, s, fine)
		}
		for _, s := range list {
			d.send(1, s, away)
		}
		for range 3 {
			d.enter(busy).Cancel()
		}
		if !d.send(1, busy, away) {
			t.Error("its failure counts although there is an outage")
		}
		d.enter(busy).Cancel() // a probe
		if wait := d.refused(busy, throttle.Connect); wait < 5*time.Second || wait > time.Minute {
			t.Errorf("comes back in %s", wait)
		}
	})
}

// Probes go by tenant and then by host, so that one tenant's many deliveries leave each other tenant its turn.
func TestProbesRotate(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		d := bothSilent(t)
		greedy, victim := many(10, "g", ""), subOf("v", "https://quiet.test/", 1)
		probes := make(map[*subscriptions.Subscription]int)
		ask := func(s *subscriptions.Subscription) {
			ticket, err := d.Line(throttle.Request{Subscription: s, Delivery: uuid.New()})
			if err == nil {
				probes[s]++
				ticket.Leave()
			}
		}
		const seconds = 40
		for range seconds * 10 {
			for _, s := range greedy {
				ask(s)
				ask(s)
			}
			ask(victim)
			time.Sleep(100 * time.Millisecond)
		}
		if n := probes[victim]; n < seconds/2-2 || n > seconds/2+2 {
			t.Errorf("one of two tenants had %d of %d probes, want half", n, seconds)
		}
		for _, s := range greedy {
			if n := probes[s]; n < 1 || n > 3 {
				t.Errorf("one of ten hosts of a tenant had %d of its %d probes", n, seconds/2)
			}
		}
	})
}

// An attempt is excused a bounded number of times; then it costs its step of the schedule.
func TestADeliveryIsExcusedABoundedNumberOfTimes(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		d := bothSilent(t)
		sub := subOf("a", "https://a-more.test/", 1)
		for excused := range throttle.MaxExcused + 2 {
			ticket, err := d.Enter(t.Context(), throttle.Request{Subscription: sub, Excused: excused})
			if err != nil {
				t.Fatal(err)
			}
			_, again := ticket.Release(t.Context(), away)
			if want := excused < throttle.MaxExcused; again != want {
				t.Errorf("excused %d times: excused again: %t, want %t", excused, again, want)
			}
			time.Sleep(time.Minute)
		}
	})
}

// One that fails now and then is no outage, and neither are many ports of one machine.
func TestWhatIsNoOutage(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		d := outageDesk(t)
		list := make([]*subscriptions.Subscription, 8)
		for i := range list {
			list[i] = subOf(fmt.Sprint("tenant", i), fmt.Sprintf("https://one.test:%d/", 8000+i), 1)
			d.send(1, list[i], fine)
		}
		for _, s := range list {
			d.send(1, s, away)
		}
		slow := many(8, "slow", "")
		for _, s := range slow {
			d.send(1, s, fine)
		}
		for _, s := range slow {
			d.send(1, s, away)
			time.Sleep(20 * time.Second)
		}
		if d.Down() {
			t.Error("there is an outage")
		}
	})
}
