package bench

import (
	"os"
	"os/exec"
	"syscall"
	"time"
)

// setApart keeps a Ctrl-C in the terminal from a child: the parent stops its children in an order of its own.
func setApart(cmd *exec.Cmd) {
	cmd.SysProcAttr = &syscall.SysProcAttr{CreationFlags: syscall.CREATE_NEW_PROCESS_GROUP}
}

// terminate ends a child at once: Windows has no signal that asks it to stop.
func terminate(p *os.Process) error { return p.Kill() }

// wasTerminated says whether terminate ended a child: the exit code is then 1, like that of a failure.
func wasTerminated(exit *exec.ExitError) bool { return exit.ExitCode() == 1 }

// ownCPU is what this process has used.
func ownCPU() time.Duration {
	self, err := syscall.GetCurrentProcess()
	if err != nil {
		return 0
	}
	var made, ended, kernel, user syscall.Filetime
	if err := syscall.GetProcessTimes(self, &made, &ended, &kernel, &user); err != nil {
		return 0
	}
	const tick = 100 * time.Nanosecond
	ticks := func(f syscall.Filetime) time.Duration {
		return time.Duration(f.HighDateTime)<<32 | time.Duration(f.LowDateTime)
	}
	return (ticks(kernel) + ticks(user)) * tick
}

// deviceOf knows none.
func deviceOf(string) (uint64, bool) { return 0, false }
