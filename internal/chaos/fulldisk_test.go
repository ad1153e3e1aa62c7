package chaos_test

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/fanfarehq/fanfare/internal/embedded"
	"github.com/fanfarehq/fanfare/internal/servertest"
)

// mountsOwn is the environment variable that says that this process has a mount namespace of its own.
const mountsOwn = "FANFARE_CHAOS_MOUNTS"

// withMounts runs the test once more in a child that may mount file systems, and reports whether this is the child. Its
// mounts end with it, however it ends.
func withMounts(t *testing.T) bool {
	t.Helper()
	if os.Getenv(mountsOwn) != "" {
		return true
	}
	child := exec.Command(os.Args[0], append(os.Args[1:], "-test.run", "^"+t.Name()+"$")...)
	child.Env = append(os.Environ(), mountsOwn+"=1")
	child.SysProcAttr = &syscall.SysProcAttr{Unshareflags: syscall.CLONE_NEWNS, Pdeathsig: syscall.SIGKILL}
	if uid, gid := os.Getuid(), os.Getgid(); uid != 0 { // Postgres does not run as root, not even as that of a namespace.
		child.SysProcAttr.Cloneflags = syscall.CLONE_NEWUSER
		child.SysProcAttr.UidMappings = []syscall.SysProcIDMap{{ContainerID: uid, HostID: uid, Size: 1}}
		child.SysProcAttr.GidMappings = []syscall.SysProcIDMap{{ContainerID: gid, HostID: gid, Size: 1}}
		child.SysProcAttr.AmbientCaps = []uintptr{unix.CAP_SYS_ADMIN}
	}
	out, err := child.CombinedOutput()
	t.Logf("%s", out)
	if errors.Is(err, syscall.EPERM) {
		t.Fatalf("make a mount namespace (it needs root, or a kernel that lets users make namespaces): %v", err)
	}
	if err != nil {
		t.Fatal(err)
	}
	return false
}

// smallDisk mounts a disk of so many megabytes. It ends with the test.
func smallDisk(t *testing.T, megabytes int) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "m")
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, fmt.Sprintf("mode=0755,size=%dm", megabytes)); err != nil {
		t.Fatalf("mount a small disk: %v", err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(dir, 0); err != nil {
			t.Errorf("unmount the small disk: %v", err)
		}
	})
	return dir
}

// fill writes a file until the disk is full.
func fill(t *testing.T, path string) {
	t.Helper()
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for size := 1 << 20; size > 0; {
		if _, err := f.Write(make([]byte, size)); errors.Is(err, syscall.ENOSPC) {
			size /= 2
		} else if err != nil {
			t.Fatal(err)
		}
	}
}

// TestFullDisk fills the disk of Postgres alone under load. At first Postgres cannot extend a table; then it cannot write its log
// and ends. Once the disk has room and Postgres is started again, all goes on without a restart of Fanfare. It belongs to
// `make chaos`, and needs root or a kernel that lets users make namespaces.
func TestFullDisk(t *testing.T) {
	if *minutes == 0 || !withMounts(t) {
		return
	}
	path, err := binary()
	if err != nil {
		t.Fatalf("build: %v", err)
	}
	dir := smallDisk(t, 192)
	pg := servertest.NewRestartablePostgresOf(t, embedded.PostgresConfig{Dir: dir, Settings: map[string]string{"min_wal_size": "32MB", "max_wal_size": "64MB"}})
	d := &loaded{w: newWorldOn(t, path, counts{api: 1, ingest: 1, fanout: 1, deliver: 2}, newBroker(t), pg)}
	d.load(t, 10)
	time.Sleep(3 * time.Second)
	d.w.exec("SELECT pg_switch_wal()", "CHECKPOINT") // The log has room for 16 MB.
	db := d.w.open()
	defer db.Close()
	session, err := db.Conn(t.Context()) // A full disk may let no new one begin.
	if err != nil {
		t.Fatal(err)
	}
	defer session.Close()
	f := fault{name: "full disk of Postgres", injected: time.Now(), bound: time.Minute}
	ballast := filepath.Join(dir, "ballast")
	fill(t, ballast)
	ingest := d.w.of("ingest")[0]
	if !eventually(3*time.Minute, func() bool { return strings.Contains(ingest.readiness().Dependencies["postgres"], "No space left") }) {
		t.Errorf("while tables cannot be extended: %+v", ingest.readiness())
	}
	t.Logf("after %.1fs: %v", time.Since(f.injected).Seconds(), ingest.readiness().Dependencies)
	// A switch takes the rest of a log file, which would be filled in time.
	ended := eventually(3*time.Minute, func() bool {
		_, _ = session.ExecContext(t.Context(), "SELECT pg_switch_wal()") // It fails once Postgres ends.
		return errors.Is(d.w.try("SELECT 1"), syscall.ENOENT)
	})
	if !ended {
		t.Error("Postgres does not end though it cannot write its log")
	}
	for _, p := range d.w.processes {
		if !eventually(time.Minute, func() bool { return p.readiness().Status == "not ready" }) {
			t.Errorf("without Postgres %s is %+v", p.name, p.readiness())
		}
	}
	if err := os.Remove(ballast); err != nil {
		t.Fatal(err)
	}
	pg.Stop() // It has ended; another may use the directory now.
	pg.Start()
	d.heal(&f)
	t.Logf("resumed after %.1fs; answers to publishers meanwhile: %v", f.recovered.Sub(f.healed).Seconds(), d.w.answers(f.injected, f.healed))
	d.end(t)
}

// answers counts the answers to publishers within a time by their status.
func (w *world) answers(from, to time.Time) map[int]int {
	n := map[int]int{}
	w.rec.do(func(h *history) {
		for _, r := range h.requests {
			if r.sent.After(from) && r.answered.Before(to) {
				n[r.status]++
			}
		}
	})
	return n
}
