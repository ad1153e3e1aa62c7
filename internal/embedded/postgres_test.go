package embedded_test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	_ "github.com/lib/pq"

	"github.com/fanfarehq/fanfare/internal/embedded"
)

func start(t *testing.T, cfg embedded.PostgresConfig) *embedded.Postgres {
	t.Helper()
	cfg.Throwaway = true
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	p, err := embedded.StartPostgres(ctx, cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := p.Stop(); err != nil {
			t.Error(err)
		}
	})
	return p
}

// ask runs one statement on a connection of its own and returns its one value.
func ask(t *testing.T, p *embedded.Postgres, statement string) string {
	t.Helper()
	db, err := sql.Open("postgres", p.URL())
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	var value string
	if err := db.QueryRow(statement).Scan(&value); err != nil {
		t.Fatalf("%s: %v", statement, err)
	}
	return value
}

func TestPostgresKeepsItsData(t *testing.T) {
	t.Parallel()
	cfg := embedded.PostgresConfig{Dir: t.TempDir()}
	p := start(t, cfg)
	db, err := sql.Open("postgres", p.URL())
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	if _, err := db.Exec("CREATE TABLE kept AS SELECT 7 AS n"); err != nil {
		t.Fatal(err)
	}
	if err := p.Stop(); err != nil {
		t.Fatal(err)
	}
	if err := p.Stop(); err != nil {
		t.Errorf("a second Stop: %v", err)
	}
	if got := ask(t, start(t, cfg), "SELECT n FROM kept"); got != "7" {
		t.Errorf("got %s", got)
	}
}

func TestPostgresIsDurableAndPrivate(t *testing.T) {
	t.Parallel()
	p := start(t, embedded.PostgresConfig{Dir: t.TempDir(), Settings: map[string]string{"work_mem": "5MB"}})
	for setting, want := range map[string]string{
		"fsync": "on", "synchronous_commit": "on", "full_page_writes": "on", "listen_addresses": "", "jit": "off",
		"work_mem": "5MB", "server_encoding": "UTF8", "TimeZone": "UTC",
	} {
		if got := ask(t, p, "SELECT current_setting('"+setting+"')"); got != want {
			t.Errorf("%s: got %q, want %q", setting, got, want)
		}
	}
	socket := ask(t, p, "SELECT current_setting('unix_socket_directories')")
	info, err := os.Stat(socket)
	if err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("the socket's directory: got %v, error %v", info.Mode(), err)
	}
	if pgid, err := syscall.Getpgid(p.PID()); err != nil || pgid == syscall.Getpgrp() {
		t.Errorf("Ctrl-C in the terminal reaches Postgres: process group %d, error %v", pgid, err)
	}
}

// A path may be too long for a socket, or hold the comma that separates the directories of sockets.
func TestPostgresInAPathThatNoSocketMayHave(t *testing.T) {
	t.Parallel()
	for _, name := range []string{strings.Repeat("long", 30), "a,b"} {
		t.Run(name[:3], func(t *testing.T) {
			t.Parallel()
			p := start(t, embedded.PostgresConfig{Dir: filepath.Join(t.TempDir(), name)})
			socket := ask(t, p, "SELECT current_setting('unix_socket_directories')")
			if err := p.Stop(); err != nil {
				t.Fatal(err)
			}
			if _, err := os.Stat(socket); !errors.Is(err, os.ErrNotExist) {
				t.Errorf("%s is left behind: %v", socket, err)
			}
		})
	}
}

func TestPostgresHasItsDirectoryToItself(t *testing.T) {
	t.Parallel()
	cfg := embedded.PostgresConfig{Dir: t.TempDir()}
	start(t, cfg)
	_, err := embedded.StartPostgres(t.Context(), cfg)
	if !errors.Is(err, embedded.ErrLocked) || !strings.Contains(err.Error(), "FANFARE_DATA_DIR") {
		t.Errorf("got %v, want ErrLocked with the variable's name", err)
	}
}

func TestPostgresSaysWhyItDoesNotStart(t *testing.T) {
	t.Parallel()
	cfg := embedded.PostgresConfig{Dir: t.TempDir(), Settings: map[string]string{"shared_buffers": "plenty"}}
	_, err := embedded.StartPostgres(t.Context(), cfg)
	if err == nil || !strings.Contains(err.Error(), "shared_buffers") || !strings.Contains(err.Error(), "postgres.log") {
		t.Errorf("got %v, want the end of the log", err)
	}
	cfg.Settings = nil
	start(t, cfg) // the directory is free, and what initdb made is good
}

func TestPostgresOfAnotherVersionIsNotTouched(t *testing.T) {
	t.Parallel()
	cfg := embedded.PostgresConfig{Dir: t.TempDir()}
	if err := start(t, cfg).Stop(); err != nil {
		t.Fatal(err)
	}
	version := filepath.Join(cfg.Dir, "postgres", "data", "PG_VERSION")
	if err := os.WriteFile(version, []byte("9\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	_, err := embedded.StartPostgres(t.Context(), cfg)
	if err == nil || !strings.Contains(err.Error(), "needs Postgres 9") || !strings.Contains(err.Error(), "FANFARE_POSTGRES_URL") {
		t.Errorf("got %v", err)
	}
}

func TestPostgresIsStartedAgainWhenItDies(t *testing.T) {
	t.Parallel()
	dir, failed := t.TempDir(), make(failures, 1)
	p := start(t, embedded.PostgresConfig{Dir: dir, Logger: slog.New(slog.NewTextHandler(failed, nil))})
	ctx, cancel := context.WithCancel(t.Context())
	supervised := make(chan error, 1)
	go func() { supervised <- p.Supervise(ctx) }()
	data := filepath.Join(dir, "postgres", "data")
	for _, missing := range []bool{false, true} { // The second time it cannot start for a while.
		pid, done := p.PID(), p.Done()
		if missing {
			move(t, data, data+".away")
		}
		if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
		<-done
		if missing {
			<-failed
			move(t, data+".away", data)
		}
		await(t, "another server", func() bool {
			if p.PID() == pid {
				return false
			}
			db, err := sql.Open("postgres", p.URL())
			if err != nil {
				return false
			}
			defer db.Close()
			return db.Ping() == nil
		})
	}
	cancel()
	if err := <-supervised; err != nil {
		t.Error(err)
	}
	if got := ask(t, p, "SELECT 1"); got != "1" {
		t.Errorf("got %s", got)
	}
}

// failures receives the log's lines of restarts that failed.
type failures chan string

func (f failures) Write(line []byte) (int, error) {
	if strings.Contains(string(line), "cannot start") {
		select {
		case f <- string(line):
		default: // One is enough.
		}
	}
	return len(line), nil
}

func move(t *testing.T, from, to string) {
	t.Helper()
	if err := os.Rename(from, to); err != nil {
		t.Fatal(err)
	}
}

// await asks until the answer is yes. Processes of others give no signal to wait for.
func await(t *testing.T, what string, yes func() bool) {
	t.Helper()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	deadline := time.After(4 * time.Minute)
	for !yes() {
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatalf("waited in vain for %s", what)
		}
	}
}

// A server whose owner's end it did not notice is stopped, and so is one that hangs.
func TestPostgresReplacesAnOrphan(t *testing.T) {
	t.Parallel()
	cfg := embedded.PostgresConfig{Dir: t.TempDir()}
	p := start(t, cfg)
	lock := filepath.Join(cfg.Dir, "postgres", "lock")
	if err := os.Remove(lock); err != nil { // the lock is that of the file: a new one is free
		t.Fatal(err)
	}
	second := start(t, cfg)
	<-p.Done()
	if got := ask(t, second, "SELECT 1"); got != "1" {
		t.Errorf("got %s", got)
	}
}

// In a container, the number in a stale pid file may be that of anything.
func TestPostgresIgnoresAStalePidFile(t *testing.T) {
	t.Parallel()
	cfg := embedded.PostgresConfig{Dir: t.TempDir()}
	if err := start(t, cfg).Stop(); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(cfg.Dir, "postgres", "data", "postmaster.pid")
	sleeper := exec.Command("sleep", "600")
	if err := sleeper.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		_ = sleeper.Process.Kill()
		_ = sleeper.Wait()
	}()
	content := fmt.Sprintf("%d\n%s\n1\n5432\n/nowhere\n\n\nready   \n", sleeper.Process.Pid, filepath.Dir(file))
	if err := os.WriteFile(file, []byte(content), 0o644); err != nil {
		t.Fatal(err)
	}
	if got := ask(t, start(t, cfg), "SELECT 1"); got != "1" {
		t.Errorf("got %s", got)
	}
	if err := sleeper.Process.Signal(syscall.Signal(0)); err != nil {
		t.Errorf("the stranger was ended: %v", err)
	}
}
