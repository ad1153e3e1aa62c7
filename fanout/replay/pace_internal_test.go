// How large a step is and how long the pause after it cannot be told from outside on a busy machine.

package replay

import (
	"testing"
	"time"
)

func TestAStepIsShort(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		state string
		rate  int
		want  int
	}{
		{"running", 1, 1}, {"running", 15, 15}, {"running", 100, 20}, {"running", 1000, 25}, {"running", 100000, 500},
		{"counting", 1, 200}, {"counting", 10000, 200},
	} {
		if got := (&replay{state: replayState(tt.state), rate: tt.rate}).most(); got != tt.want {
			t.Errorf("%s at %d a second: a step of %d, want %d", tt.state, tt.rate, got, tt.want)
		}
	}
	for _, tt := range []struct {
		counting         bool
		wait, took, want time.Duration
	}{
		{true, 0, 8 * time.Millisecond, 64 * time.Millisecond},
		{false, -400 * time.Millisecond, 8 * time.Millisecond, 16 * time.Millisecond},   // enough is written ahead
		{false, -900 * time.Millisecond, 8 * time.Millisecond, 0},                       // it would be late
		{false, 100 * time.Millisecond, 8 * time.Millisecond, 100 * time.Millisecond},   // it is not time yet
		{false, 100 * time.Millisecond, 200 * time.Millisecond, 400 * time.Millisecond}, // the machine is busy
	} {
		if got := pauseAfter(tt.counting, tt.wait, tt.took); got != tt.want {
			t.Errorf("counting %t, after a step of %v with %v to wait: got %v, want %v", tt.counting, tt.took, tt.wait, got, tt.want)
		}
	}
}
