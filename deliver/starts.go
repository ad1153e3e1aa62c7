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
	most int

	mu    sync.Mutex
	young int
	// begun counts the young ones by the tick in which they began: this one and the one before. Which one ended is
	// not known and taken for the oldest; one that is young no more makes room as well when it ends, which is harmless.
	begun   [2]int
	tick    int
	queue   []chan struct{}
	calmers []chan struct{} // those who have more requests, and wait until the queue is short
	ticking bool
	skipped int // ticks that were passed over because the processors were busy
	waits   waits
}

func newStarts() *starts { return &starts{most: youngPerCore * runtime.GOMAXPROCS(0)} }

// begin returns when a request may begin. Who gets nil calls end.
func (s *starts) begin(ctx context.Context) error {
	s.mu.Lock()
	if s.young < s.most && len(s.queue) == 0 {
		s.count()
		s.mu.Unlock()
		return nil
	}
	turn := make(chan struct{})
	s.queue = append(s.queue, turn)
	s.watch()
	s.mu.Unlock()
	select {
	case <-turn:
		return nil
	case <-ctx.Done():
		s.leave(turn)
		return context.Cause(ctx)
	}
}

// calm returns once few wait to begin. Who has many more asks for it before it makes a goroutine for each: a thousand
// that only wait cost more in stacks than they do.
func (s *starts) calm(ctx context.Context) error {
	s.mu.Lock()
	if len(s.queue) < s.most && len(s.calmers) == 0 {
		s.mu.Unlock()
		return nil
	}
	turn := make(chan struct{})
	s.calmers = append(s.calmers, turn)
	s.watch()
	s.mu.Unlock()
	select {
	case <-turn:
		return nil
	case <-ctx.Done():
		s.mu.Lock()
		defer s.mu.Unlock()
		s.calmers = slices.DeleteFunc(s.calmers, func(queued chan struct{}) bool { return queued == turn })
		return context.Cause(ctx)
	}
}

// relieve lets the next one go on who has more, if the queue is short. Its requests come before the next is let go, or
// a tick does: it may turn out that it has none to make.
func (s *starts) relieve() {
	if len(s.calmers) > 0 && len(s.queue) < s.most {
		close(s.calmers[0])
		s.calmers[0] = nil
		s.calmers = s.calmers[1:]
	}
}

// end notes that a request ended.
func (s *starts) end() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, tick := range [...]int{1 - s.tick, s.tick} {
		if s.begun[tick] > 0 {
			s.begun[tick]--
			s.young--
			break
		}
	}
	s.serve()
}

// crowded reports whether requests wait for the processors.
func (s *starts) crowded() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.queue) > 0
}

func (s *starts) count() {
	s.young++
	s.begun[s.tick]++
}

// serve lets those begin for whom there is room.
func (s *starts) serve() {
	for len(s.queue) > 0 && s.young < s.most {
		s.count()
		close(s.queue[0])
		s.queue[0] = nil
		s.queue = s.queue[1:]
	}
	s.relieve()
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
	s.relieve()
	s.ticking = false
	s.watch()
}

// watch keeps the ticks coming while anybody waits.
func (s *starts) watch() {
	if !s.ticking && len(s.queue)+len(s.calmers) > 0 {
		s.ticking = true
		time.AfterFunc(youngFor, s.age)
	}
}

// leave takes one who gives up out of the queue; if its turn came at that moment, it goes to the next.
func (s *starts) leave(turn chan struct{}) {
	s.mu.Lock()
	for i, queued := range s.queue {
		if queued == turn {
			s.queue = append(s.queue[:i:i], s.queue[i+1:]...)
			s.mu.Unlock()
			return
		}
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
