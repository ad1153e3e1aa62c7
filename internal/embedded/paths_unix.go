//go:build unix

package embedded

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
)

// paths are the places of the private Postgres.
type paths struct {
	data      string // the cluster
	socket    string // the directory of the socket
	log       string // the server's log file
	temporary bool   // the socket's directory is not below Dir
}

const (
	// maxSocketPath is what a Unix socket's address holds, with its terminating zero.
	maxSocketPath = 107
	socketName    = "/.s.PGSQL.5432"
	// maxLog is when the log is put aside at a start; one older log is kept.
	maxLog = 16 << 20
	// tailSize is how much of the log goes into an error.
	tailSize = 2 << 10
)

// layOut names the places in dir. Where dir's path is too long for a socket, or holds the comma that separates
// directories of sockets, the socket goes into a private directory of its own.
func layOut(dir string) (paths, error) {
	p := paths{
		data:   filepath.Join(dir, "data"),
		socket: filepath.Join(dir, "socket"),
		log:    filepath.Join(dir, "postgres.log"),
	}
	if len(p.socket)+len(socketName) <= maxSocketPath && !strings.Contains(p.socket, ",") {
		return p, nil
	}
	short, err := os.MkdirTemp("", "fanfare-")
	if err != nil {
		return p, fmt.Errorf("make a directory for the Postgres socket: %w", err)
	}
	p.socket, p.temporary = short, true
	if len(short)+len(socketName) > maxSocketPath {
		return p, fmt.Errorf("both %s and %s are too long for a Unix socket: set a shorter FANFARE_DATA_DIR", dir, short)
	}
	return p, nil
}

// clean removes files that must not outlive the server.
func (p paths) clean() error {
	if !p.temporary {
		return nil
	}
	if err := os.RemoveAll(p.socket); err != nil {
		return fmt.Errorf("remove the socket's directory: %w", err)
	}
	return nil
}

// openLog opens the server's log for appending, after putting a large one aside.
func openLog(name string) (*os.File, error) {
	if info, err := os.Stat(name); err == nil && info.Size() > maxLog {
		if err := os.Rename(name, name+".1"); err != nil {
			return nil, fmt.Errorf("put the Postgres log aside: %w", err)
		}
	}
	f, err := os.OpenFile(name, os.O_CREATE|os.O_APPEND|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open the Postgres log: %w", err)
	}
	return f, nil
}

// tail returns the end of what the log has got since the offset.
func tail(name string, from int64) string {
	f, err := os.Open(name)
	if err != nil {
		return err.Error()
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return err.Error()
	}
	content, err := io.ReadAll(io.NewSectionReader(f, max(from, info.Size()-tailSize), tailSize))
	if err != nil && !errors.Is(err, io.EOF) {
		return err.Error()
	}
	return strings.TrimSpace(string(content))
}
