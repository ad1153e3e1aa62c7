package deliver_test

import (
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/fanfarehq/fanfare/deliver/outcome"
	"github.com/fanfarehq/fanfare/internal/servertest"
	"github.com/fanfarehq/fanfare/subscriptions"
)

// F100: hundreds of endpoints on one host that dies cost as few requests as one does, and all go on when it is back.
func manyEndpointsOfADeadHost(t *testing.T) {
	const endpoints = 300
	r := newRig(t)
	cfg := sparing()
	cfg.InFlight = 16
	p := r.parts(cfg)
	tried := &countingPoster{Attempter: p.deps.Poster}
	p.deps.Poster = tried
	r.start(p)
	r.recorder()
	dead := servertest.FreeAddressOf(t, net.IPv4(127, 0, 0, 2))
	good := r.subscribe(servertest.NewReceiver(t).URL, nil)
	r.ended(r.send(r.event(), good), outcome.Delivered, outcome.ReasonOK)
	tried.n.Store(0)
	var subs []*subscriptions.Subscription
	for i := range endpoints {
		subs = append(subs, r.subscribe(fmt.Sprintf("http://%s/%d", dead, i), retries(time.Second)))
	}
	for i := 0; i < endpoints; i += 50 {
		r.send(r.event(), subs[i:i+50]...)
	}
	r.Eventually("the host to be left alone", func() bool {
		return r.Count(`SELECT count(*) FROM deferrals WHERE reason = 'breaker_open' AND attempts = 0`) > endpoints*3/4
	})
	if n := tried.n.Load(); n > 2*int64(cfg.InFlight)+20 {
		t.Errorf("%d requests to a dead host, want a few", n)
	}
	r.ended(r.send(r.event(), good), outcome.Delivered, outcome.ReasonOK)
	back := httptest.NewUnstartedServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	back.Listener.Close()
	back.Listener = must(net.Listen("tcp", dead))(t)
	back.Start()
	t.Cleanup(back.Close)
	r.Eventually("all to be delivered", func() bool {
		return r.Count(`SELECT count(*) FROM deliveries WHERE state = 'delivered'`) == endpoints+2
	})
}

// Endpoints of one host that take connections and never answer hold no more of a worker than their part, from the first
// moment.
func TestManyEndpointsOfAHostThatHangs(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	cfg := sparing()
	cfg.InFlight = 32
	r.worker(cfg)
	r.recorder()
	stuck := servertest.NewReceiver(t, servertest.Hang())
	var subs []*subscriptions.Subscription
	for i := range 60 {
		subs = append(subs, r.subscribe(fmt.Sprintf("%s/%d", stuck.URL, i), nil))
	}
	r.send(r.event(), subs...)
	stuck.Wait(cfg.InFlight * 3 / 4 * 7 / 8)
	good := r.subscribe(servertest.NewReceiver(t).URL, nil)
	r.ended(r.send(r.event(), good), outcome.Delivered, outcome.ReasonOK)
	if taken := len(stuck.Requests()); taken > cfg.InFlight*3/4 {
		t.Errorf("%d places are taken, want %d at most", taken, cfg.InFlight*3/4)
	}
}
