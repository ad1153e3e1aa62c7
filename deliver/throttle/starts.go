package throttle

import (
	"context"
	"runtime"
	"sync"
	"time"
)

const (
	// youngPerCore is how many requests that have just begun each core is given. More of them would only wait for
	// each other, with their stacks and connections: measured on 2 cores, 1,024 of them cost half as much again as 64.
	youngPerCore = 32
	// youngFor is how long a request is young at least, and twice that at most: one that takes longer waits for its
	// receiver, not for us. While the processors are busy it is longer, up to busyTicks times: otherwise all places of the
	// worker fill up with requests that only wait for a processor, which cost a fifth more of one each (fan-out 10).
	youngFor  = 5 * time.Millisecond
	busyTicks = 10
	// busyWait is how long goroutines wait for a processor, on average, when those are busy.
	busyWait = 200 * time.Microsecond
	// crowdedWait is how long they wait when fewer requests may be young, down to leastPerCore. Publishing an event takes some
	// thirty such waits one after the other, and a tenant's backlog must not slow down another's.
	crowdedWait  = time.Millisecond
	leastPerCore = 8
)

// starts let requests begin one after the other when the processors are the bottleneck. So however many are in flight to
// slow receivers, those to quick ones do not crowd each other. Those that wait are served by tenant in turn, in order.
type starts struct {
	most  int          // young requests at once, as the processors allow
	spawn func(func()) // runs a function in a goroutine

	mu    sync.Mutex
	young int
	// begun counts the young ones by the tick in which they began: this one and the one before. Which one ended is
	// not known and taken for the oldest; one that is young no more makes room as well when it ends, which is harmless.
	begun   [2]int
	tick    int
	queue   ring[string, starter] // by tenant
	stopped bool
	ticking bool
	skipped int // ticks that were passed over because the processors were busy
	waits   waits
}

// Start is the permission of one errand to begin. It belongs to the errand until it returns.
type Start struct{ placed bool }

// errand makes a request. May says that it may begin; if not, the gate has been stopped.
type errand struct {
	start *Start
	do    func(may bool)
}

// starter waits to begin: an errand, or a goroutine.
type starter struct {
	turn chan struct{} // closed when it has come; nil for an errand
	errand
}

func newStarts(spawn func(func())) *starts {
	return &starts{most: youngPerCore * runtime.GOMAXPROCS(0), spawn: spawn}
}

// begin returns when a request may begin. Who gets nil calls end.
func (s *starts) begin(ctx context.Context, tenant string) error {
	s.mu.Lock()
	if s.mayBegin() {
		s.count()
		s.mu.Unlock()
		return nil
	}
	turn := make(chan struct{})
	s.wait(tenant, starter{turn: turn})
	s.mu.Unlock()
	select {
	case <-turn:
		return nil
	case <-ctx.Done():
		s.leave(tenant, turn)
		return context.Cause(ctx)
	}
}

// Go has an errand done once it may begin. Until then it has no goroutine, and afterwards that of one that ended: a thousand
// goroutines that only wait, and are woken by each other, cost more than what they wait for.
func (s *starts) Go(tenant string, e errand) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.stopped:
		s.spawn(func() { e.run(false) })
	case s.mayBegin():
		s.count()
		s.spawn(func() { s.work(e) })
	default:
		s.wait(tenant, starter{errand: e})
	}
}

// run does an errand and returns whether it still has the place that it began with.
func (e errand) run(may bool) (placed bool) {
	e.start.placed = may
	e.do(may)
	return e.start.placed
}

// work does an errand, and then those whose turn it is when the one before has ended.
func (s *starts) work(e errand) {
	for more := true; more; {
		e, more = s.next(e.run(true))
	}
}

// next returns an errand whose turn has come, now that one ended.
func (s *starts) next(placed bool) (errand, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if placed {
		s.uncount()
	}
	for s.queue.size > 0 && s.young < s.most {
		first := s.take()
		if first.turn == nil {
			return first.errand, true
		}
		close(first.turn)
	}
	return errand{}, false
}

// stop ends the waiting of errands, now and from now on: none may begin.
func (s *starts) stop() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.stopped = true
	for n := s.queue.size; n > 0; n-- {
		tenant, w := s.queue.pop()
		if w.turn == nil {
			s.spawn(func() { w.run(false) })
		} else {
			s.queue.push(tenant, w)
		}
	}
}

// end notes that a request ended.
func (s *starts) end() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.uncount()
	s.serve()
}

// crowded reports whether requests wait for the processors.
func (s *starts) crowded() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.queue.size > 0
}

func (s *starts) mayBegin() bool { return s.young < s.most && s.queue.size == 0 }

func (s *starts) wait(tenant string, w starter) {
	s.queue.push(tenant, w)
	s.watch()
}

// take gives the first of the queue a place.
func (s *starts) take() starter {
	_, first := s.queue.pop()
	s.count()
	return first
}

func (s *starts) count() {
	s.young++
	s.begun[s.tick]++
}

func (s *starts) uncount() {
	for _, tick := range [...]int{1 - s.tick, s.tick} {
		if s.begun[tick] > 0 {
			s.begun[tick]--
			s.young--
			return
		}
	}
}

// serve lets those begin for whom there is room.
func (s *starts) serve() {
	for s.queue.size > 0 && s.young < s.most {
		if first := s.take(); first.turn == nil {
			s.spawn(func() { s.work(first.errand) })
		} else {
			close(first.turn)
		}
	}
}

// age begins a new tick, unless the processors are busy: requests of the one before the last are young no more.
func (s *starts) age() {
	s.mu.Lock()
	defer s.mu.Unlock()
	wait := s.waits.mean()
	s.adapt(wait)
	if wait > busyWait && s.skipped < busyTicks {
		s.skipped++
	} else {
		s.skipped = 0
		s.tick = 1 - s.tick
		s.young -= s.begun[s.tick]
		s.begun[s.tick] = 0
		s.serve()
	}
	s.ticking = false
	s.watch()
}

// adapt lets fewer requests be young at once while the processors are crowded, and more again as they are not.
func (s *starts) adapt(wait time.Duration) {
	cores := runtime.GOMAXPROCS(0)
	if wait > crowdedWait {
		s.most = max(s.most-s.most/8, leastPerCore*cores)
	} else if wait < crowdedWait/2 {
		s.most = min(s.most+cores, youngPerCore*cores)
	}
}

// watch keeps the ticks coming while anybody waits.
func (s *starts) watch() {
	if !s.ticking && s.queue.size > 0 {
		s.ticking = true
		time.AfterFunc(youngFor, s.age)
	}
}

// leave takes one who gives up out of the queue; if its turn came at that moment, it goes to the next.
func (s *starts) leave(tenant string, turn chan struct{}) {
	s.mu.Lock()
	if s.queue.remove(tenant, func(w starter) bool { return w.turn == turn }) {
		s.mu.Unlock()
		return
	}
	s.mu.Unlock()
	s.end()
}
