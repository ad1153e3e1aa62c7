//go:build unix

package embedded

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"
)

// settings are for a laptop: little memory, and yet large batches of inserts. What bounds them is the log, so
// checkpoints are far apart and full-page images compressed. No plan of ours is worth compiling.
func settings(socket string) map[string]string {
	return map[string]string{
		"listen_addresses":        "",
		"unix_socket_directories": socket,
		"unix_socket_permissions": "0700",
		"port":                    "5432", // a part of the socket's name
		"max_connections":         "100",
		"shared_buffers":          "128MB",
		"effective_cache_size":    "512MB",
		"maintenance_work_mem":    "64MB",
		"work_mem":                "8MB",
		"wal_buffers":             "16MB",
		"wal_compression":         "on",
		"max_wal_size":            "2GB",
		"min_wal_size":            "128MB",
		"checkpoint_timeout":      "15min",
		"random_page_cost":        "1.1",
		"fsync":                   "on",
		"full_page_writes":        "on",
		"synchronous_commit":      "on",
		"autovacuum":              "on",
		"autovacuum_naptime":      "15s", // deferrals come and go fast
		"jit":                     "off",
		"timezone":                "UTC",
		"log_timezone":            "UTC",
		"log_destination":         "stderr",
		"logging_collector":       "off",
		"log_checkpoints":         "off",
		"log_line_prefix":         "%m [%p] ",
	}
}

// slowStart is when a start is worth a word: the last end was not an orderly one.
const slowStart = 3 * time.Second

// start starts the server and waits until it takes connections. What a server that was killed left behind
// can be in the way for a moment, so that is tried again.
func (p *Postgres) start(ctx context.Context) error {
	const remains = "pre-existing shared memory block"
	for deadline := time.Now().Add(10 * time.Second); ; {
		err := p.startOnce(ctx)
		if err == nil || !strings.Contains(err.Error(), remains) || time.Now().After(deadline) {
			return err
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(100 * time.Millisecond):
		}
	}
}

func (p *Postgres) startOnce(ctx context.Context) error {
	logFile, err := openLog(p.paths.log)
	if err != nil {
		return err
	}
	defer logFile.Close() // the server has its own copy of the descriptor
	from, err := logFile.Seek(0, 2)
	if err != nil {
		return fmt.Errorf("find the end of the log: %w", err)
	}
	all := settings(p.paths.socket)
	maps.Copy(all, p.cfg.Settings)
	args := []string{"-D", p.paths.data}
	for _, name := range slices.Sorted(maps.Keys(all)) {
		args = append(args, "-c", name+"="+all[name])
	}
	cmd := exec.Command(p.bin.postgres, args...)
	cmd.Stdout, cmd.Stderr = logFile, logFile
	proc, err := p.as.spawn(cmd)
	if err != nil {
		return fmt.Errorf("start %s: %w", p.bin.postgres, err)
	}
	p.mu.Lock()
	p.process = proc
	closed := p.closed
	p.mu.Unlock()
	if closed { // by Stop, while Supervise was starting it again
		return errors.Join(errors.New("start Postgres: it was stopped meanwhile"), p.end())
	}
	if err := p.awaitReady(ctx, proc); err != nil {
		return errors.Join(fmt.Errorf("start Postgres: %w; the end of %s:\n%s",
			err, p.paths.log, tail(p.paths.log, from)), p.end())
	}
	return nil
}

// awaitReady waits until the server says in its pid file that it is ready. To try connections instead would
// fill its log with refusals.
func (p *Postgres) awaitReady(ctx context.Context, proc *process) error {
	look := time.NewTicker(5 * time.Millisecond)
	defer look.Stop()
	slow := time.After(slowStart)
	for {
		select {
		case <-slow:
			p.cfg.Logger.Info("Postgres starts slowly: it replays its log", "log", p.paths.log)
		case <-proc.done:
			return fmt.Errorf("it ended at once: %w", proc.err)
		case <-ctx.Done():
			return fmt.Errorf("it was not ready in time: %w", context.Cause(ctx))
		case <-look.C:
			if pid, ready := readPidFile(p.paths.data); pid == proc.pid && ready {
				return nil
			}
		}
	}
}

// readPidFile reads postmaster.pid: the first line is the process id, the eighth the status.
func readPidFile(data string) (pid int, ready bool) {
	content, err := os.ReadFile(filepath.Join(data, "postmaster.pid"))
	if err != nil {
		return 0, false
	}
	lines := strings.Split(string(content), "\n")
	if pid, err = strconv.Atoi(strings.TrimSpace(lines[0])); err != nil {
		return 0, false
	}
	return pid, len(lines) > 7 && strings.TrimSpace(lines[7]) == "ready"
}

// initialise makes the cluster unless it is there. It is made aside and moved into place when complete, so that
// a start that was killed half-way leaves nothing that a later one would take for a cluster.
func (p *Postgres) initialise(ctx context.Context) error {
	if _, err := os.Stat(filepath.Join(p.paths.data, "PG_VERSION")); err == nil {
		return nil
	}
	aside := p.paths.data + ".new"
	if err := os.RemoveAll(aside); err != nil {
		return fmt.Errorf("remove the remains of an earlier initdb: %w", err)
	}
	if err := p.as.makeDir(aside); err != nil {
		return err
	}
	args := []string{
		"-D", aside, "-U", superuser, "--auth=trust", "--encoding=UTF8", "--no-locale", "--no-instructions",
	}
	if p.cfg.Throwaway {
		args = append(args, "--no-sync")
	}
	cmd := exec.Command(p.bin.initdb, args...)
	var output bytes.Buffer
	cmd.Stdout, cmd.Stderr = &output, &output
	if err := p.as.run(ctx, cmd); err != nil {
		return fmt.Errorf("make the Postgres cluster: %s: %w\n%s", p.bin.initdb, err, bytes.TrimSpace(output.Bytes()))
	}
	if err := os.Rename(aside, p.paths.data); err != nil {
		return fmt.Errorf("move the Postgres cluster into place: %w", err)
	}
	return syncDir(filepath.Dir(p.paths.data))
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return fmt.Errorf("open %s: %w", dir, err)
	}
	return errors.Join(d.Sync(), d.Close())
}
