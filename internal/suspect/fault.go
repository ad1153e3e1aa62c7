//go:build faults

package suspect

import (
	"bytes"
	"os"
	"strings"
	"syscall"
)

// Fault kills the process with SIGKILL at a place of the code, if the data holds a mark. FANFARE_TEST_FAULTS lists pairs
// of both: "EVENTS=mark,attempt=mark". No released binary has this.
func Fault(place string, data []byte) {
	for pair := range strings.SplitSeq(os.Getenv("FANFARE_TEST_FAULTS"), ",") {
		at, mark, ok := strings.Cut(pair, "=")
		if ok && at == place && bytes.Contains(data, []byte(mark)) {
			_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
			select {}
		}
	}
}
