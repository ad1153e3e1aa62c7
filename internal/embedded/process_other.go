//go:build unix && !linux

package embedded

import (
	"errors"
	"syscall"
)

// attributes of a process that runs as the account. Without the kernel's help it outlives us when we are
// killed; the next start stops it.
func (a account) attributes() *syscall.SysProcAttr {
	attr := &syscall.SysProcAttr{Setpgid: true}
	if a.other {
		attr.Credential = &syscall.Credential{Uid: uint32(a.uid), Gid: uint32(a.gid)}
	}
	return attr
}

func traversal() ([]uintptr, error) {
	return nil, errors.New("this system cannot let it through")
}

// servers are the processes that work in the data directory: here, the one that its pid file names.
func servers(data string) ([]int, error) {
	pid, _ := readPidFile(data)
	if pid == 0 || syscall.Kill(pid, 0) != nil {
		return nil, nil
	}
	return []int{pid}, nil
}
