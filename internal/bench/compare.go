package bench

import (
	"slices"
	"time"
)

// comparison is what windows of two kinds that took turns come to: without the load that is measured, and with it.
type comparison struct {
	P99     [2]float64 `json:"p99_ms_without_and_with"` // of all windows of a kind together
	Ratio   float64    `json:"p99_ratio"`
	Pairs   float64    `json:"p99_ratio_median_of_pairs"`
	Noise   float64    `json:"p99_ratio_without_to_without"` // of every other window without to the rest
	Samples [2]int     `json:"deliveries_timed"`
}

// compare compares the latencies of windows, which are as many of each kind, at a rate.
func compare(rate int, times [2][][]time.Duration) (c comparison) {
	p99 := func(windows ...[]time.Duration) (float64, int) {
		l := newBenchLatency(rate, slices.Concat(windows...))
		return l.P99, l.Events
	}
	var halves [2][][]time.Duration
	var pairs []float64
	for i, without := range times[0] {
		halves[i%2] = append(halves[i%2], without)
		before, _ := p99(without)
		beside, _ := p99(times[1][i])
		pairs = append(pairs, beside/before)
	}
	for kind := range times {
		c.P99[kind], c.Samples[kind] = p99(times[kind]...)
	}
	even, _ := p99(halves[0]...)
	odd, _ := p99(halves[1]...)
	c.Ratio, c.Pairs, c.Noise = c.P99[1]/c.P99[0], median(pairs), 1
	if odd > 0 {
		c.Noise = even / odd
	}
	return c
}
