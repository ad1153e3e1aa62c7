package deliver

import (
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"github.com/fanfarehq/fanfare/deliver/outcome"
	"github.com/fanfarehq/fanfare/internal/servertest"
	"github.com/fanfarehq/fanfare/subscriptions"
)

// One worker has thousands of requests in flight, and each subscription no more than it may have.
func TestThousandsInFlight(t *testing.T) {
	t.Parallel()
	const each, many = 50, 40
	r := newRig(t)
	cfg := quick()
	cfg.Lease = time.Minute               // outlasts the longest attempt
	cfg.InFlight = each*many*4/3*8/7 + 16 // all of them are on one host, and of one tenant
	p := r.parts(cfg)
	watched := &watchedPoster{Attempter: p.deps.Poster}
	p.deps.Poster = watched
	w := r.start(p)
	r.recorder()
	release := make(chan struct{})
	var slow atomic.Bool
	receiver := servertest.NewReceiver(t, servertest.By(func(servertest.Request) servertest.Answer {
		if slow.Load() {
			return servertest.After(release, servertest.Status(200))
		}
		return servertest.Delay(20*time.Millisecond, servertest.Status(200))
	}))
	var subs []*subscriptions.Subscription
	for i := range many {
		subs = append(subs, r.subscribe(fmt.Sprintf("%s/%d", receiver.URL, i), func(s *subscriptions.Subscription) {
			// None may time out until the last has begun, on whatever machine.
			s.MaxInFlight, s.Timeout = each, subscriptions.MaxTimeout
		}))
	}
	// A new subscription may have more at once with each answer.
	r.sendAll(3*each, subs...)
	for _, s := range subs {
		r.all(s, 3*each, outcome.Delivered)
	}
	slow.Store(true)
	watched.of.Store(&subs[0].ID)
	seen := len(receiver.Requests())
	r.sendAll(each+10, subs...)
	r.eventually("thousands of requests to be in flight", func() bool {
		taken, _ := w.worker.gate.InFlight()
		return taken == each*many && len(receiver.Requests())-seen >= each*many
	})
	close(release)
	for _, s := range subs {
		r.all(s, 3*each+each+10, outcome.Delivered)
	}
	if n := watched.most.Load(); n != each {
		t.Errorf("a subscription had %d requests at once, want %d", n, each)
	}
}
