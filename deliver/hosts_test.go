package deliver

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/uuid"

	"github.com/fanfarehq/fanfare/internal/servertest"
	"github.com/fanfarehq/fanfare/subscriptions"
)

// However many endpoints a host has, together they hold no more than its part of the worker; who waits is served in
// order, and not for ever.
func TestAHostHasItsPartOfAWorker(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		h := newHosts(Config{InFlight: 64}, time.Now)
		const limit = 48
		for range limit {
			if err := enterHost(t.Context(), h, "one", limit); err != nil {
				t.Fatal(err)
			}
		}
		if err := enterHost(t.Context(), h, "another", limit); err != nil {
			t.Errorf("another host: %v", err)
		}
		var full noRoom
		if err := enterHost(t.Context(), h, "one", limit); !errors.As(err, &full) || full.wait < minBusy {
			t.Errorf("got %v, want that there is no room", err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if err := enterHost(ctx, h, "one", limit); !errors.Is(err, context.Canceled) {
			t.Errorf("got %v, want that it was cancelled", err)
		}
		var order []int
		var mu sync.Mutex
		var wg sync.WaitGroup
		for i := range 3 {
			wg.Go(func() {
				if err := enterHost(t.Context(), h, "one", limit); err != nil {
					t.Error(err)
				}
				mu.Lock()
				defer mu.Unlock()
				order = append(order, i)
			})
			synctest.Wait() // so that they wait in this order
		}
		for range limit + 3 {
			h.exit("one")
			synctest.Wait()
		}
		wg.Wait()
		h.exit("another")
		if fmt.Sprint(order) != "[0 1 2]" || len(h.lanes) != 0 {
			t.Errorf("served in the order %v; %d hosts are remembered", order, len(h.lanes))
		}
	})
}

// What one endpoint answers is not the fault of its neighbours; that nobody can connect concerns all of them.
func TestAHostsBreakerKnowsConnectionsOnly(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		h := newHosts(Config{InFlight: 64, BreakerAfter: 10}, time.Now)
		sub := &subscriptions.Subscription{ID: uuid.New()}
		try := func(r Result) []*subscriptions.Subscription {
			t.Helper()
			a, err := h.admit("one", sub)
			if err != nil {
				t.Fatal(err)
			}
			return h.report("one", a, r)
		}
		for _, r := range []Result{oops, heavy, {Reason: ReasonTimeout}, {Reason: ReasonTLS}, {Reason: ReasonReset}, {Reason: ReasonBlocked}} {
			for range 20 {
				try(r)
			}
		}
		for range 10 {
			try(Result{Reason: ReasonConnect})
		}
		if _, err := h.admit("one", sub); reasonOfWait(err) != ReasonBreakerOpen {
			t.Fatalf("got %v, want that the host is left alone", err)
		}
		if n := h.sweep(); n != 1 {
			t.Errorf("%d hosts are away, want 1", n)
		}
		time.Sleep(firstOpen * 2)
		if list := try(oops); len(list) != 1 || list[0] != sub {
			t.Errorf("got %v, want whom the host held up", list)
		}
		time.Sleep(3 * putOffMost)
		if n := h.sweep(); n != 0 || len(h.health.subs) != 0 || len(h.delayed) != 0 {
			t.Errorf("%d hosts are away, %d remembered", n, len(h.health.subs))
		}
	})
}

func TestHostOf(t *testing.T) {
	t.Parallel()
	for url, want := range map[string]string{
		"https://a.test/hook": "a.test", "https://a.test": "a.test", "http://a.test:8080?x=@": "a.test:8080",
		"http://u:p@a.test#f": "a.test", "http://[::1]:80/x": "[::1]:80",
	} {
		if got := hostOf(&subscriptions.Subscription{URL: url}); got != want {
			t.Errorf("%s: got %s, want %s", url, got, want)
		}
	}
}

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
	listener := must(net.Listen("tcp", "127.0.0.2:0"))(t)
	dead := listener.Addr().String()
	listener.Close()
	good := r.subscribe(servertest.NewReceiver(t).URL, nil)
	r.ended(r.send(r.event(), good), OutcomeDelivered, ReasonOK)
	tried.n.Store(0)
	var subs []*subscriptions.Subscription
	for i := range endpoints {
		subs = append(subs, r.subscribe(fmt.Sprintf("http://%s/%d", dead, i), retries(time.Second)))
	}
	for i := 0; i < endpoints; i += 50 {
		r.send(r.event(), subs[i:i+50]...)
	}
	r.eventually("the host to be left alone", func() bool {
		return r.count(`SELECT count(*) FROM deferrals WHERE reason = 'breaker_open' AND attempts = 0`) > endpoints*3/4
	})
	if n := tried.n.Load(); n > 2*int64(cfg.InFlight)+20 {
		t.Errorf("%d requests to a dead host, want a few", n)
	}
	r.ended(r.send(r.event(), good), OutcomeDelivered, ReasonOK)
	back := httptest.NewUnstartedServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	back.Listener.Close()
	back.Listener = must(net.Listen("tcp", dead))(t)
	back.Start()
	t.Cleanup(back.Close)
	r.eventually("all to be delivered", func() bool {
		return r.count(`SELECT count(*) FROM deliveries WHERE state = 'delivered'`) == endpoints+2
	})
}

// countingPoster counts attempts.
type countingPoster struct {
	Attempter
	n atomic.Int64
}

// Send sends.
func (p *countingPoster) Send(ctx context.Context, a Attempt) Result {
	p.n.Add(1)
	return p.Attempter.Send(ctx, a)
}

// Endpoints of one host that take connections and never answer hold no more of a worker than their part, from the first
// moment.
func TestManyEndpointsOfAHostThatHangs(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	cfg := sparing()
	cfg.InFlight = 32
	p := r.parts(cfg)
	w := r.start(p)
	r.recorder()
	stuck := servertest.NewReceiver(t, servertest.Hang())
	var subs []*subscriptions.Subscription
	for i := range 60 {
		subs = append(subs, r.subscribe(fmt.Sprintf("%s/%d", stuck.URL, i), nil))
	}
	r.send(r.event(), subs...)
	stuck.Wait(hostMost(cfg.InFlight))
	good := r.subscribe(servertest.NewReceiver(t).URL, nil)
	r.ended(r.send(r.event(), good), OutcomeDelivered, ReasonOK)
	if taken, _ := w.worker.slots.inFlight(); taken > hostMost(cfg.InFlight) {
		t.Errorf("%d slots are taken, want %d at most", taken, hostMost(cfg.InFlight))
	}
}

// enterHost takes a place in the lane of a host and waits for it up to a second.
func enterHost(ctx context.Context, h *hosts, host string, limit int) error {
	if turn := h.take(host, limit); turn != nil {
		return h.wait(ctx, host, turn, time.Second)
	}
	return nil
}
