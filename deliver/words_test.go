package deliver_test

import (
	"slices"
	"testing"

	"github.com/fanfarehq/fanfare/deliver/outcome"
	"github.com/fanfarehq/fanfare/deliver/throttle"
)

// A refusal of the gate becomes the reason of a record as it is.
func TestThrottlesWordsAreReasons(t *testing.T) {
	t.Parallel()
	for _, word := range []string{throttle.Busy, throttle.BreakerOpen, throttle.RetryAfter, throttle.RateLimited, throttle.Connect} {
		if !slices.Contains(outcome.Reasons(), outcome.Reason(word)) {
			t.Errorf("%s is not a reason", word)
		}
	}
}
