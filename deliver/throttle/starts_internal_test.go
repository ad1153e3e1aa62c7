// How long goroutines wait for a processor is not for a test to choose, but told to the rule.

package throttle

import (
	"runtime"
	"slices"
	"testing"
	"time"
)

// youngAfter is how many requests may be young at once after so many looks at the waits for a processor.
func youngAfter(waits ...time.Duration) int {
	s := newStarts(func(f func()) { go f() })
	for _, wait := range waits {
		s.adapt(wait)
	}
	return s.most
}

// While goroutines wait long for a processor, fewer requests are young at once, but always some; then as many again.
func TestFewerRequestsAreYoungOnCrowdedProcessors(t *testing.T) {
	t.Parallel()
	cores := runtime.GOMAXPROCS(0)
	most := youngPerCore * cores
	long, short := slices.Repeat([]time.Duration{time.Second}, 1000), slices.Repeat([]time.Duration{0}, 1000)
	if got := youngAfter(short...); got != most {
		t.Errorf("in peace: got %d, want %d", got, most)
	}
	if got := youngAfter(long...); got < cores || got > most/2 {
		t.Errorf("crowded: got %d, want fewer than half of %d and one a core at least", got, most)
	}
	if got := youngAfter(slices.Concat(long, short)...); got != most {
		t.Errorf("in peace again: got %d, want %d", got, most)
	}
}
