//go:build unix && !linux

package embedded

import (
	"fmt"
	"os"
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

// letThrough lets every user pass through a directory: 0711 instead of 0700.
func letThrough(dir string, uid int) error {
	info, err := os.Stat(dir)
	if err == nil {
		err = os.Chmod(dir, info.Mode().Perm()|0o001)
	}
	if err != nil {
		return fmt.Errorf("let user id %d pass through %s: %w", uid, dir, err)
	}
	return nil
}

// servers are the processes that work in the data directory: here, the one that its pid file names.
func servers(data string) ([]int, error) {
	pid, _ := readPidFile(data)
	if pid == 0 || syscall.Kill(pid, 0) != nil {
		return nil, nil
	}
	return []int{pid}, nil
}
