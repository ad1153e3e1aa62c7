package throttle

import (
	"runtime/metrics"
	"time"
)

// waits measures how long goroutines wait for a processor.
type waits struct {
	sample []metrics.Sample
	before []uint64 // the counts of the last call
}

// mean returns the mean wait since the last call; 0 if nothing waited.
func (w *waits) mean() time.Duration {
	if w.sample == nil {
		w.sample = []metrics.Sample{{Name: "/sched/latencies:seconds"}}
	}
	metrics.Read(w.sample)
	h := w.sample[0].Value.Float64Histogram()
	if len(w.before) != len(h.Counts) {
		w.before = make([]uint64, len(h.Counts))
	}
	var n uint64
	var sum float64
	for i, count := range h.Counts {
		since := count - w.before[i]
		w.before[i] = count
		if i > 0 { // The first bucket begins at minus infinity.
			n += since
			sum += float64(since) * h.Buckets[i]
		}
	}
	if n == 0 {
		return 0
	}
	return time.Duration(sum / float64(n) * float64(time.Second))
}
