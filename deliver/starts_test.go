package deliver

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

func TestRequestsToQuickReceiversBeginOneAfterTheOther(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := &starts{most: 4}
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
		s := &starts{most: 4}
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
		// Whatever the processors of this machine do meanwhile: so many ticks are enough.
		time.Sleep(2 * 100 / 4 * (busyTicks + 1) * youngFor)
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
		s := &starts{most: 1}
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
