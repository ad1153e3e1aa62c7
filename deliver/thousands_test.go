package deliver_test

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
	attempts := &countingPoster{Attempter: p.deps.Poster}
	watched := &watchedPoster{Attempter: attempts}
	p.deps.Poster = watched
	r.start(p)
	r.recorder()
	var release atomic.Pointer[chan struct{}] // closed to let the requests go that came since it was made
	hold := func() chan struct{} {
		c := make(chan struct{})
		release.Store(&c)
		return c
	}
	receiver := servertest.NewReceiver(t, servertest.By(func(servertest.Request) servertest.Answer {
		return servertest.After(*release.Load(), servertest.Status(200))
	}))
	var subs []*subscriptions.Subscription
	for i := range many {
		subs = append(subs, r.subscribe(fmt.Sprintf("%s/%d", receiver.URL, i), func(s *subscriptions.Subscription) {
			// None may time out until the last has begun, on whatever machine.
			s.MaxInFlight, s.Timeout = each, subscriptions.MaxTimeout
		}))
	}
	// A new subscription may have twice as many at once after it had as many as it may.
	seen, warm := 0, 0
	for i, s := range subs {
		warm = 0
		for n := 2; n < each; n *= 2 {
			answers := hold()
			r.sendAll(n, s)
			seen, warm = seen+n, warm+n
			r.Eventually("requests that are as many as they may be", func() bool { return len(receiver.Requests()) >= seen })
			close(answers)
			r.all(subs[i], warm, outcome.Delivered)
		}
	}
	answers := hold()
	watched.of.Store(&subs[0].ID)
	r.sendAll(each+10, subs...)
	r.Eventually("thousands of requests to be in flight", func() bool {
		return attempts.now.Load() == each*many && len(receiver.Requests())-seen >= each*many
	})
	close(answers)
	for _, s := range subs {
		r.all(s, warm+each+10, outcome.Delivered)
	}
	if n := watched.most.Load(); n != each {
		t.Errorf("a subscription had %d requests at once, want %d", n, each)
	}
}
