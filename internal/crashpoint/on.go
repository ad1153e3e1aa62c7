//go:build faults

package crashpoint

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"time"
)

// stalled is how long a process stalls: longer than other workers wait for a message, shorter than a lease.
const stalled = 20 * time.Second

// errFailed is what a place fails with.
var errFailed = errors.New("failed at a crash point")

var (
	point, action, nth = configured()
	reached            atomic.Int64
)

func configured() (point, action string, nth int64) {
	fields := strings.Fields(os.Getenv("FANFARE_TEST_CRASH_POINT"))
	if len(fields) != 3 {
		return "", "", 0
	}
	nth, _ = strconv.ParseInt(fields[2], 10, 64) // 0 is never reached
	return fields[0], fields[1], nth
}

// Reach says that the process has reached a place.
func Reach(name string) error {
	if name != point || reached.Add(1) != nth {
		return nil
	}
	if err := os.WriteFile(os.Getenv("FANFARE_TEST_CRASH_LOG"), []byte(name), 0o600); err != nil {
		fmt.Fprintln(os.Stderr, "crashpoint:", err)
	}
	switch action {
	case "kill":
		_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
		select {}
	case "stall":
		time.Sleep(stalled)
	case "fail":
		return fmt.Errorf("%w: %s", errFailed, name)
	}
	return nil
}
