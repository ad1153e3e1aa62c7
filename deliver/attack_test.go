package deliver_test

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/fanfarehq/fanfare/deliver/outcome"
	"github.com/fanfarehq/fanfare/internal/event"
	"github.com/fanfarehq/fanfare/internal/servertest"
	"github.com/fanfarehq/fanfare/subscriptions"
)

// unharmed sends events of a tenant to one subscription and demands that each is delivered at once, at its first
// attempt, whatever others do. Their p99, from the outbox to the ledger, is logged.
func (r *rig) unharmed(events int, sub *subscriptions.Subscription) {
	r.T.Helper()
	watch := newStopwatch()
	for range events {
		e := r.eventOf(sub.Tenant)
		watch.start(e.ID)
		id := r.send(e, sub)
		if row := r.ended(id, outcome.Delivered, outcome.ReasonOK); row.Attempts != 1 {
			r.T.Errorf("a delivery of %s took %d attempts", sub.Tenant, row.Attempts)
		}
		watch.stop(e.ID)
	}
	r.T.Logf("p99 of %d deliveries of %s: %s", events, sub.Tenant, watch.p99())
}

// stuck makes a receiver that answers below /fast, and elsewhere when released.
func stuck(t *testing.T, release <-chan struct{}) *servertest.Receiver {
	return servertest.NewReceiver(t, servertest.By(func(req servertest.Request) servertest.Answer {
		if strings.HasPrefix(req.Path, "/fast") {
			return servertest.Status(200)
		}
		return servertest.After(release, servertest.Status(200))
	}))
}

// patientOf gives a subscription to a tenant, and a timeout that no test reaches.
func patientOf(tenant string) func(*subscriptions.Subscription) {
	return func(s *subscriptions.Subscription) { s.Tenant, s.Timeout = tenant, subscriptions.MaxTimeout }
}

// A tenant makes new subscriptions to slow receivers again and again, which hold all that they are given until the
// test ends. A second tenant's deliveries go their way all the time. FANFARE_TEST_PLACES makes it larger, to measure with.
func TestFreshSlowSubscriptionsLeaveOthersAlone(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	cfg := sparing()
	places := size(t, "FANFARE_TEST_PLACES", 64)
	cfg.InFlight, cfg.HandOff, cfg.Lease = places, 100*time.Millisecond, time.Minute
	p := r.parts(cfg)
	attempts := &countingPoster{Attempter: p.deps.Poster}
	p.deps.Poster = attempts
	r.start(p)
	r.recorder()
	release := make(chan struct{})
	t.Cleanup(func() { close(release) })
	victim := r.subscribe(servertest.NewReceiver(t).URL, of("victim"))
	r.unharmed(10, victim)
	for range 3 {
		var fresh []*subscriptions.Subscription
		for range 4 {
			slow := stuck(t, release)
			for i := range max(5, places/64) {
				fresh = append(fresh, r.subscribe(fmt.Sprintf("%s/slow%d", slow.URL, i), patientOf("attacker")))
			}
		}
		for range 40 {
			r.sendTo("attacker", fresh)
		}
		r.unharmed(10, victim)
	}
	r.Eventually("the attacker to have what it can get", func() bool {
		return int(attempts.now.Load()) >= min(places*7/8, 3*4*max(5, places/64)*2)
	})
	r.unharmed(10, victim)
	if n := r.Count(`SELECT count(*) FROM deliveries WHERE tenant = 'attacker'`); n > 0 {
		t.Errorf("%d of the attacker's deliveries have ended: the test says nothing", n)
	}
}

// A tenant has many slow endpoints at a host that a second tenant has a quick one at.
func TestSlowEndpointsOfASharedHostLeaveOthersAlone(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	cfg := sparing()
	places := size(t, "FANFARE_TEST_PLACES", 64)
	cfg.InFlight, cfg.HandOff, cfg.Lease = places, 100*time.Millisecond, time.Minute
	r.worker(cfg)
	r.recorder()
	release := make(chan struct{})
	t.Cleanup(func() { close(release) })
	shared := stuck(t, release)
	victim := r.subscribe(shared.URL+"/fast", of("victim"))
	r.unharmed(10, victim)
	var slow []*subscriptions.Subscription
	for i := range max(50, places*3/8) {
		slow = append(slow, r.subscribe(fmt.Sprintf("%s/slow%d", shared.URL, i), patientOf("attacker")))
	}
	for range 10 {
		r.sendTo("attacker", slow)
	}
	shared.Wait(min(places*3/4*7/8, 2*len(slow))) // of the lane, but for the reserve
	r.unharmed(20, victim)
	if n := r.Count(`SELECT count(*) FROM deliveries WHERE tenant = 'attacker'`); n > 0 {
		t.Errorf("%d of the attacker's deliveries have ended: the test says nothing", n)
	}
}

// A tenant sends to hosts that are not there, and to some that were and are not any more. Second tenants, a busy and
// a quiet one, are never put off.
func TestDeadHostsOfOneTenantAreNoOutageOfOthers(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	w := r.worker(sparing())
	r.recorder()
	busy := r.subscribe(servertest.NewReceiver(t).URL, of("busy"))
	quiet := r.subscribe(servertest.NewReceiver(t).URL, of("quiet"))
	var dead []*subscriptions.Subscription
	for i := range 12 {
		dead = append(dead, r.subscribe(fmt.Sprintf("http://127.0.1.%d:9/", i+1), of("attacker")))
	}
	was := r.vanished(6, "127.0.2", of("attacker"))
	stop := make(chan struct{})
	var attack sync.WaitGroup
	task := r.task(&event.Event{}, append(dead, was...)...)
	attack.Go(func() {
		tick := time.NewTicker(50 * time.Millisecond)
		defer tick.Stop()
		for {
			next := task
			next.Event = *r.eventOf("attacker")
			_ = r.outbox.Send(context.Background(), next)
			select {
			case <-tick.C:
			case <-stop:
				return
			}
		}
	})
	r.Eventually("an outage, of the attacker's own", func() bool { return w.metric("fanfare_network_outage") == 1 })
	r.unharmed(40, busy)
	r.unharmed(10, quiet)
	close(stop)
	attack.Wait()
	if n := r.Count(`SELECT count(*) FROM deferrals WHERE tenant <> 'attacker' AND reason <> 'busy'`); n > 0 {
		t.Errorf("%d deliveries of others were put off", n)
	}
}

// sendTo hands an event over for many subscriptions, in tasks of the usual size.
func (r *rig) sendTo(tenant string, subs []*subscriptions.Subscription) {
	r.T.Helper()
	e := r.eventOf(tenant)
	for len(subs) > 0 {
		n := min(len(subs), 50)
		r.send(e, subs[:n]...)
		subs = subs[n:]
	}
}
