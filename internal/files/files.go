// Package files writes files so that a crash leaves the old content or the new one, never a part.
package files

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
)

// Write writes a file for its owner alone: whole and on disk, or not at all.
func Write(name string, content []byte) (err error) {
	f, err := os.CreateTemp(filepath.Dir(name), "."+filepath.Base(name)+"-*") // made with mode 0600
	if err != nil {
		return fmt.Errorf("write %s: %w", name, err)
	}
	defer func() {
		if err != nil {
			_ = os.Remove(f.Name()) // If it is still there.
			err = fmt.Errorf("write %s: %w", name, err)
		}
	}()
	if _, err := f.Write(content); err != nil {
		return errors.Join(err, f.Close())
	}
	if err := f.Sync(); err != nil {
		return errors.Join(err, f.Close())
	}
	if err := f.Close(); err != nil {
		return err
	}
	if err := os.Rename(f.Name(), name); err != nil {
		return err
	}
	return syncDir(filepath.Dir(name))
}

// syncDir puts a directory's entries on disk. Windows refuses to sync a directory; NTFS keeps a journal of its entries.
func syncDir(dir string) error {
	if runtime.GOOS == "windows" {
		return nil
	}
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
