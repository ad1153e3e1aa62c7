package group_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/fanfarehq/fanfare/internal/group"
)

func TestFirstGoesAtOnceTheRestTogether(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var sizes []int
		c := group.New(group.Limits{Count: 10}, nil, func(_ context.Context, items []int) error {
			sizes = append(sizes, len(items))
			time.Sleep(time.Millisecond)
			return nil
		})
		var wg sync.WaitGroup
		wg.Go(func() { _ = c.Do(t.Context(), 0) })
		synctest.Wait()
		for i := range 25 {
			wg.Go(func() { _ = c.Do(t.Context(), i) })
		}
		wg.Wait()
		if got, want := fmt.Sprint(sizes), "[1 10 10 5]"; got != want {
			t.Errorf("group sizes: got %s, want %s", got, want)
		}
	})
}

func TestBytesBoundAGroup(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var sizes []int
		c := group.New(group.Limits{Bytes: 100}, func(n int) int { return n }, func(_ context.Context, items []int) error {
			sizes = append(sizes, len(items))
			time.Sleep(time.Millisecond)
			return nil
		})
		var wg sync.WaitGroup
		wg.Go(func() { _ = c.Do(t.Context(), 500) }) // larger than the bound: alone
		synctest.Wait()
		for range 5 {
			wg.Go(func() { _ = c.Do(t.Context(), 40) })
		}
		wg.Wait()
		if got, want := fmt.Sprint(sizes), "[1 2 2 1]"; got != want {
			t.Errorf("group sizes: got %s, want %s", got, want)
		}
	})
}

func TestEveryCallerOfAGroupGetsItsError(t *testing.T) {
	t.Parallel()
	want := errors.New("disk on fire")
	c := group.New(group.Limits{}, nil, func(context.Context, []int) error { return want })
	var wg sync.WaitGroup
	for i := range 100 {
		wg.Go(func() {
			if got := c.Do(t.Context(), i); !errors.Is(got, want) {
				t.Errorf("got %v, want %v", got, want)
			}
		})
	}
	wg.Wait()
}

// A caller that gives up neither stops the group's work nor takes the lead with it.
func TestLeaversDoNotStallOthers(t *testing.T) {
	t.Parallel()
	var committed atomic.Int64
	c := group.New(group.Limits{Count: 3}, nil, func(_ context.Context, items []int) error {
		committed.Add(int64(len(items)))
		return nil
	})
	var wg sync.WaitGroup
	var stayed atomic.Int64
	for i := range 2000 {
		wg.Go(func() {
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			if i%3 == 0 {
				go cancel()
			}
			if c.Do(ctx, i) == nil {
				stayed.Add(1)
			}
		})
	}
	wg.Wait()
	if err := c.Do(t.Context(), 0); err != nil {
		t.Fatalf("after the leavers: %v", err)
	}
	if committed.Load() < stayed.Load()+1 {
		t.Errorf("committed %d items, but %d callers were told so", committed.Load(), stayed.Load()+1)
	}
}

func TestAPanicReachesItsLeaderAndFreesTheOthers(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c := group.New(group.Limits{}, nil, func(context.Context, []int) error {
			time.Sleep(time.Millisecond)
			panic("boom")
		})
		var panics, errs atomic.Int64
		var wg sync.WaitGroup
		for i := range 10 {
			wg.Go(func() {
				defer func() {
					if recover() != nil {
						panics.Add(1)
					}
				}()
				if c.Do(t.Context(), i) != nil {
					errs.Add(1)
				}
			})
		}
		wg.Wait()
		if panics.Load() != 2 || errs.Load() != 8 {
			t.Errorf("got %d panics and %d errors, want 2 (one a group) and 8", panics.Load(), errs.Load())
		}
	})
}

// A commit that gathers waits for further items, until it is full, somebody waits for an item, or the time is over.
func TestItemsAreGathered(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name  string
		count int
		last  func(c *group.Committer[int], ctx context.Context, item int) error
		after time.Duration
	}{
		{"full", 3, (*group.Committer[int]).Do, 0},
		{"somebody waits", 10, (*group.Committer[int]).DoNow, 0},
		{"the time is over", 10, (*group.Committer[int]).Do, time.Second},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				var sizes []int
				c := group.New(group.Limits{Count: tt.count, Gather: time.Second}, nil, func(_ context.Context, items []int) error {
					sizes = append(sizes, len(items))
					return nil
				})
				begun := time.Now()
				var wg sync.WaitGroup
				for i := range 2 {
					wg.Go(func() { _ = c.Do(t.Context(), i) })
				}
				synctest.Wait()
				_ = tt.last(c, t.Context(), 2)
				wg.Wait()
				if got, took := fmt.Sprint(sizes), time.Since(begun); got != "[3]" || took != tt.after {
					t.Errorf("group sizes %s after %s, want [3] after %s", got, took, tt.after)
				}
			})
		})
	}
}
