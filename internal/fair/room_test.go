package fair_test

import (
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/fanfarehq/fanfare/internal/fair"
)

// A request that finds no place in time is unavailable; a place that is given back is free.
func TestARoomIsBounded(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := fair.NewRoom(1, time.Second)
		for range 2 {
			leave, err := r.Enter(t.Context(), "acme")
			if err != nil {
				t.Fatal(err)
			}
			_, err = r.Enter(t.Context(), "other")
			if away, ok := errors.AsType[interface {
				error
				Unavailable() bool
			}](err); !ok || !away.Unavailable() {
				t.Errorf("got %v, want unavailable", err)
			}
			leave()
		}
		var none *fair.Room
		if _, err := none.Enter(t.Context(), "acme"); err != nil {
			t.Error(err)
		}
	})
}
