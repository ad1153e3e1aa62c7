package main

import "testing"

// Memory that was given back reads as zeros, as memory that was never used does.
func TestUntouch(t *testing.T) {
	t.Parallel()
	b := make([]byte, 1<<20)
	for i := range b {
		b[i] = 1
	}
	untouch(b)
	for i, v := range b {
		if v != 0 {
			t.Fatalf("byte %d is still resident", i)
		}
	}
}

func TestHeadroomFollowsTheMemoryThereIs(t *testing.T) {
	t.Parallel()
	const gib = 1 << 30
	for _, tt := range []struct {
		limit   string
		machine int64
		want    int64
	}{
		{"max\n", 24 * gib, 384 << 20},
		{"max\n", 16 * gib, 256 << 20},
		{"max\n", 4 * gib, 128 << 20},
		{"17179869184\n", 64 * gib, 256 << 20},
		{"1073741824\n", 64 * gib, 128 << 20},
		{"9223372036854771712\n", 16 * gib, 256 << 20}, // more than there is
		{"", 0, 128 << 20},
	} {
		if got := headroom(containerMemory(tt.limit, tt.machine)); got != tt.want {
			t.Errorf("limit %q on a machine of %d: got %d, want %d", tt.limit, tt.machine, got, tt.want)
		}
	}
	if usableMemory() <= 0 {
		t.Error("the machine's memory is not known")
	}
}
