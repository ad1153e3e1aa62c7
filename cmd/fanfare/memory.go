package main

import (
	"context"
	"math"
	"os"
	"runtime/debug"
	"runtime/metrics"
	"time"
)

const (
	// leastBound and mostBound bound what Go may use before garbage is collected: a 16th of the machine's memory. While it
	// is collected, nearly all of two cores is taken for 30 to 50 ms.
	leastBound = 192 << 20
	mostBound  = 448 << 20
	// memoryLook is how often the bound follows what lives.
	memoryLook = 250 * time.Millisecond
)

// memoryBound returns what Go may use before garbage is collected, on a machine with so much memory, where live bytes of the
// heap are in use and others beside the heap. As much as half of what lives may be garbage at least: with less, a large
// directory would have garbage collected all the time.
func memoryBound(machine int64, live, others uint64) int64 {
	return max(min(max(machine/16, leastBound), mostBound), int64(live+live/2+others))
}

// boundMemory has garbage collected when the process has reached a bound, and not each time that the heap has doubled: with a
// small live heap, as a process that passes events on has, that would be many times a second and take an eighth of the
// CPU under load. It runs until ctx ends, once in a
// process. Whoever sets GOGC or GOMEMLIMIT has decided otherwise.
func boundMemory(ctx context.Context) error {
	if os.Getenv("GOGC") != "" || os.Getenv("GOMEMLIMIT") != "" {
		return nil
	}
	machine := usableMemory()
	samples := []metrics.Sample{
		{Name: "/gc/heap/live:bytes"},
		{Name: "/memory/classes/total:bytes"},
		{Name: "/memory/classes/heap/objects:bytes"},
		{Name: "/memory/classes/heap/free:bytes"},
		{Name: "/memory/classes/heap/released:bytes"},
	}
	var bound int64
	look := func() {
		metrics.Read(samples)
		others := samples[1].Value.Uint64()
		for _, s := range samples[2:] {
			others -= min(others, s.Value.Uint64())
		}
		// To set it stops all goroutines for a moment, so it is not set for little.
		if next := memoryBound(machine, samples[0].Value.Uint64(), others); next > bound || next < bound-bound/8 {
			bound = next
			debug.SetMemoryLimit(bound)
		}
	}
	look()
	defer debug.SetMemoryLimit(math.MaxInt64)
	percent := debug.SetGCPercent(-1)
	defer debug.SetGCPercent(percent)
	tick := time.NewTicker(memoryLook)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
			look()
		}
	}
}
