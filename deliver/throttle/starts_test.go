package throttle

import (
	"context"
	"errors"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

func TestRequestsToQuickReceiversBeginOneAfterTheOther(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := startsOf(4)
		var now, most atomic.Int64
		var wg sync.WaitGroup
		for range 200 {
			wg.Go(func() {
				if err := s.begin(t.Context()); err != nil {
					t.Error(err)
				}
				if n := now.Add(1); n > most.Load() {
					most.Store(n)
				}
				time.Sleep(time.Millisecond)
				now.Add(-1)
				s.end()
			})
		}
		wg.Wait()
		s.mu.Lock() // The last tick may be under way.
		defer s.mu.Unlock()
		if most.Load() > 4 || s.young != 0 || len(s.queue) > 0 {
			t.Errorf("%d at once, want at most 4; %d are left", most.Load(), s.young)
		}
	})
}

// Requests to slow receivers are soon not counted: any number of them may be in flight.
func TestSlowRequestsMakeRoom(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := startsOf(4)
		var begun atomic.Int64
		var wg sync.WaitGroup
		for range 100 {
			wg.Go(func() {
				if err := s.begin(t.Context()); err != nil {
					t.Error(err)
				}
				begun.Add(1)
				time.Sleep(time.Hour)
				s.end()
			})
		}
		time.Sleep(2 * 100 / 4 * youngFor)
		synctest.Wait()
		if begun.Load() != 100 {
			t.Errorf("%d of 100 have begun", begun.Load())
		}
		wg.Wait()
		s.mu.Lock()
		defer s.mu.Unlock()
		if s.young != 0 || s.begun != [2]int{} {
			t.Errorf("%d are left, %v", s.young, s.begun)
		}
	})
}

func TestWhoLeavesTakesNoTurn(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := startsOf(1)
		if err := s.begin(t.Context()); err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		left := make(chan error, 1)
		go func() { left <- s.begin(ctx) }()
		synctest.Wait()
		cancel()
		if err := <-left; !errors.Is(err, context.Canceled) {
			t.Errorf("got %v, want that it was cancelled", err)
		}
		s.end()
		if err := s.begin(t.Context()); err != nil {
			t.Error(err)
		}
		s.end()
		time.Sleep(time.Second) // lets the last tick pass
	})
}

// Errands begin in their order, as few at once as may; what waits has no goroutine, and one goroutine does several.
func TestErrandsBeginInTheirOrder(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var goroutines, now, most int
		var order []int
		var mu sync.Mutex
		s := startsOf(3)
		s.spawn = func(f func()) { goroutines++; go f() }
		for i := range 100 {
			goErrand(s, func(may bool) bool {
				mu.Lock()
				order = append(order, i)
				now++
				most = max(most, now)
				mu.Unlock()
				time.Sleep(time.Millisecond)
				mu.Lock()
				now--
				mu.Unlock()
				return may
			})
		}
		time.Sleep(time.Second)
		s.mu.Lock()
		defer s.mu.Unlock()
		// Three that begin together may do so in any order.
		for i, n := range order {
			if n < i-2 || n > i+2 {
				t.Errorf("errand %d came as number %d", n, i)
			}
		}
		if len(order) != 100 || most != 3 || goroutines != 3 || s.young != 0 {
			t.Errorf("%d errands, %d at once, in %d goroutines, %d places left taken; want 100, 3, 3, 0", len(order), most, goroutines, s.young)
		}
	})
}

// A errand that gave its place back itself takes no second one with it, and those who wait themselves are served in between.
func TestErrandsAndOthersShareTheQueue(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := startsOf(1)
		var order []string
		goErrand(s, func(bool) bool { time.Sleep(time.Millisecond); order = append(order, "first"); return true })
		synctest.Wait()
		goErrand(s, func(bool) bool { order = append(order, "second"); s.end(); time.Sleep(time.Millisecond); return false })
		var waiting sync.WaitGroup
		waiting.Go(func() {
			if err := s.begin(t.Context()); err != nil {
				t.Error(err)
			}
			order = append(order, "third")
			s.end()
		})
		waiting.Wait()
		time.Sleep(time.Second)
		s.mu.Lock()
		defer s.mu.Unlock()
		if !slices.Equal(order, []string{"first", "second", "third"}) || s.young != 0 || s.begun != [2]int{} {
			t.Errorf("got %v, and %d places are left taken", order, s.young)
		}
	})
}

// Once nothing may begin any more, every errand hears of it.
func TestErrandsHearOfTheEnd(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := startsOf(1)
		var may, not atomic.Int64
		errand := func(m bool) bool {
			if !m {
				not.Add(1)
				return false
			}
			may.Add(1)
			time.Sleep(time.Millisecond)
			return true
		}
		for range 3 {
			goErrand(s, errand)
		}
		synctest.Wait()
		s.stop()
		goErrand(s, errand)
		time.Sleep(time.Second)
		if may.Load() != 1 || not.Load() != 3 {
			t.Errorf("%d began and %d heard that they may not; want 1 and 3", may.Load(), not.Load())
		}
	})
}

func startsOf(most int) *starts {
	s := newStarts(inGoroutine)
	s.most = most
	return s
}

func inGoroutine(f func()) { go f() }

// goErrand has a function done that returns whether its place is left.
func goErrand(s *starts, do func(may bool) bool) {
	start := new(Start)
	s.Go(errand{start: start, do: func(may bool) { start.placed = do(may) }})
}
