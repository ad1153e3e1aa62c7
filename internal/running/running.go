// Package running tells where the process of a data directory can be reached: a Process comes in when it is ready, and any process that may
// read the directory finds it.
package running

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/fanfarehq/fanfare/internal/files"
)

// Process says where a process of `fanfare all` can be reached. It lies in the data directory, for this
// process's owner alone, from when all is ready until the end: for `fanfare topology`, scripts and tests.
type Process struct {
	PID         int    `json:"pid"`
	API         string `json:"api"`
	Ops         string `json:"ops"`
	NATS        string `json:"nats"`
	Postgres    string `json:"postgres"`
	PostgresPID int    `json:"postgres_pid,omitempty"` // of the private one
}

// File is the name of the file of a data directory.
func File(dir string) string { return filepath.Join(dir, "running.json") }

// Write puts the file in place at once, so that whoever sees it sees all of it.
func (r Process) Write(dir string) error {
	content, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return err
	}
	return files.Write(File(dir), append(content, '\n'))
}

// Read reads the file of a data directory; os.ErrNotExist if nothing runs there.
func Read(dir string) (r Process, err error) {
	content, err := os.ReadFile(File(dir))
	if err != nil {
		return r, err
	}
	if err := json.Unmarshal(content, &r); err != nil {
		return r, fmt.Errorf("read %s: %w", File(dir), err)
	}
	return r, nil
}

// Remove takes the file away; it may be missing.
func Remove(dir string) error {
	if err := os.Remove(File(dir)); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return nil
}
