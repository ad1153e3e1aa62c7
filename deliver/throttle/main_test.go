package throttle_test

import (
	"os"
	"runtime"
	"testing"
)

// TestMain gives the tests two cores at least: the deliveries that may begin at once are so many for each core, and most of these
// tests count 64 places.
func TestMain(m *testing.M) {
	runtime.GOMAXPROCS(max(runtime.GOMAXPROCS(0), 2))
	os.Exit(m.Run())
}
