package embedded_test

import (
	"bufio"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/fanfarehq/fanfare/internal/embedded"
)

// Below a directory that is root's alone, Postgres runs as somebody else and yet reaches its data.
func TestPostgresBelowAPrivateDirectory(t *testing.T) {
	t.Parallel()
	parent := t.TempDir()
	if err := os.Chmod(parent, 0o700); err != nil {
		t.Fatal(err)
	}
	cfg := embedded.PostgresConfig{Dir: filepath.Join(parent, "data")}
	p := start(t, cfg)
	info, err := os.Stat(fmt.Sprintf("/proc/%d", p.PID()))
	if err != nil {
		t.Fatal(err)
	}
	uid := int(info.Sys().(*syscall.Stat_t).Uid)
	if uid == 0 {
		t.Error("Postgres runs as root")
	}
	if os.Geteuid() != 0 && uid != os.Geteuid() {
		t.Errorf("Postgres runs as %d", uid)
	}
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.PID()))
	if err != nil {
		t.Fatal(err)
	}
	for _, set := range []string{"CapPrm", "CapEff", "CapAmb"} {
		if !strings.Contains(string(status), set+":\t0000000000000000\n") {
			t.Errorf("Postgres has capabilities in %s:\n%s", set, status)
		}
	}
	secret := filepath.Join(parent, "secret")
	if err := os.WriteFile(secret, []byte("root's"), 0o600); err != nil {
		t.Fatal(err)
	}
	if os.Geteuid() == 0 {
		if got := ask(t, p, "SELECT coalesce(pg_stat_file('"+secret+"', true)::text, 'none')"); got == "none" {
			t.Error("Postgres cannot pass through the directory")
		}
		db, err := sql.Open("postgres", p.URL())
		if err != nil {
			t.Fatal(err)
		}
		defer db.Close()
		if _, err := db.Exec("SELECT pg_read_file('" + secret + "')"); err == nil || !strings.Contains(err.Error(), "ermission denied") {
			t.Errorf("Postgres reads a file of root's: %v", err)
		}
	}
	if info, err := os.Stat(parent); err != nil || info.Mode().Perm()&0o007 != 0 {
		t.Errorf("the directory is open to others: %v, %v", info.Mode(), err)
	}
	if err := p.Stop(); err != nil {
		t.Fatal(err)
	}
	if got := ask(t, start(t, cfg), "SELECT 1"); got != "1" {
		t.Errorf("second start: got %s", got)
	}
}

// killOwner starts a process of ours with a Postgres of its own in dir, kills it, and returns the id of its Postgres.
func killOwner(t *testing.T, dir string) int {
	t.Helper()
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = append(os.Environ(), childDir+"="+dir)
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	stdin, err := cmd.StdinPipe() // kept open, so that it waits
	if err != nil {
		t.Fatal(err)
	}
	defer stdin.Close()
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	line, err := bufio.NewReader(stdout).ReadString('\n')
	if killErr := cmd.Process.Kill(); err != nil || killErr != nil {
		t.Fatalf("start: %v, kill: %v", err, killErr)
	}
	_ = cmd.Wait() // it says that it was killed
	pid, err := strconv.Atoi(strings.TrimSpace(line))
	if err != nil {
		t.Fatalf("the child said %q", line)
	}
	return pid
}

func TestPostgresEndsWithAKilledOwner(t *testing.T) {
	t.Parallel()
	pid := killOwner(t, t.TempDir())
	await(t, "Postgres to end", func() bool { return syscall.Kill(pid, 0) != nil })
}

func TestPostgresStartsAfterItsOwnerWasKilled(t *testing.T) {
	t.Parallel()
	cfg := embedded.PostgresConfig{Dir: t.TempDir()}
	for range 2 {
		pid := killOwner(t, cfg.Dir)
		p := start(t, cfg) // at once: the other may be shutting down
		if got := ask(t, p, "SELECT 1"); got != "1" || p.PID() == pid {
			t.Errorf("got %s, process %d", got, p.PID())
		}
		if err := p.Stop(); err != nil {
			t.Fatal(err)
		}
	}
}

// What root can do, an ordinary user can: the tests are run once more as nobody.
func TestPostgresOfAnOrdinaryUser(t *testing.T) {
	t.Parallel()
	if os.Geteuid() != 0 {
		return // the other tests are run by one
	}
	dir, err := os.MkdirTemp("", "fanfare-nobody-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	const nobody = 65534
	if err := errors.Join(os.Chmod(dir, 0o700), os.Chown(dir, nobody, nobody)); err != nil {
		t.Fatal(err)
	}
	self, err := os.Open("/proc/self/exe")
	if err != nil {
		t.Fatal(err)
	}
	defer self.Close()
	// The program lies where nobody cannot reach it; an open file of it will do.
	cmd := exec.Command("/proc/self/fd/3", "-test.run", "^TestPostgres(KeepsItsData|StartsAfterItsOwnerWasKilled|IgnoresAStalePidFile)$")
	cmd.ExtraFiles = []*os.File{self}
	cmd.Dir, cmd.Env = "/", []string{"TMPDIR=" + dir, "PATH=" + os.Getenv("PATH")}
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: nobody, Gid: nobody}}
	if output, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("as nobody: %v\n%s", err, output)
	}
}
