//go:build unix

package embedded

import (
	"errors"
	"os"

	"golang.org/x/sys/unix"
)

// diskFull lists the errors of a write to a full disk.
var diskFull = []error{unix.ENOSPC}

// tryLock takes the lock of a file; ErrLocked if another process has it.
func tryLock(f *os.File) error {
	err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
	if errors.Is(err, unix.EWOULDBLOCK) {
		return ErrLocked
	}
	return err
}

func unlock(f *os.File) error { return unix.Flock(int(f.Fd()), unix.LOCK_UN) }

// volume returns how many bytes the volume of dir has, and how many of them an ordinary user may still write.
func volume(dir string) (free, total int64, err error) {
	var v unix.Statfs_t
	if err := unix.Statfs(dir, &v); err != nil {
		return 0, 0, err
	}
	return int64(v.Bavail) * int64(v.Bsize), int64(v.Blocks) * int64(v.Bsize), nil
}
