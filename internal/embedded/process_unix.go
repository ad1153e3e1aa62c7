//go:build unix

package embedded

import (
	"os/exec"
	"runtime"
	"syscall"
	"time"
)

// process is a child of ours.
type process struct {
	pid  int
	done chan struct{} // closed when it has ended
	err  error         // how it ended; to be read when done is closed
}

// spawn starts the command from a thread that lives until the child has ended: the kernel binds the child's
// death signal to the thread that started it, and Go ends threads as it likes.
func spawn(cmd *exec.Cmd) (*process, error) {
	p := &process{done: make(chan struct{})}
	started := make(chan error, 1)
	go func() {
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		if err := cmd.Start(); err != nil {
			started <- err
			return
		}
		p.pid = cmd.Process.Pid
		started <- nil
		p.err = cmd.Wait()
		close(p.done)
	}()
	if err := <-started; err != nil {
		return nil, err
	}
	return p, nil
}

// signal sends a signal and says whether the process has ended within the time.
func (p *process) signal(s syscall.Signal, wait time.Duration) bool {
	select {
	case <-p.done:
		return true
	default:
	}
	_ = syscall.Kill(p.pid, s) // it fails only for one that is ending just now
	select {
	case <-p.done:
		return true
	case <-time.After(wait):
		return false
	}
}
