package deliver_test

import (
	"net/http"
	"sync/atomic"
	"testing"
	"time"

	"github.com/fanfarehq/fanfare/deliver/outcome"
	"github.com/fanfarehq/fanfare/internal/servertest"
	"github.com/fanfarehq/fanfare/subscriptions"
)

// overTime are the faults of the catalogue that many attempts show, beside those of deliver/webhook, each with what must become of them.
var overTime = []struct {
	id, name string
	run      func(*testing.T)
}{
	{"F090", "a receiver publishes what it receives: the loop is as quick as its rate limit", aLoopIsAsQuickAsItsLimit},
	{"F093", "429 while events come: one request, all others wait", retryAfterSlowsTheWholeEndpoint},
	{"F096", "200 and 500 by turns: nobody is disabled, no breaker opens", successAndFailureByTurns},
	{"F097", "five days of failures: disabled once, told, and on when it is enabled", theFailureRule},
	{"F098", "slow successes and a large backlog: no more than the endpoint's share is held, others go on", aFloodForASlowReceiver},
	{"F099", "an endpoint with a backlog comes back: it is drained within its bounds", backlogDrainsWithinBounds},
	{"F100", "many endpoints on one dead host: it is tried as one", manyEndpointsOfADeadHost},
}

func TestFaultsOverTime(t *testing.T) {
	t.Parallel()
	for _, f := range overTime {
		t.Run(f.id+" "+f.name, func(t *testing.T) {
			t.Parallel()
			f.run(t)
		})
	}
}

// aLoopIsAsQuickAsItsLimit: requests can only come later than they may, so the time that they took at least does not
// depend on the machine.
func aLoopIsAsQuickAsItsLimit(t *testing.T) {
	r := newRig(t)
	r.worker(quick())
	r.recorder()
	const limit, n = 20, 60
	var sub *subscriptions.Subscription
	receiver := servertest.NewReceiver(t, servertest.By(func(servertest.Request) servertest.Answer {
		if err := r.outbox.Send(t.Context(), r.task(r.event(), sub)); err != nil && t.Context().Err() == nil {
			t.Error(err)
		}
		return servertest.Status(200)
	}))
	sub = r.subscribe(receiver.URL, func(s *subscriptions.Subscription) {
		s.RateLimit = &subscriptions.RateLimit{Limit: limit, Per: time.Second}
	})
	begun := time.Now()
	r.send(r.event(), sub)
	got := receiver.Wait(n)
	if took, least := got[n-1].At.Sub(begun), (n-limit)*time.Second/limit; took < least {
		t.Errorf("%d rounds took %s, want %s or more", n, took, least)
	}
	receiver.Answer(servertest.Status(200))
}

func successAndFailureByTurns(t *testing.T) {
	r := newRig(t)
	w := r.worker(sparing())
	r.recorder()
	var n atomic.Int64
	receiver := servertest.NewReceiver(t, servertest.By(func(servertest.Request) servertest.Answer {
		return servertest.Status(map[int64]int{0: 500, 1: 200}[n.Add(1)%2])
	}))
	sub := r.subscribe(receiver.URL, func(s *subscriptions.Subscription) {
		s.MaxInFlight, s.Retry.Schedule = 1, []time.Duration{10 * time.Millisecond}
		s.Retry.MaxRetries = new(50)
	})
	r.sendAll(60, sub)
	r.all(sub, 60, outcome.Delivered)
	if n := w.breakers("open"); n != 0 {
		t.Errorf("the breaker opened %v times", n)
	}
	if s := must(r.store.Get(t.Context(), sub.Tenant, sub.ID))(t); s.Status != subscriptions.Active {
		t.Errorf("the subscription is %s", s.Status)
	}
}

// aFloodForASlowReceiver: more tasks than a worker holds for a receiver that takes ten seconds fill neither slots nor memory, and those
// of another, which come after them, are made long before.
func aFloodForASlowReceiver(t *testing.T) {
	const flood, slots = 2500, 64
	r := newRig(t)
	cfg := sparing()
	cfg.InFlight = slots
	p := r.parts(cfg)
	watched := &watchedPoster{Attempter: p.deps.Poster}
	p.deps.Poster = watched
	w := r.start(p)
	r.recorder()
	slow := servertest.NewReceiver(t, servertest.Delay(10*time.Second, servertest.Status(200)))
	bad := r.subscribe(slow.URL, func(s *subscriptions.Subscription) { s.MaxInFlight = 1000 })
	watched.of.Store(&bad.ID)
	good := r.subscribe(servertest.NewReceiver(t).URL, nil)
	r.sendAll(flood, bad)
	before := slow.Wait(1)[0].At
	r.sendAll(100, good)
	r.all(good, 100, outcome.Delivered)
	t.Logf("the others' were made %s after the flood began", time.Since(before).Round(time.Millisecond))
	if n := watched.most.Load(); n > slots/4 {
		t.Errorf("the slow receiver had %d of %d slots at once, want %d at most", n, slots, slots/4)
	}
	// What waits in line is bounded by the gate: 16 deliveries for each place of the worker, whatever number of subscriptions they
	// belong to. The bound of what tasks have in hand is less, but does not hold here: a delivery that is handed off leaves its
	// task, which makes room for the next, and waits on until its patience is over. A queue that does not move is kept shorter
	// than this, unless the worker is so busy that it says nothing of the receiver.
	var waiting float64
	r.Eventually("deliveries to wait in memory", func() bool {
		waiting = w.metric("fanfare_deliveries_waiting")
		return waiting > 0
	})
	if waiting > 16*slots {
		t.Errorf("%v deliveries wait in memory, want %d at most", waiting, 16*slots)
	}
	if n := r.Count(`SELECT count(*) FROM deliveries WHERE subscription_id = $1`, bad.ID); n > flood/2 {
		t.Errorf("%d deliveries of the slow receiver have ended, want the others' first", n)
	}
	slow.Answer(servertest.Reply(410, http.Header{}, "")) // Enough of it.
}
