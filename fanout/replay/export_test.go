package replay

import "time"

// StepOf is how many events a step of a replay looks at.
func StepOf(state string, rate int) int {
	return (&replay{state: replayState(state), rate: rate}).most()
}

// PauseAfter is how long a replay waits after a step.
func PauseAfter(counting bool, wait, took time.Duration) time.Duration {
	return pauseAfter(counting, wait, took)
}
