//go:build race

package subscriptions

// raceEnabled says that pools forget at random, so that what is taken from them counts as allocated.
const raceEnabled = true
