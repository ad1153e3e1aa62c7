// Requests over sockets come in no order that a test could choose, and not within a bubble.

package ingest

import (
	"fmt"
	"testing"
	"testing/synctest"
)

// Small requests go before a large one that waits for room, but not for ever: after so many the large one is next.
func TestSmallRequestsOvertakeALargeOne(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		const share = 1 << 20
		door := newDoor(Config{Memory: 4 * share, MaxWaiting: 1000})
		enter := func(tenant string, bytes int64, small bool) (let chan struct{}) {
			let = make(chan struct{})
			go func() {
				if err := door.enter(t.Context(), tenant, bytes, small); err != nil {
					t.Error(err)
				}
				close(let)
			}()
			synctest.Wait()
			return let
		}
		in := func(let chan struct{}) bool {
			select {
			case <-let:
				return true
			default:
				return false
			}
		}
		for i := range 4 {
			if !in(enter(fmt.Sprint("tenant", i), share, false)) {
				t.Fatal("a tenant does not get its share")
			}
		}
		large := enter("late", share, false)
		door.leave("tenant0", share/2)
		for i := range maxOvertaken {
			if !in(enter("other", 1, true)) {
				t.Fatalf("small request %d waits for a large one", i)
			}
			door.leave("other", 1)
		}
		small := enter("other", 1, true)
		if in(large) || in(small) {
			t.Fatalf("large let in: %t; small one over those that may overtake: %t", in(large), in(small))
		}
		door.leave("tenant0", share/2)
		synctest.Wait()
		if !in(large) {
			t.Error("the large request waits although there is room")
		}
		door.leave("tenant1", share)
		synctest.Wait()
		if !in(small) {
			t.Error("the small request waits although there is room")
		}
	})
}
