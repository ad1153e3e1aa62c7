package fair_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/fanfarehq/fanfare/internal/fair"
)

// A tenant with many requests does not delay one with few: places go round.
func TestPlacesGoRound(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p := fair.NewPlaces(1)
		leave, err := p.Enter(t.Context(), "loud")
		if err != nil {
			t.Fatal(err)
		}
		var served []string
		for _, tenant := range strings.Fields("loud loud loud loud quiet other quiet") {
			go func() {
				leave, err := p.Enter(t.Context(), tenant)
				if err != nil {
					t.Error(err)
					return
				}
				served = append(served, tenant)
				leave()
			}()
			synctest.Wait() // they queue in this order
		}
		leave()
		synctest.Wait()
		if want := strings.Fields("loud quiet other loud quiet loud loud"); !slices.Equal(served, want) {
			t.Errorf("served %v, want %v", served, want)
		}
	})
}

// A request that gives up leaves neither its place nor its turn behind.
func TestPlacesGivenUp(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p := fair.NewPlaces(1)
		leave, err := p.Enter(t.Context(), "a")
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		for range 3 {
			go func() {
				if _, err := p.Enter(ctx, "b"); !errors.Is(err, context.Canceled) {
					t.Errorf("got %v, want the context's end", err)
				}
			}()
		}
		synctest.Wait()
		cancel()
		synctest.Wait()
		if _, err := p.Enter(ctx, "b"); !errors.Is(err, context.Canceled) {
			t.Errorf("with an ended context: %v", err)
		}
		leave()
		for range 3 {
			leave, err := p.Enter(t.Context(), "c")
			if err != nil {
				t.Fatal(err)
			}
			leave()
		}
	})
}
