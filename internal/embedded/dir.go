package embedded

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// ErrLocked says that another process uses the data directory.
var ErrLocked = errors.New("another fanfare uses this data directory")

// dirLock is the lock of a data directory.
type dirLock struct{ file *os.File }

// Close gives the directory free. To close the file would not do: a child that is just being started has
// a copy of it for a moment, and the lock lives as long as that.
func (l *dirLock) Close() error {
	if err := unlock(l.file); err != nil {
		return fmt.Errorf("unlock the data directory: %w", err)
	}
	return l.file.Close()
}

// lockDir makes the directory if need be and takes its lock, which the kernel releases when this process
// ends in whatever way.
func lockDir(dir string) (*dirLock, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("make the data directory: %w", err)
	}
	f, err := os.OpenFile(filepath.Join(dir, "lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open the lock of the data directory: %w", err)
	}
	if err := tryLock(f); err != nil {
		return nil, errors.Join(fmt.Errorf("lock %s: %w (stop it, or set another FANFARE_DATA_DIR)", dir, err), f.Close())
	}
	return &dirLock{f}, nil
}

// storeLimit is how much the streams in dir may hold: 70 % of what the volume has free, counting what
// they hold already. The rest stays for Postgres, logs and whatever else lives there.
//
// The limit is kept in a file and never sinks: below what the streams have reserved, the server would refuse
// every change of a stream, even one that makes it smaller. When others fill the volume, it is writing that fails.
func storeLimit(dir string) (int64, error) {
	free, err := FreeSpace(dir)
	if err != nil {
		return 0, err
	}
	held, err := size(dir)
	if err != nil {
		return 0, fmt.Errorf("measure %s: %w", dir, err)
	}
	limit := (free + held) / 10 * 7
	name := filepath.Join(dir, "max_store")
	if kept, err := os.ReadFile(name); err == nil {
		before, _ := strconv.ParseInt(strings.TrimSpace(string(kept)), 10, 64) // A malformed file means no limit.
		if before >= limit {
			return before, nil
		}
	}
	return limit, os.WriteFile(name, fmt.Appendln(nil, limit), 0o600)
}

// size is how many bytes the files below dir hold.
func size(dir string) (held int64, err error) {
	err = filepath.WalkDir(dir, func(_ string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if info, err := entry.Info(); err == nil && info.Mode().IsRegular() {
			held += info.Size()
		}
		return nil
	})
	return held, err
}

// Discard removes a data directory that no process uses. One that is in use is left alone: ErrLocked.
func Discard(dir string) error {
	for _, part := range []string{"nats", "postgres"} {
		if _, err := os.Stat(filepath.Join(dir, part)); errors.Is(err, os.ErrNotExist) {
			continue
		}
		lock, err := lockDir(filepath.Join(dir, part))
		if err != nil {
			return err
		}
		defer func() { _ = lock.Close() }() // there is nothing left to lock
	}
	if err := os.RemoveAll(dir); err != nil {
		return fmt.Errorf("discard the data directory: %w", err)
	}
	return nil
}
