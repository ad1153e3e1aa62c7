package main

import "testing"

func TestBoundOfMemoryFollowsTheMemoryThereIs(t *testing.T) {
	t.Parallel()
	const mib, gib = 1 << 20, 1 << 30
	for _, tt := range []struct {
		limit        string
		machine      int64
		live, others uint64
		want         int64
	}{
		{"max\n", 24 * gib, 40 * mib, 60 * mib, 448 * mib},
		{"max\n", 4 * gib, 40 * mib, 60 * mib, 256 * mib},
		{"4294967296\n", 64 * gib, 40 * mib, 60 * mib, 256 * mib},
		{"1073741824\n", 64 * gib, 40 * mib, 60 * mib, 192 * mib},
		{"9223372036854771712\n", 4 * gib, 0, 0, 256 * mib}, // more than there is
		{"", 0, 0, 0, 192 * mib},
		{"max\n", 24 * gib, 1000 * mib, 100 * mib, 1600 * mib}, // a large directory
	} {
		if got := memoryBound(containerMemory(tt.limit, tt.machine), tt.live, tt.others); got != tt.want {
			t.Errorf("limit %q on a machine of %d with %d live: got %d, want %d", tt.limit, tt.machine, tt.live, got, tt.want)
		}
	}
	if usableMemory() <= 0 {
		t.Error("the machine's memory is not known")
	}
}
