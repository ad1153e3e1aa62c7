package deliver_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/fanfarehq/fanfare/deliver/outcome"
	"github.com/fanfarehq/fanfare/internal/servertest"
	"github.com/fanfarehq/fanfare/subscriptions"
)

// A receiver that is slow, resets, answers 500, says to come back later or is not there: the others' deliveries are made
// while its own still wait, and it never holds more of the worker than its share.
func TestNoReceiverHoldsUpOthers(t *testing.T) {
	t.Parallel()
	const quick, events, limit = 10, 50, 8
	tests := []struct {
		name   string
		answer servertest.Answer
		url    string // instead of a receiver's
		slots  int    // that it may hold at once
	}{
		{name: "takes ten seconds", answer: servertest.Delay(10*time.Second, servertest.Status(200)), slots: limit},
		{name: "never answers", answer: servertest.Hang(), slots: limit},
		{name: "resets", answer: servertest.Reset(), slots: limit},
		{name: "answers 500", answer: servertest.Status(500), slots: limit},
		{name: "says 429", answer: servertest.Reply(429, http.Header{"Retry-After": {"60"}}, ""), slots: limit},
		{name: "is not there", url: "http://127.0.0.1:1/", slots: limit},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r := newRig(t)
			cfg := sparing()
			cfg.InFlight = 64
			p := r.parts(cfg)
			watched := &watchedPoster{Attempter: p.deps.Poster}
			p.deps.Poster = watched
			r.start(p)
			r.recorder()
			url := tt.url
			if url == "" {
				url = servertest.NewReceiver(t, tt.answer).URL
			}
			bad := r.subscribe(url, func(s *subscriptions.Subscription) {
				s.MaxInFlight = limit
				s.Retry.Schedule = []time.Duration{time.Hour}
			})
			watched.of.Store(&bad.ID)
			good := servertest.NewReceiver(t)
			subs := []*subscriptions.Subscription{bad}
			for i := range quick {
				subs = append(subs, r.subscribe(fmt.Sprintf("%s/%d", good.URL, i), nil))
			}
			r.sendAll(events, subs...)
			good.Wait(quick * events)
			r.Eventually("the others' deliveries to be recorded", func() bool {
				return r.Count(`SELECT count(*) FROM deliveries WHERE state = 'delivered'`) >= quick*events
			})
			if n := r.Count(`SELECT count(*) FROM deliveries WHERE subscription_id = $1`, bad.ID); n > 2*limit {
				t.Errorf("%d deliveries of the bad receiver have ended, want the others' first", n)
			}
			if n := watched.most.Load(); n > int64(tt.slots) {
				t.Errorf("the bad receiver had %d requests at once, want %d at most", n, tt.slots)
			}
		})
	}
}

// Many slow receivers together leave room in a worker for a quick one.
func TestManySlowReceiversLeaveRoom(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	cfg := sparing()
	cfg.InFlight, cfg.HandOff = 64, 100*time.Millisecond
	p := r.parts(cfg)
	attempts := &countingPoster{Attempter: p.deps.Poster}
	p.deps.Poster = attempts
	r.start(p)
	r.recorder()
	slow := servertest.NewReceiver(t, servertest.Delay(2*time.Second, servertest.Status(200)))
	var subs []*subscriptions.Subscription
	for i := range 12 {
		subs = append(subs, r.subscribe(fmt.Sprintf("%s/%d", slow.URL, i), nil))
	}
	r.sendAll(40, subs...)
	// Once it is known that they are slow, not all slots are theirs.
	r.Eventually("slots to be free although much waits", func() bool { return attempts.n.Load() > 100 && attempts.now.Load() < int64(cfg.InFlight) })
	slow.Answer(servertest.Hang()) // so that some still wait in the end
	good := r.subscribe(servertest.NewReceiver(t).URL, nil)
	r.ended(r.sendAll(1, good)[0], outcome.Delivered, outcome.ReasonOK)
	if n := r.Count(`SELECT count(*) FROM deferrals`); n == 0 {
		t.Error("nothing of the slow receivers waits any more: the test says nothing")
	}
}

// A backlog for an endpoint that comes back: it drains within its rate and its bound, and others go their way meanwhile.
// FANFARE_TEST_BACKLOG makes it larger, to measure with: the rest is logged.
func backlogDrainsWithinBounds(t *testing.T) {
	backlog := size(t, "FANFARE_TEST_BACKLOG", 1000)
	limit := subscriptions.RateLimit{Limit: 500, Per: time.Second}
	const most = 64
	r := newRig(t)
	p := r.parts(sparing())
	var up atomic.Bool
	var arrived atomic.Int64
	others := newStopwatch()
	// It keeps nothing of the requests, so that what grows is the worker's.
	receiver := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		switch {
		case req.URL.Path == "/other":
			others.stop(req.Header.Get("webhook-id"))
		case !up.Load():
			w.WriteHeader(http.StatusInternalServerError)
		default:
			arrived.Add(1)
		}
	}))
	t.Cleanup(receiver.Close)
	sub := r.subscribe(receiver.URL, func(s *subscriptions.Subscription) {
		s.MaxInFlight, s.RateLimit, s.Retry.Schedule = most, &limit, []time.Duration{time.Second}
		s.Retry.MaxRetries = new(100)
	})
	other := r.subscribe(receiver.URL+"/other", nil)
	var mu sync.Mutex
	var begun []int64
	watched := &watchedPoster{Attempter: timedPoster{Attempter: p.deps.Poster, mu: &mu, begun: &begun, only: sub.ID}}
	watched.of.Store(&sub.ID)
	p.deps.Poster = watched
	w := r.start(p)
	r.recorder()
	r.sendAll(20, sub)
	r.Eventually("the breaker to open", func() bool { return w.breakers("open") >= 1 })
	r.putOff(sub, backlog)
	talk := func(n int) {
		for range n {
			e := r.event()
			others.start(e.ID)
			r.send(e, other)
		}
	}
	talk(200)
	r.Eventually("the others' deliveries", others.idle)
	alone, base := others.p99(), heap()
	mu.Lock()
	begun = nil
	mu.Unlock()
	back := time.Now()
	up.Store(true)
	var highest uint64
	for round := 0; arrived.Load() < int64(backlog); round++ {
		talk(20)
		r.Eventually("the others' deliveries", others.idle)
		if round%100 == 0 {
			highest = max(highest, heap())
		}
	}
	r.all(sub, backlog+20, outcome.Delivered)
	mu.Lock()
	defer mu.Unlock()
	noneTooSoon(t, begun, back.UnixMicro(), limit)
	if n := watched.most.Load(); n > most {
		t.Errorf("got %d requests at once, want %d at most", n, most)
	}
	if n := r.Count(`SELECT count(*) FROM deliveries WHERE subscription_id = $1 AND attempts > 1`, sub.ID); n > 40 {
		t.Errorf("%d deliveries took more than one attempt", n)
	}
	t.Logf("%d in %s; p99 of the others %s before and %s meanwhile; heap %d MiB before, %d at most",
		backlog, time.Since(back).Round(time.Second), alone, others.p99(), base>>20, highest>>20)
}

// stopwatch measures how long each of several things takes.
type stopwatch struct {
	mu      sync.Mutex
	running map[string]time.Time
	took    []time.Duration
}

func newStopwatch() *stopwatch { return &stopwatch{running: make(map[string]time.Time)} }

func (s *stopwatch) start(id string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.running[id] = time.Now()
}

func (s *stopwatch) stop(id string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if since, ok := s.running[id]; ok {
		delete(s.running, id)
		s.took = append(s.took, time.Since(since))
	}
}

// idle reports whether everything has been stopped.
func (s *stopwatch) idle() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.running) == 0
}

// p99 is that since the last call.
func (s *stopwatch) p99() time.Duration {
	s.mu.Lock()
	defer s.mu.Unlock()
	slices.Sort(s.took)
	p99 := s.took[len(s.took)*99/100]
	s.took = nil
	return p99.Round(100 * time.Microsecond)
}

// heap is what is reachable.
func heap() uint64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}
