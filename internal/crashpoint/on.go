//go:build faults

package crashpoint

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"time"
)

// stalled is how long a process stalls by default: longer than other workers wait for a message, shorter than a lease.
const stalled = 20 * time.Second

// errFailed is what a place fails with.
var errFailed = errors.New("failed at a crash point")

// visit is what happens when the place is reached for the nth time.
type visit struct {
	action string
	nth    int64
}

var (
	point, visits = configured()
	reached       atomic.Int64
)

func configured() (point string, visits []visit) {
	fields := strings.Fields(os.Getenv("FANFARE_TEST_CRASH_POINT"))
	if len(fields) < 3 {
		return "", nil
	}
	for pair := range slices.Chunk(fields[1:], 2) {
		nth, err := strconv.ParseInt(pair[len(pair)-1], 10, 64)
		if err != nil {
			panic("FANFARE_TEST_CRASH_POINT: " + err.Error())
		}
		visits = append(visits, visit{pair[0], nth})
	}
	return fields[0], visits
}

// Reach says that the process has reached a place.
func Reach(name string) error {
	if name != point {
		return nil
	}
	n := reached.Add(1)
	for i, v := range visits {
		if v.nth != n {
			continue
		}
		if i == len(visits)-1 {
			if err := os.WriteFile(os.Getenv("FANFARE_TEST_CRASH_LOG"), []byte(name), 0o600); err != nil {
				fmt.Fprintln(os.Stderr, "crashpoint:", err)
			}
		}
		return v.perform()
	}
	return nil
}

func (v visit) perform() error {
	switch v.action {
	case "kill":
		_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
		select {}
	case "stall":
		d, err := time.ParseDuration(os.Getenv("FANFARE_TEST_CRASH_STALL"))
		if err != nil {
			d = stalled
		}
		time.Sleep(d)
	case "fail":
		return fmt.Errorf("%w: %s", errFailed, point)
	}
	return nil
}
