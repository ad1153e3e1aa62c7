package throttle

import (
	"context"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/google/uuid"
)

// The bounds of waiting for a slot. A quick receiver may have many waiting, as they are through in no time; of a
// slow one, what waits would only keep memory and tasks.
const (
	maxWaiting   = 4096                   // for one subscription
	minWaiting   = 16                     // these may wait however slow it is, or as many as it may have in flight
	slowQueue    = 500 * time.Millisecond // the first in the queue has waited this long: it does not move
	minBusy      = 250 * time.Millisecond // how soon a delivery comes back that found no room,
	maxBusy      = time.Minute            // and how late at most, should the receiver have become quicker
	waitingShare = 16                     // over all subscriptions, this many wait for each slot of the worker
	mostShare    = 4                      // one subscription has at most one in so many of the worker's slots,
	leastShare   = 8                      // or these, if the worker has few,
	slowHold     = time.Second            // and if it keeps each for longer than this, one in mostShare of those that are left
)

// slots bound the requests in flight: those of the worker, and those of each subscription. Who waits
// for its subscription holds no slot of the worker, so that subscriptions cannot hurt each other.
type slots struct {
	worker chan struct{} // holds one for each request in flight; those who wait for it are served in order
	starts *starts
	now    func() time.Time

	mu      sync.Mutex
	gates   map[uuid.UUID]*gate
	waiting int
}

// gate is one subscription's share.
type gate struct {
	limit    int
	inFlight int
	queue    []*waiter // in order of arrival
	freed    time.Time // when a slot was last given back while all were taken
	interval time.Duration
	hold     time.Duration // how long its requests take, about
	next     time.Time     // the last time that was given to a delivery that found no room
}

type waiter struct {
	since time.Time
	ready chan struct{} // closed when a slot is theirs
}

// noRoom refuses a delivery because too many wait.
func noRoom(wait time.Duration) Refusal { return Refusal{Wait: wait, Reason: Busy} }

func newSlots(inFlight int, starts *starts, now func() time.Time) *slots {
	return &slots{worker: make(chan struct{}, inFlight), starts: starts, now: now, gates: make(map[uuid.UUID]*gate)}
}

// enter takes a slot of the subscription, which may have limit of them. It waits no longer than patience;
// a Refusal says that there is none. Who gets nil calls start, and then release or exit.
func (s *slots) enter(ctx context.Context, id uuid.UUID, limit int, patience time.Duration) error {
	w, err := s.take(id, limit)
	if err != nil {
		return err
	}
	return s.wait(ctx, id, w, patience)
}

// wait waits for what take gave, so that who takes in order is served in order.
func (s *slots) wait(ctx context.Context, id uuid.UUID, w *waiter, patience time.Duration) error {
	if w == nil {
		return nil
	}
	timer := time.NewTimer(patience)
	defer timer.Stop()
	select {
	case <-w.ready:
		return nil
	case <-ctx.Done():
		s.leave(id, w)
		return context.Cause(ctx)
	case <-timer.C:
		s.leave(id, w)
		return s.later(id)
	}
}

// start takes a slot of the worker, for one who has a slot of the subscription. It waits as long as it takes.
func (s *slots) start(ctx context.Context) error {
	if err := s.starts.begin(ctx); err != nil {
		return err
	}
	err := s.occupy(ctx)
	if err != nil {
		s.starts.end()
	}
	return err
}

// occupy is start for one who may begin already.
func (s *slots) occupy(ctx context.Context) error {
	select {
	case s.worker <- struct{}{}: // A select of one case and default is much cheaper than the other.
		return nil
	default:
	}
	select {
	case s.worker <- struct{}{}:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// release gives back both slots of one who called start.
func (s *slots) release(id uuid.UUID) {
	s.starts.end()
	s.vacate(id)
}

// vacate gives back both slots of one who called occupy.
func (s *slots) vacate(id uuid.UUID) {
	<-s.worker
	s.exit(id)
}

// free returns how many slots of the worker are not taken.
func (s *slots) free() int { return cap(s.worker) - len(s.worker) }

// inFlight returns how many slots are taken, and how many wait for their subscription's.
func (s *slots) inFlight() (taken, waiting int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.worker), s.waiting
}

// take takes a slot of the subscription, and returns nil, or a place in its queue.
func (s *slots) take(id uuid.UUID, limit int) (*waiter, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	g := s.gates[id]
	if g == nil {
		g = &gate{}
		s.gates[id] = g
	}
	g.limit = max(min(limit, s.share(g)), 1)
	if g.inFlight < g.limit && len(g.queue) == 0 {
		g.inFlight++
		return nil, nil
	}
	now := s.now()
	if n := len(g.queue); n >= maxWaiting || n >= max(g.limit, minWaiting) && s.stuck(g, now) {
		return nil, g.later(now)
	}
	w := &waiter{since: now, ready: make(chan struct{})}
	g.queue = append(g.queue, w)
	s.waiting++
	return w, nil
}

// share returns how many slots of the worker a subscription may have. The more are taken, the less has a slow one:
// some are free for the quick ones, however many are slow.
func (s *slots) share(g *gate) int {
	if g.hold > slowHold {
		return s.free() / mostShare
	}
	return max(cap(s.worker)/mostShare, leastShare)
}

// took notes how long a request took; an average over about the last eight is kept.
func (s *slots) took(id uuid.UUID, d time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if g := s.gates[id]; g != nil {
		g.hold += (d - g.hold) / 8
	}
}

// stuck reports whether waiting is no use: the receiver is known to be slow, or the queue does not move, though it is not
// this worker that is too busy; or too many wait in the whole worker.
func (s *slots) stuck(g *gate, now time.Time) bool {
	moves := g.hold <= slowHold && now.Sub(g.queue[0].since) <= slowQueue
	return !moves && !s.starts.crowded() || s.waiting >= waitingShare*cap(s.worker)
}

// exit gives a slot of the subscription back, to the first who waits.
func (s *slots) exit(id uuid.UUID) {
	s.mu.Lock()
	defer s.mu.Unlock()
	g := s.gates[id]
	g.inFlight--
	if len(g.queue) > 0 {
		g.pace(s.now())
	}
	for len(g.queue) > 0 && g.inFlight < g.limit {
		w := g.queue[0]
		g.queue[0] = nil
		g.queue = g.queue[1:]
		s.waiting--
		g.inFlight++
		close(w.ready)
	}
	if g.inFlight == 0 && len(g.queue) == 0 && (g.next.IsZero() || s.now().After(g.next)) {
		delete(s.gates, id)
	}
}

// leave gives up what take gave: a place in the queue, or the slot itself, if that has come already.
func (s *slots) leave(id uuid.UUID, w *waiter) {
	if w == nil {
		s.exit(id)
		return
	}
	s.mu.Lock()
	g := s.gates[id]
	for i, queued := range g.queue {
		if queued == w {
			g.queue = append(g.queue[:i:i], g.queue[i+1:]...)
			s.waiting--
			s.mu.Unlock()
			return
		}
	}
	s.mu.Unlock()
	s.exit(id)
}

// later says when to come back.
func (s *slots) later(id uuid.UUID) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	g := s.gates[id]
	if g == nil {
		return noRoom(minBusy)
	}
	return g.later(s.now())
}

// sweep forgets subscriptions that nothing is in flight for.
func (s *slots) sweep() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for id, g := range s.gates {
		if g.inFlight == 0 && len(g.queue) == 0 && s.now().After(g.next) {
			delete(s.gates, id)
		}
	}
}

// pace measures how often a slot becomes free while others wait for it: the receiver's speed.
func (g *gate) pace(now time.Time) {
	if !g.freed.IsZero() {
		// An average over about the last eight; idle times between two queues do not count for more than a second.
		g.interval += (min(now.Sub(g.freed), time.Second) - g.interval) / 8
	}
	g.freed = now
}

// later gives each delivery that found no room a time of its own, at the receiver's speed, so that they do not
// all come back at once.
func (g *gate) later(now time.Time) Refusal {
	interval := g.interval
	if interval <= 0 {
		interval = time.Second / time.Duration(g.limit)
	}
	if g.next.Before(now.Add(minBusy)) {
		g.next = now.Add(minBusy)
	}
	g.next = g.next.Add(interval)
	if last := now.Add(maxBusy); g.next.After(last) {
		g.next = last
		// Those that would have to wait longer come back over the second half of that time.
		return noRoom(maxBusy - time.Duration(rand.Int64N(int64(maxBusy/2))))
	}
	return noRoom(g.next.Sub(now))
}
