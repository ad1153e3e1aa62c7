package retry_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"github.com/fanfarehq/fanfare/internal/retry"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var errAway = errors.New("away")

// failing fails so many times.
func failing(times int) (do func() error, calls *int) {
	calls = new(int)
	return func() error {
		if *calls++; *calls <= times {
			return errAway
		}
		return nil
	}, calls
}

func always(error) bool { return true }

func TestUntilSucceedsAfterGrowingPauses(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		do, calls := failing(6)
		var at []time.Time
		err := retry.Until(t.Context(), retry.Pauses{First: time.Second, Most: 5 * time.Second}, func() error {
			at = append(at, time.Now())
			return do()
		}, always)
		if err != nil || *calls != 7 {
			t.Fatalf("%d calls, %v", *calls, err)
		}
		for i, about := range []time.Duration{1, 2, 4, 5, 5, 5} {
			about *= time.Second
			if pause := at[i+1].Sub(at[i]); pause < about/2 || pause > about*3/2 {
				t.Errorf("pause %d is %s, want about %s", i, pause, about)
			}
		}
	})
}

func TestUntilStopsWhereAnotherTryWouldNotHelp(t *testing.T) {
	t.Parallel()
	do, calls := failing(9)
	seen := 0
	err := retry.Until(t.Context(), retry.Pauses{First: 1, Most: 1}, do, func(error) bool { seen++; return seen < 3 })
	if !errors.Is(err, errAway) || *calls != 3 {
		t.Errorf("%d calls, %v", *calls, err)
	}
}

func TestUntilTheContextEnds(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	do, calls := failing(9)
	err := retry.Until(ctx, retry.Pauses{First: time.Hour, Most: time.Hour}, do, func(error) bool { cancel(); return true })
	if !errors.Is(err, errAway) || *calls != 1 {
		t.Errorf("in a pause: %d calls, %v", *calls, err)
	}
	asked := false
	err = retry.Until(ctx, retry.Pauses{First: time.Hour, Most: time.Hour}, do, func(error) bool { asked = true; return true })
	if !errors.Is(err, errAway) || *calls != 2 || asked {
		t.Errorf("afterwards: %d calls, %v, asked %v", *calls, err, asked)
	}
}
