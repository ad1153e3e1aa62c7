//go:build race

package filter_test

// raceEnabled: the race detector empties pools at random, so memory taken from them counts as allocated.
const raceEnabled = true
