package deliver_test

import (
	"testing"
	"time"

	"github.com/fanfarehq/fanfare/deliver/outcome"
	"github.com/fanfarehq/fanfare/internal/servertest"
	"github.com/fanfarehq/fanfare/subscriptions"
)

// move gives a subscription another URL.
func (r *rig) move(s *subscriptions.Subscription, url string) {
	r.T.Helper()
	fresh := must(r.store.Get(r.T.Context(), s.Tenant, s.ID))(r.T)
	fresh.URL = url
	if err := r.store.Update(r.T.Context(), fresh); err != nil {
		r.T.Fatal(err)
	}
}

// A receiver that is gone says nothing of the one that the subscription was given while the answer was under way.
func TestALateGoneConcernsTheOldURLOnly(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.worker(quick())
	r.recorder()
	release := make(chan struct{})
	old := servertest.NewReceiver(t, servertest.Status(500), servertest.After(release, servertest.Status(410)))
	next := servertest.NewReceiver(t)
	sub := r.subscribe(old.URL, retries(time.Hour))
	waiting := r.send(r.event(), sub)
	r.waits(waiting, outcome.ReasonServer)
	late := r.send(r.event(), sub)
	old.Wait(2)
	r.move(sub, next.URL)
	close(release)
	r.ended(late, outcome.Dead, outcome.ReasonGone)
	r.ended(r.send(r.event(), sub), outcome.Delivered, outcome.ReasonOK)
	r.settled()
	r.waits(waiting, outcome.ReasonServer)
	if s := must(r.store.Get(t.Context(), sub.Tenant, sub.ID))(t); s.Status != subscriptions.Active {
		t.Errorf("the subscription is %s (%s), want it active", s.Status, s.DisabledReason)
	}
}

// Neither the breaker nor a Retry-After of the old URL holds back what goes to the new one.
func TestANewURLIsNotHeldBackForTheOldOne(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	cfg := quick()
	cfg.BreakerAfter = 1
	r.worker(cfg)
	r.recorder()
	for name, answer := range map[string]servertest.Answer{
		"breaker":     servertest.Status(500),
		"retry after": servertest.Reply(503, map[string][]string{"Retry-After": {"3600"}}, ""),
	} {
		sub := r.subscribe(servertest.NewReceiver(t, answer).URL, once)
		r.ended(r.send(r.event(), sub), outcome.Dead, outcome.ReasonServer)
		r.Eventually(name+" to hold back", func() bool {
			before := r.Count(`SELECT count(*) FROM deferrals WHERE attempts = 0`)
			r.send(r.event(), sub)
			r.settled()
			return r.Count(`SELECT count(*) FROM deferrals WHERE attempts = 0`) > before
		})
		r.move(sub, servertest.NewReceiver(t).URL)
		r.ended(r.send(r.event(), sub), outcome.Delivered, outcome.ReasonOK)
	}
}

// The failure rule counts the failures of one URL: a streak ends where the URL changes, and late failures of the old URL
// do not lengthen that of the new one.
func TestAStreakEndsWithItsURL(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.worker(quick())
	r.recorder()
	release := make(chan struct{})
	old := servertest.NewReceiver(t, servertest.Status(500), servertest.After(release, servertest.Status(500)))
	sub := r.subscribe(old.URL, once)
	r.ended(r.send(r.event(), sub), outcome.Dead, outcome.ReasonServer)
	r.Eventually("the failure to be counted", func() bool { return r.Count(`SELECT count(*) FROM failing`) == 1 })
	must(r.DB.Exec(`UPDATE failing SET since = since - interval '121 hours', failures = 500`))(t)
	late := r.send(r.event(), sub)
	old.Wait(2)
	r.move(sub, servertest.NewReceiver(t, servertest.Status(500)).URL)
	r.ended(r.send(r.event(), sub), outcome.Dead, outcome.ReasonServer)
	r.Eventually("another streak to begin", func() bool {
		return r.Count(`SELECT count(*) FROM failing WHERE failures = 1 AND since > now() - interval '1 hour'`) == 1
	})
	close(release)
	r.ended(late, outcome.Dead, outcome.ReasonServer)
	r.ended(r.send(r.event(), sub), outcome.Dead, outcome.ReasonServer)
	r.Eventually("the next failure to be counted", func() bool { return r.Count(`SELECT failures FROM failing`) > 1 })
	if n := r.Count(`SELECT failures FROM failing`); n != 2 {
		t.Errorf("%d failures are counted, want the 2 of the new URL", n)
	}
	if s := must(r.store.Get(t.Context(), sub.Tenant, sub.ID))(t); s.Status != subscriptions.Active {
		t.Errorf("the subscription is %s (%s), want it active", s.Status, s.DisabledReason)
	}
}
