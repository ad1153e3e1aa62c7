//go:build unix

package embedded

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	"github.com/lib/pq"
)

// Postgres is a Postgres server that belongs to this process: it listens on a private socket only and ends
// with the process, however that ends.
type Postgres struct {
	cfg   PostgresConfig
	paths paths
	bin   binaries
	as    account
	lock  *dirLock

	mu      sync.Mutex
	process *process
	closed  bool
}

const (
	superuser = "fanfare"
	database  = "fanfare"
	// fastShutdown bounds the orderly end: open transactions are rolled back and a checkpoint is written.
	fastShutdown = 20 * time.Second
	// quickShutdown bounds the end without a checkpoint; the next start replays the log.
	quickShutdown = 5 * time.Second
	// restartPause is the pause after a failed restart.
	restartPause = 2 * time.Second
)

// StartPostgres starts the server of cfg.Dir and returns once it takes connections. The first start makes the
// cluster. A server that a killed process left behind in the same directory is stopped first.
func StartPostgres(ctx context.Context, cfg PostgresConfig) (*Postgres, error) {
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	dir, err := filepath.Abs(filepath.Join(cfg.Dir, "postgres"))
	if err != nil {
		return nil, fmt.Errorf("find the data directory: %w", err)
	}
	lock, err := lockDir(dir)
	if err != nil {
		return nil, err
	}
	p := &Postgres{cfg: cfg, lock: lock}
	if err := p.open(ctx, dir); err != nil {
		return nil, errors.Join(err, lock.Close())
	}
	return p, nil
}

// open prepares the directory and starts the server in it.
func (p *Postgres) open(ctx context.Context, dir string) error {
	var err error
	if p.paths, err = layOut(dir); err != nil {
		return err
	}
	if p.as, err = chooseAccount(p.paths); err != nil {
		return err
	}
	if err := stopOrphans(ctx, p.paths.data); err != nil {
		return fmt.Errorf("stop the Postgres that an earlier process left in %s: %w", p.paths.data, err)
	}
	if p.bin, err = newFinder(p.cfg.Logger).find(ctx, p.paths.data); err != nil {
		return err
	}
	if err := p.initialise(ctx); err != nil {
		return err
	}
	if err := p.start(ctx); err != nil {
		return err
	}
	if err := p.createDatabase(ctx); err != nil {
		return errors.Join(err, p.end())
	}
	return nil
}

// createDatabase makes the database at the first start.
func (p *Postgres) createDatabase(ctx context.Context) error {
	connector, err := pq.NewConnector(p.urlOf("postgres"))
	if err != nil {
		return fmt.Errorf("configure the connection: %w", err)
	}
	db := sql.OpenDB(connector)
	defer db.Close()
	var there bool
	err = db.QueryRowContext(ctx, "SELECT EXISTS (SELECT FROM pg_database WHERE datname = $1)", database).Scan(&there)
	if err == nil && !there {
		_, err = db.ExecContext(ctx, "CREATE DATABASE "+pq.QuoteIdentifier(database))
	}
	if err != nil {
		return fmt.Errorf("create the database: %w", err)
	}
	return nil
}

// URL is the connection URL of the database, for lib/pq and for psql.
func (p *Postgres) URL() string { return p.urlOf(database) }

func (p *Postgres) urlOf(name string) string {
	u := url.URL{Scheme: "postgres", Path: "/" + name, RawQuery: url.Values{
		"host": {p.paths.socket}, "user": {superuser}, "sslmode": {"disable"},
	}.Encode()}
	// With an empty authority, URL.String leaves out the slashes that libpq wants.
	return "postgres://" + u.Path + "?" + u.RawQuery
}

// PID is the process id of the server's main process.
func (p *Postgres) PID() int { return p.current().pid }

// Done is closed when the server that runs now has ended, by Stop or by itself.
func (p *Postgres) Done() <-chan struct{} { return p.current().done }

func (p *Postgres) current() *process {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.process
}

// Supervise starts the server again whenever it ends by itself (killed for want of memory, for instance),
// until ctx ends. Then it returns nil; Stop is still the caller's to call. A start that fails, as on a full disk, is repeated.
func (p *Postgres) Supervise(ctx context.Context) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-p.Done():
		}
		if p.isClosed() {
			return nil
		}
		p.cfg.Logger.Error("the private Postgres ended by itself; starting it again", "log", p.paths.log)
		if err := p.restart(ctx); err != nil && ctx.Err() == nil && !p.isClosed() {
			p.cfg.Logger.Error("cannot start the private Postgres again, retrying", "error", err)
			select {
			case <-time.After(restartPause):
			case <-ctx.Done():
			}
		}
	}
}

func (p *Postgres) isClosed() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.closed
}

func (p *Postgres) restart(ctx context.Context) error {
	if err := stopOrphans(ctx, p.paths.data); err != nil {
		return err
	}
	return p.start(ctx)
}

// Stop ends the server in an orderly way, within 30 s, and gives the directory free. Calling it again does
// nothing.
func (p *Postgres) Stop() error {
	p.mu.Lock()
	if p.closed {
		p.mu.Unlock()
		return nil
	}
	p.closed = true
	p.mu.Unlock()
	return errors.Join(p.end(), p.paths.clean(), p.lock.Close())
}

// end stops the server's process, with growing insistence.
func (p *Postgres) end() error {
	proc := p.current()
	for _, step := range []struct {
		signal syscall.Signal
		wait   time.Duration
	}{{syscall.SIGINT, fastShutdown}, {syscall.SIGQUIT, quickShutdown}, {syscall.SIGKILL, quickShutdown}} {
		if proc.signal(step.signal, step.wait) {
			return nil
		}
		p.cfg.Logger.Warn("the private Postgres does not stop", "signal", step.signal.String(), "waited", step.wait)
	}
	return fmt.Errorf("stop Postgres: process %d does not end", proc.pid)
}
