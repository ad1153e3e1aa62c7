package throttle

import (
	"context"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/google/uuid"

	"github.com/fanfarehq/fanfare/subscriptions"
)

const (
	// othersShare is which part of a worker's slots the endpoints of one host must leave to others: one in so many.
	othersShare = 4
	// maxDelayed is how many subscriptions a host that is away remembers to hurry when it is back. Those of more come back
	// at the times that they were given.
	maxDelayed = 10_000
)

// hosts see to it that the endpoints of one host, which may be thousands, hurt no others when it dies: together they hold
// only a part of a worker's slots, and while nobody can connect to it one request at a time finds out whether it is back.
// Answers of any kind open no breaker here: what one endpoint of a shared host says is not its neighbours' fault.
type hosts struct {
	health *health[string]
	most   int

	mu      sync.Mutex
	lanes   map[string]*lane
	delayed map[string]map[uuid.UUID]*subscriptions.Subscription
}

// lane is what one host has in flight.
type lane struct {
	limit    int
	inFlight int
	queue    []chan struct{} // of those who wait, in order; closed when their turn comes
}

// hostMost is how many slots of a worker the endpoints of one host may hold together.
func hostMost(slots int) int { return slots - slots/othersShare }

func newHosts(cfg Config, now func() time.Time) *hosts {
	return &hosts{
		health: newHealth[string](cfg.BreakerAfter, now, rand.Float64, func(breaker) {}),
		most:   hostMost(cfg.InFlight), lanes: make(map[string]*lane),
		delayed: make(map[string]map[uuid.UUID]*subscriptions.Subscription),
	}
}

// admit judges whether a request to a host may be made now. Its error is a Refusal.
func (h *hosts) admit(host string, sub *subscriptions.Subscription) (admission, error) {
	a, err := h.health.admit(host, h.most)
	if err != nil {
		h.mu.Lock()
		defer h.mu.Unlock()
		list := h.delayed[host]
		if list == nil {
			list = make(map[uuid.UUID]*subscriptions.Subscription)
			h.delayed[host] = list
		}
		if len(list) < maxDelayed {
			list[sub.ID] = sub
		}
	}
	return a, err
}

// report takes note of a result, and returns whom to hurry if the host is back by it.
func (h *hosts) report(host string, a admission, r Result) []*subscriptions.Subscription {
	switch {
	case r.Connection == Untried || r.Elsewhere != "":
		h.health.forgo(host, a) // Nobody tried to connect.
		return nil
	case r.Connection == Missed:
		r.Endpoint = Fails
	default:
		r = Result{Endpoint: Works}
	}
	if !h.health.report(host, a, r, h.most) {
		return nil
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	list := slices.Collect(maps.Values(h.delayed[host]))
	delete(h.delayed, host)
	return list
}

// reset forgets who is away, as the fault was or is our own, and returns whom that held up.
func (h *hosts) reset() (list []*subscriptions.Subscription) {
	h.health.reset()
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, delayed := range h.delayed {
		list = slices.AppendSeq(list, maps.Values(delayed))
	}
	clear(h.delayed)
	return list
}

// wait waits for what take gave, no longer than patience; a Refusal says that it was in vain. Who gets nil calls exit.
func (h *hosts) wait(ctx context.Context, host string, turn chan struct{}, patience time.Duration) error {
	timer := time.NewTimer(patience)
	defer timer.Stop()
	select {
	case <-turn:
		return nil
	case <-ctx.Done():
		h.leave(host, turn)
		return context.Cause(ctx)
	case <-timer.C:
		h.leave(host, turn)
		return noRoom(minBusy + rand.N(patience))
	}
}

// take takes a place in the lane of a host, which may have limit of them, and returns nil, or what to wait for.
func (h *hosts) take(host string, limit int) chan struct{} {
	h.mu.Lock()
	defer h.mu.Unlock()
	l := h.lanes[host]
	if l == nil {
		l = new(lane)
		h.lanes[host] = l
	}
	l.limit = max(min(limit, h.most), 1)
	if l.inFlight < l.limit && len(l.queue) == 0 {
		l.inFlight++
		return nil
	}
	turn := make(chan struct{})
	l.queue = append(l.queue, turn)
	return turn
}

// exit gives a place back, to the first who waits.
func (h *hosts) exit(host string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	l := h.lanes[host]
	l.inFlight--
	for len(l.queue) > 0 && l.inFlight < l.limit {
		close(l.queue[0])
		l.queue[0] = nil
		l.queue = l.queue[1:]
		l.inFlight++
	}
	if l.inFlight == 0 {
		delete(h.lanes, host)
	}
}

// leave takes one who gives up out of the queue; if the turn came at that moment, it goes to the next.
func (h *hosts) leave(host string, turn chan struct{}) {
	h.mu.Lock()
	l := h.lanes[host]
	for i, queued := range l.queue {
		if queued == turn {
			l.queue = append(l.queue[:i:i], l.queue[i+1:]...)
			h.mu.Unlock()
			return
		}
	}
	h.mu.Unlock()
	h.exit(host)
}

// sweep forgets hosts that nothing was heard of for long, and returns how many cannot be connected to.
func (h *hosts) sweep() int {
	away := h.health.sweep()
	h.mu.Lock()
	defer h.mu.Unlock()
	for host := range h.delayed {
		if !h.health.knows(host) {
			delete(h.delayed, host)
		}
	}
	return away
}

// hostOf is the host of a subscription's endpoint, and its port if the URL has one.
func hostOf(sub *subscriptions.Subscription) string {
	_, host, _ := strings.Cut(sub.URL, "://")
	if i := strings.IndexAny(host, "/?#"); i >= 0 {
		host = host[:i]
	}
	return host[strings.LastIndexByte(host, '@')+1:]
}
