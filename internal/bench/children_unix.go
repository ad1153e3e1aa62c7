//go:build unix

package bench

import (
	"os"
	"os/exec"
	"syscall"
	"time"
)

// setApart keeps a Ctrl-C in the terminal from a child: the parent stops its children in an order of its own.
func setApart(cmd *exec.Cmd) { cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} }

// terminate asks a child to stop.
func terminate(p *os.Process) error { return p.Signal(syscall.SIGTERM) }

// wasTerminated says whether terminate ended a child.
func wasTerminated(exit *exec.ExitError) bool {
	status, ok := exit.Sys().(syscall.WaitStatus)
	return ok && status.Signaled() && status.Signal() == syscall.SIGTERM
}

// ownCPU is what this process has used.
func ownCPU() time.Duration {
	var use syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &use); err != nil {
		return 0
	}
	return time.Duration(use.Utime.Nano() + use.Stime.Nano())
}

// deviceOf returns the number of the device that holds a file.
func deviceOf(name string) (uint64, bool) {
	info, err := os.Stat(name)
	if err != nil {
		return 0, false
	}
	of, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return 0, false
	}
	return uint64(of.Dev), true //nolint:unconvert // It is an int32 on macOS.
}
