package embedded

import (
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"syscall"
)

// attributes of a process that runs as the account. When we die, the server gets the signal for its fast
// shutdown.
func (a account) attributes() *syscall.SysProcAttr {
	attr := &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGINT}
	if a.other {
		attr.Credential = &syscall.Credential{Uid: uint32(a.uid), Gid: uint32(a.gid)}
	}
	return attr
}

// servers are the processes that work in the data directory, of whatever parent.
func servers(data string) ([]int, error) {
	want, err := os.Stat(data)
	if err != nil {
		if errors.Is(err, os.ErrNotExist) {
			return nil, nil
		}
		return nil, err
	}
	dirs, err := filepath.Glob("/proc/[0-9]*")
	if err != nil {
		return nil, err
	}
	var pids []int
	for _, dir := range dirs {
		// Processes come and go, and those of others cannot be looked into.
		cwd, err := os.Stat(dir + "/cwd")
		if err != nil || !os.SameFile(cwd, want) {
			continue
		}
		if pid, err := strconv.Atoi(filepath.Base(dir)); err == nil {
			pids = append(pids, pid)
		}
	}
	return pids, nil
}
