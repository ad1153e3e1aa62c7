package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
)

// running says where a process of `fanfare all` can be reached. It lies in the data directory, for this
// process's owner alone, from when all is ready until the end: for `fanfare topology`, scripts and tests.
type running struct {
	PID         int    `json:"pid"`
	API         string `json:"api"`
	Ops         string `json:"ops"`
	NATS        string `json:"nats"`
	Postgres    string `json:"postgres"`
	PostgresPID int    `json:"postgres_pid,omitempty"` // of the private one
}

func runningFile(dir string) string { return filepath.Join(dir, "running.json") }

// write puts the file in place at once, so that whoever sees it sees all of it.
func (r running) write(dir string) error {
	content, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return err
	}
	return writeFile(runningFile(dir), append(content, '\n'))
}

// readRunning reads the file of a data directory; os.ErrNotExist if nothing runs there.
func readRunning(dir string) (r running, err error) {
	content, err := os.ReadFile(runningFile(dir))
	if err != nil {
		return r, err
	}
	if err := json.Unmarshal(content, &r); err != nil {
		return r, fmt.Errorf("read %s: %w", runningFile(dir), err)
	}
	return r, nil
}

// removeRunning takes the file away; it may be missing.
func removeRunning(dir string) error {
	if err := os.Remove(runningFile(dir)); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return nil
}

// writeFile writes a file for its owner alone: whole and on disk, or not at all.
func writeFile(name string, content []byte) (err error) {
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
