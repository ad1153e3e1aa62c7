package postgres_test

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/fanfarehq/fanfare/internal/postgres"
	"github.com/fanfarehq/fanfare/internal/servertest"
)

// capDACOverride is CAP_DAC_OVERRIDE of capabilities(7).
const capDACOverride = 1

// pgBouncer starts one before the database of the URL and returns a URL that goes through it.
func pgBouncer(t *testing.T, own, mode string) string {
	t.Helper()
	program, err := exec.LookPath("pgbouncer")
	if err != nil {
		program, err = exec.LookPath("/usr/sbin/pgbouncer")
	}
	if err != nil && os.Getenv("CI") == "" {
		t.Skip("no pgbouncer on this machine (Debian's package pgbouncer)")
	}
	if err != nil {
		t.Fatal(err)
	}
	socket, rest := host(t, own)
	_, port, err := net.SplitHostPort(servertest.FreeAddress(t))
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	settings := filepath.Join(dir, "pgbouncer.ini")
	text := fmt.Sprintf("[databases]\n* = host=%s user=fanfare\n[pgbouncer]\nlisten_addr=127.0.0.1\nlisten_port=%s\n"+
		"unix_socket_dir=\nauth_type=any\npool_mode=%s\ndefault_pool_size=5\n", socket, port, mode)
	if err := os.WriteFile(settings, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	for d := dir; d != os.TempDir() && d != "/"; d = filepath.Dir(d) {
		if err := os.Chmod(d, 0o755); err != nil { // it does not run as root
			t.Fatal(err)
		}
	}
	var output strings.Builder
	command := exec.Command(program, settings)
	if os.Getuid() == 0 { // It refuses to be root, and must reach a folder of root.
		command.SysProcAttr = &syscall.SysProcAttr{Credential: owner(t, socket), AmbientCaps: []uintptr{capDACOverride}}
	}
	command.Stdout, command.Stderr = &output, &output
	if err := command.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = command.Process.Kill()
		_ = command.Wait()
		if t.Failed() {
			t.Log(output.String())
		}
	})
	database, _, _ := strings.Cut(rest, "?")
	return fmt.Sprintf("postgres://fanfare@127.0.0.1:%s%s?sslmode=disable", port, database)
}

// owner is the account that a file belongs to.
func owner(t *testing.T, path string) *syscall.Credential {
	t.Helper()
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	is := info.Sys().(*syscall.Stat_t)
	return &syscall.Credential{Uid: is.Uid, Gid: is.Gid}
}

// A pool in session mode works as Postgres itself does, timeouts included.
func TestAPoolerInSessionModeWorks(t *testing.T) {
	t.Parallel()
	url := pgBouncer(t, servertest.PostgresURL(t), "session")
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	db, err := postgres.Open(ctx, url, 3)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	var timeout string
	if err := db.QueryRow("SELECT current_setting('statement_timeout')").Scan(&timeout); err != nil || timeout != "30s" {
		t.Errorf("statement_timeout: got %q, error %v", timeout, err)
	}
	if err := postgres.Migrate(ctx, db); err != nil {
		t.Errorf("migrate: %v", err)
	}
}

// A pool in transaction mode gives one session to many clients: it is refused, with the reason, before anything is done.
func TestAPoolerInTransactionModeIsRefused(t *testing.T) {
	t.Parallel()
	for _, mode := range []string{"transaction", "statement"} {
		url := pgBouncer(t, servertest.PostgresURL(t), mode)
		ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
		defer cancel()
		db, err := postgres.Open(ctx, url, 3)
		if err == nil {
			db.Close()
		}
		if err == nil || !strings.Contains(err.Error(), "pool_mode = session") {
			t.Errorf("%s: got %v", mode, err)
		}
	}
}
