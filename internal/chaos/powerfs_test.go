package chaos_test

import (
	"context"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/hanwen/go-fuse/v2/fs"
	"github.com/hanwen/go-fuse/v2/fuse"
)

// disk is a directory whose power can be cut: all that was written to its files and not synced is undone, byte by byte. It is a
// FUSE file system over another directory. As on the file systems that Linux has, names, sizes and links survive once they are
// made; of the contents nothing does that was not synced, which is less than a real disk keeps.
type disk struct {
	path   string // where it is mounted
	below  string
	server *fuse.Server
	delay  atomic.Int64 // nanoseconds that each sync takes longer

	mu      sync.Mutex
	written map[uint64]*written // by inode
}

// written is what must be undone in one file.
type written struct {
	file *os.File // below

	mu     sync.Mutex
	before []before
}

// before is a part of a file as it was before a write.
type before struct {
	at   int64
	old  []byte
	size int64 // of the file
	n    int   // bytes that were written
}

// newDisk mounts a disk, which needs root. It ends with the test.
func newDisk(t testing.TB) *disk {
	t.Helper()
	dir, err := os.MkdirTemp("", "power-")
	if err != nil {
		t.Fatal(err)
	}
	d := &disk{path: filepath.Join(dir, "m"), below: filepath.Join(dir, "below")}
	for _, dir := range []string{d.path, d.below} {
		if err := os.Mkdir(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Chmod(dir, 0o755); err != nil { // Postgres is another user.
		t.Fatal(err)
	}
	d.mount(t)
	t.Cleanup(func() {
		d.unmount(t)
		_ = os.RemoveAll(dir)
	})
	return d
}

func (d *disk) mount(t testing.TB) {
	t.Helper()
	d.written = map[uint64]*written{}
	root, err := fs.NewLoopbackRoot(d.below)
	if err != nil {
		t.Fatal(err)
	}
	below, ok := root.(*fs.LoopbackNode)
	if !ok {
		t.Fatalf("the root is a %T", root)
	}
	d.server, err = fs.Mount(d.path, &node{below, d}, &fs.Options{MountOptions: fuse.MountOptions{AllowOther: true, DirectMountStrict: true, FsName: "power"}})
	if err != nil {
		t.Fatalf("mount a file system whose power can be cut (it needs root and /dev/fuse): %v", err)
	}
}

// unmount waits for the last process that was killed to let go of its files.
func (d *disk) unmount(t testing.TB) {
	t.Helper()
	var err error
	if !eventually(time.Minute, func() bool { err = d.server.Unmount(); return err == nil }) {
		t.Fatalf("unmount %s: %v", d.path, err)
	}
}

// cut undoes what was not synced. Nobody may have a file open. It returns how many bytes were lost.
func (d *disk) cut(t testing.TB) (lost int) {
	t.Helper()
	d.unmount(t) // The kernel's copy of the files is void.
	for _, w := range d.written {
		lost += w.undo(t)
	}
	d.mount(t)
	return lost
}

func (w *written) undo(t testing.TB) (lost int) {
	for i := len(w.before) - 1; i >= 0; i-- {
		b := w.before[i]
		lost += b.n
		_, err := w.file.WriteAt(b.old, b.at)
		if err == nil {
			err = w.file.Truncate(b.size)
		}
		if err != nil {
			t.Errorf("undo a write: %v", err)
		}
	}
	_ = w.file.Close()
	return lost
}

// settle takes all that was written so far for synced, as it is after half a minute, when the kernel has written it.
func (d *disk) settle() {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, w := range d.written {
		w.synced()
	}
}

// of returns what must be undone in a file.
func (d *disk) of(path string) (*written, error) {
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return nil, err
	}
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	id := info.Sys().(*syscall.Stat_t).Ino
	if known := d.written[id]; known != nil {
		_ = f.Close()
		return known, nil
	}
	d.written[id] = &written{file: f}
	return d.written[id], nil
}

// keep remembers what a write is about to change.
func (w *written) keep(at int64, n int) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	info, err := w.file.Stat()
	if err != nil {
		return err
	}
	old := make([]byte, min(max(info.Size()-at, 0), int64(n)))
	if read, err := w.file.ReadAt(old, at); err != nil {
		old = old[:read] // It was truncated meanwhile.
	}
	w.before = append(w.before, before{at, old, info.Size(), n})
	return nil
}

func (w *written) synced() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.before = nil
}

// node is a file or directory of a disk.
type node struct {
	*fs.LoopbackNode
	disk *disk
}

// WrapChild makes the nodes below ones of the disk.
func (n *node) WrapChild(_ context.Context, ops fs.InodeEmbedder) fs.InodeEmbedder {
	below, ok := ops.(*fs.LoopbackNode)
	if !ok {
		return ops
	}
	return &node{below, n.disk}
}

// Open implements fs.NodeOpener.
func (n *node) Open(ctx context.Context, flags uint32) (fs.FileHandle, uint32, syscall.Errno) {
	h, fuseFlags, errno := n.LoopbackNode.Open(ctx, flags)
	if errno != 0 {
		return nil, 0, errno
	}
	h, errno = n.wrap(h, filepath.Join(n.disk.below, n.Path(nil)), flags)
	return h, fuseFlags, errno
}

// Create implements fs.NodeCreater.
func (n *node) Create(ctx context.Context, name string, flags, mode uint32, out *fuse.EntryOut) (*fs.Inode, fs.FileHandle, uint32, syscall.Errno) {
	child, h, fuseFlags, errno := n.LoopbackNode.Create(ctx, name, flags, mode, out)
	if errno != 0 {
		return nil, nil, 0, errno
	}
	h, errno = n.wrap(h, filepath.Join(n.disk.below, n.Path(nil), name), flags)
	return child, h, fuseFlags, errno
}

func (n *node) wrap(h fs.FileHandle, path string, flags uint32) (fs.FileHandle, syscall.Errno) {
	f, ok := h.(*fs.LoopbackFile)
	if !ok {
		return h, 0
	}
	if flags&syscall.O_ACCMODE == syscall.O_RDONLY {
		return &handle{LoopbackFile: f}, 0
	}
	w, err := n.disk.of(path)
	if err != nil {
		return nil, fs.ToErrno(err)
	}
	return &handle{f, w, n.disk, flags&(syscall.O_SYNC|syscall.O_DSYNC) != 0}, 0
}

// handle is an open file of a disk.
type handle struct {
	*fs.LoopbackFile
	written *written
	disk    *disk // nil of a file that is only read
	sync    bool  // each write is synced
}

// PassthroughFd has the kernel ask for each read and write.
func (h *handle) PassthroughFd() (int, bool) { return -1, false }

// Write implements fs.FileWriter.
func (h *handle) Write(ctx context.Context, data []byte, at int64) (uint32, syscall.Errno) {
	if !h.sync {
		if err := h.written.keep(at, len(data)); err != nil {
			return 0, fs.ToErrno(err)
		}
	}
	return h.LoopbackFile.Write(ctx, data, at)
}

// Fsync implements fs.FileFsyncer, also for fdatasync.
func (h *handle) Fsync(ctx context.Context, flags uint32) syscall.Errno {
	if h.written != nil {
		h.written.synced()
		time.Sleep(time.Duration(h.disk.delay.Load()))
	}
	return h.LoopbackFile.Fsync(ctx, flags)
}
