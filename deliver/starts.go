package deliver

import (
	"context"
	"runtime"
	"runtime/metrics"
	"slices"
	"sync"
	"time"
)

const (
	// youngPerCore is how many requests that have just begun each core is given. More of them would only wait for
	// each other, with their stacks and connections: measured on 2 cores, 1,024 of them cost half as much again as 64.
	youngPerCore = 32
	// youngFor is how long a request is young at least, and twice that at most: one that takes longer waits for its
	// receiver, not for us. While the processors are busy it is longer, up to busyTicks times.
	youngFor  = 5 * time.Millisecond
	busyTicks = 10
	// busyWait is how long goroutines wait for a processor, on average, when those are busy.
	busyWait = 200 * time.Microsecond
)

// starts let requests begin one after the other when the processors are the bottleneck. So however many are in flight to
// slow receivers, those to quick ones do not crowd each other. Who waits is served in order.
type starts struct {
	most  int
	spawn func(func()) // runs a function in a goroutine

	mu    sync.Mutex
	young int
	// begun counts the young ones by the tick in which they began: this one and the one before. Which one ended is
	// not known and taken for the oldest; one that is young no more makes room as well when it ends, which is harmless.
	begun   [2]int
	tick    int
	queue   []starter
	stopped bool
	ticking bool
	skipped int // ticks that were passed over because the processors were busy
	waits   waits
}

// starter is one who waits to begin: somebody, or an errand that nobody waits for.
type starter struct {
	turn   chan struct{} // closed when it has come
	errand errand
}

// errand makes a request. May says that it may begin; if not, nothing may any more. It returns whether it still has the place
// that it was given then.
type errand func(may bool) (placed bool)

func newStarts() *starts {
	return &starts{most: youngPerCore * runtime.GOMAXPROCS(0), spawn: func(f func()) { go f() }}
}

// begin returns when a request may begin. Who gets nil calls end.
func (s *starts) begin(ctx context.Context) error {
	s.mu.Lock()
	if s.mayBegin() {
		s.count()
		s.mu.Unlock()
		return nil
	}
	turn := make(chan struct{})
	s.wait(starter{turn: turn})
	s.mu.Unlock()
	select {
	case <-turn:
		return nil
	case <-ctx.Done():
		s.leave(turn)
		return context.Cause(ctx)
	}
}

// Go has an errand done once it may begin. Until then it has no goroutine, and afterwards that of one that ended: a thousand
// goroutines that only wait, and are woken by each other, cost more than what they wait for.
func (s *starts) Go(e errand) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.stopped:
		s.spawn(func() { e(false) })
	case s.mayBegin():
		s.count()
		s.spawn(func() { s.work(e) })
	default:
		s.wait(starter{errand: e})
	}
}

// work does an errand, and then those whose turn it is when the one before has ended.
func (s *starts) work(e errand) {
	for e != nil {
		e = s.next(e(true))
	}
}

// next returns an errand whose turn has come, now that one ended.
func (s *starts) next(placed bool) errand {
	s.mu.Lock()
	defer s.mu.Unlock()
	if placed {
		s.uncount()
	}
	for len(s.queue) > 0 && s.young < s.most {
		first := s.take()
		if first.errand != nil {
			return first.errand
		}
		close(first.turn)
	}
	return nil
}

// stop ends the waiting of errands, now and from now on: none may begin.
func (s *starts) stop() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.stopped = true
	for _, w := range s.queue {
		if w.errand != nil {
			s.spawn(func() { w.errand(false) })
		}
	}
	s.queue = slices.DeleteFunc(s.queue, func(w starter) bool { return w.errand != nil })
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
	return len(s.queue) > 0
}

func (s *starts) mayBegin() bool { return s.young < s.most && len(s.queue) == 0 }

func (s *starts) wait(w starter) {
	s.queue = append(s.queue, w)
	s.watch()
}

// take gives the first of the queue a place.
func (s *starts) take() starter {
	first := s.queue[0]
	s.queue[0] = starter{}
	s.queue = s.queue[1:]
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
	for len(s.queue) > 0 && s.young < s.most {
		if first := s.take(); first.errand != nil {
			s.spawn(func() { s.work(first.errand) })
		} else {
			close(first.turn)
		}
	}
}

// age begins a new tick: what began in the one before the last is young no more.
func (s *starts) age() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.waits.mean() > busyWait && s.skipped < busyTicks {
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

// watch keeps the ticks coming while anybody waits.
func (s *starts) watch() {
	if !s.ticking && len(s.queue) > 0 {
		s.ticking = true
		time.AfterFunc(youngFor, s.age)
	}
}

// leave takes one who gives up out of the queue; if its turn came at that moment, it goes to the next.
func (s *starts) leave(turn chan struct{}) {
	s.mu.Lock()
	if i := slices.IndexFunc(s.queue, func(w starter) bool { return w.turn == turn }); i >= 0 {
		s.queue = slices.Delete(s.queue, i, i+1)
		s.mu.Unlock()
		return
	}
	s.mu.Unlock()
	s.end()
}

// waits measures how long goroutines wait for a processor.
type waits struct {
	sample []metrics.Sample
	before []uint64
}

// mean returns the mean since the last call.
func (w *waits) mean() time.Duration {
	if w.sample == nil {
		w.sample = []metrics.Sample{{Name: "/sched/latencies:seconds"}}
	}
	metrics.Read(w.sample)
	h := w.sample[0].Value.Float64Histogram()
	if len(w.before) != len(h.Counts) {
		w.before = make([]uint64, len(h.Counts))
	}
	var n uint64
	var sum float64
	for i, count := range h.Counts {
		since := count - w.before[i]
		w.before[i] = count
		if i > 0 { // The first bucket begins at minus infinity.
			n += since
			sum += float64(since) * h.Buckets[i]
		}
	}
	if n == 0 {
		return 0
	}
	return time.Duration(sum / float64(n) * float64(time.Second))
}
