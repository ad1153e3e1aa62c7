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

// Who has many more requests waits while the queue is long, and goes on when it is short.
func TestWhoHasMoreWaitsUntilTheQueueIsShort(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := &starts{most: 2}
		begin := func() {
			if err := s.begin(t.Context()); err != nil {
				t.Error(err)
			}
		}
		var waiting sync.WaitGroup
		for range 2 {
			begin()
			waiting.Go(begin)
		}
		synctest.Wait()
		var calm atomic.Bool
		waiting.Go(func() {
			if err := s.calm(t.Context()); err != nil {
				t.Error(err)
			}
			calm.Store(true)
		})
		synctest.Wait()
		if calm.Load() {
			t.Error("it did not wait, though the queue is as long as may be")
		}
		s.end()
		waiting.Wait()
		if !calm.Load() {
			t.Error("it did not go on")
		}
		for range 3 {
			s.end()
		}
		time.Sleep(time.Second) // lets the last tick pass
	})
}

// Of those who wait, some make no request after all. That holds up nobody, and neither do those who give up.
func TestWhoMakesNoRequestHoldsUpNobody(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := &starts{most: 1}
		if err := s.begin(t.Context()); err != nil {
			t.Fatal(err)
		}
		queued, leave := context.WithCancel(t.Context())
		var waiting sync.WaitGroup
		waiting.Go(func() {
			if err := s.begin(queued); !errors.Is(err, context.Canceled) {
				t.Errorf("got %v, want that it was cancelled", err)
			}
		})
		synctest.Wait()
		for range 3 {
			waiting.Go(func() {
				if err := s.calm(t.Context()); err != nil {
					t.Error(err)
				}
			})
		}
		waiting.Go(func() {
			if err := s.calm(queued); !errors.Is(err, context.Canceled) {
				t.Errorf("got %v, want that it was cancelled", err)
			}
		})
		synctest.Wait()
		leave()
		waiting.Wait()
		s.end()
		time.Sleep(time.Second)
	})
}
