// The rule when a group goes in one batch has no face of its own, and a broker that is as slow as the cases say cannot be had.

package jetstream

import (
	"testing"
	"time"
)

func TestPace(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name          string
		single, batch time.Duration
		never, from   int // the largest group that goes singly, the smallest that goes together; 0: none does
	}{
		{"busy disk", 300 * time.Microsecond, 4 * time.Millisecond, 12, 16},
		{"idle disk", 75 * time.Microsecond, 4 * time.Millisecond, 55, 70},
		{"no sync", 5 * time.Microsecond, 2 * time.Millisecond, 1000, 0},
	}
	for _, tt := range tests {
		p := newPace()
		for range 30 {
			p.sentSingly(8, 8*tt.single)
			p.sentTogether(100, tt.batch+100*staged)
		}
		if p.together(tt.never) {
			t.Errorf("%s: %d messages go together", tt.name, tt.never)
		}
		if tt.from > 0 && !p.together(tt.from) {
			t.Errorf("%s: %d messages go singly", tt.name, tt.from)
		}
	}
}

// One hiccup of the disk does not turn it over, and what it did is forgotten.
func TestPaceForgetsHiccups(t *testing.T) {
	t.Parallel()
	p := newPace()
	p.sentTogether(500, 10*time.Second)
	if !p.together(50) {
		t.Error("after one slow batch, 50 messages go singly")
	}
	p.sentSingly(2, 10*time.Second) // too few to tell anything
	if p.together(3) {
		t.Error("after two slow messages, 3 go together")
	}
}

// Without this, a group that is never small would never show that batches do not pay.
func TestPaceProbes(t *testing.T) {
	t.Parallel()
	p := newPace()
	probes := 0
	for range 10 * probeEvery {
		if p.probe() {
			probes++
		}
	}
	if probes != 10 {
		t.Errorf("got %d probes of %d batches, want 10", probes, 10*probeEvery)
	}
}
