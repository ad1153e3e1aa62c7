package servertest

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/fanfarehq/fanfare/internal/embedded"
	"github.com/fanfarehq/fanfare/internal/postgres"
)

// RestartablePostgres is a Postgres of one test's own that can go away and come back with its data.
type RestartablePostgres struct {
	t      testing.TB
	cfg    embedded.PostgresConfig
	server *embedded.Postgres
	url    string
}

// NewRestartablePostgres starts a server with the schema in its database. It ends with the test.
func NewRestartablePostgres(t testing.TB) *RestartablePostgres {
	t.Helper()
	// A killed process loses nothing that the kernel has: a commit must be written, but not synced.
	settings := fast()
	settings["synchronous_commit"] = "on"
	return NewRestartablePostgresOf(t, embedded.PostgresConfig{Dir: t.TempDir(), Settings: settings, Throwaway: true})
}

// NewRestartablePostgresOf is NewRestartablePostgres with a configuration of the test's own.
func NewRestartablePostgresOf(t testing.TB, cfg embedded.PostgresConfig) *RestartablePostgres {
	t.Helper()
	r := &RestartablePostgres{t: t, cfg: cfg}
	r.Start()
	r.url = r.server.URL()
	t.Cleanup(func() {
		if children, err := childrenOf(r.server.PID()); err == nil { // it lives, and may be frozen
			for _, pid := range append(children, r.server.PID()) {
				_ = syscall.Kill(pid, syscall.SIGCONT)
			}
		}
		if err := r.server.Stop(); err != nil {
			t.Errorf("servertest: %v", err)
		}
	})
	db := open(t, r.URL())
	if err := postgres.Migrate(t.Context(), db); err != nil {
		t.Fatalf("servertest: %v", err)
	}
	return r
}

// Dir is the server's data directory.
func (r *RestartablePostgres) Dir() string { return r.cfg.Dir }

// URL is that of the database; it stays the same over restarts.
func (r *RestartablePostgres) URL() string { return r.url }

// Start starts the server after a Stop or a Kill and returns once it takes connections.
func (r *RestartablePostgres) Start() {
	r.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), startTimeout)
	defer cancel()
	server, err := embedded.StartPostgres(ctx, r.cfg)
	if err != nil {
		r.t.Fatalf("servertest: %v", err)
	}
	r.server = server
}

// Stop ends the server in an orderly way; every session is cut off.
func (r *RestartablePostgres) Stop() {
	r.t.Helper()
	if err := r.server.Stop(); err != nil {
		r.t.Fatalf("servertest: %v", err)
	}
}

// Kill ends the server's processes without a warning, as a lack of memory does.
func (r *RestartablePostgres) Kill() {
	r.t.Helper()
	done := r.server.Done()
	r.signal(syscall.SIGKILL)
	<-done
	r.Stop() // it gives the directory free
}

// Freeze stops the server's processes where they are: connections stay, nobody answers.
func (r *RestartablePostgres) Freeze() {
	r.t.Helper()
	r.signal(syscall.SIGSTOP)
}

// Thaw lets a frozen server go on.
func (r *RestartablePostgres) Thaw() {
	r.t.Helper()
	r.signal(syscall.SIGCONT)
}

// signal sends a signal to the main process and then to its children, so that it cannot make new ones.
func (r *RestartablePostgres) signal(s syscall.Signal) {
	r.t.Helper()
	main := r.server.PID()
	children, err := childrenOf(main)
	if err != nil {
		r.t.Fatalf("servertest: %v", err)
	}
	for _, pid := range append([]int{main}, children...) {
		// A session may have ended meanwhile.
		if err := syscall.Kill(pid, s); err != nil && !errors.Is(err, syscall.ESRCH) {
			r.t.Fatalf("servertest: signal process %d: %v", pid, err)
		}
	}
}

func childrenOf(pid int) ([]int, error) {
	content, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%[1]d/children", pid))
	if err != nil {
		return nil, fmt.Errorf("list the children of process %d: %w", pid, err)
	}
	var pids []int
	for field := range strings.FieldsSeq(string(content)) {
		child, err := strconv.Atoi(field)
		if err != nil {
			return nil, fmt.Errorf("list the children of process %d: %w", pid, err)
		}
		pids = append(pids, child)
	}
	return pids, nil
}
