package throttle

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/uuid"

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
		var full Refusal
		if err := enterHost(t.Context(), h, "one", limit); !errors.As(err, &full) || full.Wait < minBusy {
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
		for _, r := range []Result{oops, heavy, {Connection: Silent, Endpoint: Fails}, {Endpoint: Fails}} {
			for range 20 {
				try(r)
			}
		}
		for range 10 {
			try(Result{Connection: Missed, Endpoint: Fails})
		}
		if _, err := h.admit("one", sub); err == nil || err.(Refusal).Reason != BreakerOpen {
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

// enterHost takes a place in the lane of a host and waits for it up to a second.
func enterHost(ctx context.Context, h *hosts, host string, limit int) error {
	if turn := h.take(host, limit); turn != nil {
		return h.wait(ctx, host, turn, time.Second)
	}
	return nil
}
