package embedded

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"
)

const (
	// sharedMemory is a file system in memory that Linux has. It outlives a process, not the machine.
	sharedMemory = "/dev/shm"
	stagingName  = "fanfare-batches-"
	// leastStaging is how much of it must be free: 18 lanes stage 8 MiB each at most.
	leastStaging = 256 << 20
)

// StageInMemory has the server keep the staging files of atomic batches in memory, for all streams that there are by
// now. Before it commits a batch, the server writes each of its messages to files of the batch, syncs them and removes
// them afterwards: that cost more than the commit. They are needed only if the process dies while it commits, as
// nobody was told yet that the batch is stored, and files in shared memory survive that.
//
// Where there is no shared memory, or little, batches are staged on disk as before.
func (n *NATS) StageInMemory() error {
	if free, err := FreeSpace(sharedMemory); err != nil || free < leastStaging {
		return nil //nolint:nilerr // It is a question, not a failure.
	}
	for _, stream := range n.streamDirs() {
		if err := n.stage(stream); err != nil {
			return err
		}
	}
	return nil
}

// streamDirs returns the directories of all streams.
func (n *NATS) streamDirs() []string {
	list, _ := filepath.Glob(filepath.Join(n.opts.StoreDir, "jetstream", "*", "streams", "*")) // The pattern is valid.
	return list
}

// stage has the batches of a stream staged in memory, unless they are already, or some are being staged on disk.
func (n *NATS) stage(stream string) (err error) {
	link := filepath.Join(stream, "batches")
	if _, err := os.Lstat(link); err == nil {
		return nil
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.staging == "" {
		if n.staging, err = os.MkdirTemp(sharedMemory, stagingName); err != nil {
			return err
		}
	}
	dir := filepath.Join(n.staging, filepath.Base(stream))
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	if err := os.Symlink(dir, link); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	return nil
}

// SyncDefinitions syncs the definitions of all streams and consumers. NATS does not do it for streams of persist_mode async, and
// the kernel only after half a minute. Windows syncs neither directories nor files that are open for reading.
func (n *NATS) SyncDefinitions() error {
	if runtime.GOOS == "windows" {
		return nil
	}
	for _, stream := range n.streamDirs() {
		paths := []string{filepath.Dir(stream), stream, filepath.Join(stream, "obs")}
		for _, pattern := range []string{"meta.*", "obs/*", "obs/*/meta.*"} {
			found, _ := filepath.Glob(filepath.Join(stream, pattern)) // The pattern is valid.
			paths = append(paths, found...)
		}
		for _, path := range paths {
			if err := syncPath(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
				return fmt.Errorf("sync the definition of a stream: %w", err)
			}
		}
	}
	return nil
}

func syncPath(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	return f.Sync()
}

// staged returns the directories in memory where batches were staged by the server that had the data directory before.
func (n *NATS) staged() (list []string) {
	for _, stream := range n.streamDirs() {
		dir, err := os.Readlink(filepath.Join(stream, "batches"))
		if err == nil && strings.HasPrefix(dir, filepath.Join(sharedMemory, stagingName)) {
			list = append(list, filepath.Dir(dir))
		}
	}
	return list
}

// unstage removes directories in memory that no server uses any more. What stays costs memory until the machine starts anew.
func unstage(dirs ...string) {
	for _, dir := range dirs {
		_ = os.RemoveAll(dir)
	}
}
