package main

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"time"

	"github.com/nats-io/nats.go"
	natsjs "github.com/nats-io/nats.go/jetstream"
	"golang.org/x/sync/errgroup"

	"github.com/fanfarehq/fanfare/deliver"
	"github.com/fanfarehq/fanfare/deliver/ledger"
	"github.com/fanfarehq/fanfare/deliver/throttle"
	"github.com/fanfarehq/fanfare/fanout"
	"github.com/fanfarehq/fanfare/internal/embedded"
	"github.com/fanfarehq/fanfare/internal/jetstream"
	"github.com/fanfarehq/fanfare/internal/postgres"
	"github.com/fanfarehq/fanfare/internal/processes"
	"github.com/fanfarehq/fanfare/internal/running"
)

// backing is what the stages stand on: NATS and Postgres, each this process's own or another's.
type backing struct {
	nats    *embedded.NATS     // nil if FANFARE_NATS_URL is set
	private *embedded.Postgres // nil if FANFARE_POSTGRES_URL is set
	disk    *embedded.Disk     // of the embedded servers; nil if there are none
	nc      *nats.Conn
	local   *nats.Conn // carries events of clients without credentials; nil if there may be none
	js      natsjs.JetStream
	db      *sql.DB
	// heartbeat writes the row of this process.
	heartbeat *processes.Heartbeat
	workers   *throttle.Workers // counted by the heartbeat
	url       string            // of Postgres
	dataDir   string
}

// joins makes the heartbeat of a process, which counts the workers if it is one of them.
func (b *backing) joins(ctx context.Context, r role) (*processes.Heartbeat, error) {
	if b.private != nil {
		if err := processes.Forget(ctx, b.db); err != nil {
			return nil, err
		}
		if err := deliver.ReleaseLeases(ctx, b.db); err != nil {
			return nil, err
		}
	}
	h := processes.NewHeartbeat(b.db, string(r), version())
	if r.is(roleDeliver) {
		b.workers = throttle.NewWorkers()
		h.OnCount(b.workers.Count)
	}
	return h, nil
}

// startTimeout bounds how long a start waits for NATS and for Postgres.
const startTimeout = 2 * time.Minute

// opening is where the opening of servers says what it does.
type opening struct {
	log   *slog.Logger
	waits *waits
}

// openBacking starts or reaches both, side by side. What it opened is added to undo, also if it fails.
func openBacking(ctx context.Context, s *settings, to opening, undo *cleanup) (*backing, error) {
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	b := &backing{dataDir: s.server.DataDir}
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return b.openNATS(ctx, s, to) })
	group.Go(func() error { return b.openPostgres(ctx, s, to) })
	err := group.Wait()
	if err == nil && (b.nats != nil || b.private != nil) {
		b.disk, err = embedded.NewDisk(s.server.DataDir, s.server.DiskReserve)
	}
	if b.private != nil {
		undo.add("Postgres", b.private.Stop)
	}
	if b.nats != nil {
		undo.add("NATS", func() error { b.nats.Shutdown(); return nil })
	}
	if b.db != nil {
		undo.add("the connections to Postgres", b.db.Close)
	}
	for _, nc := range []*nats.Conn{b.nc, b.local} {
		if nc != nil {
			undo.add("the connection to NATS", func() error { nc.Close(); return nil })
		}
	}
	return b, err
}

// openNATS connects to NATS, or starts one in this process. Stages and publishers of one process share a connection.
func (b *backing) openNATS(ctx context.Context, s *settings, to opening) (err error) {
	d := dependency{"nats", "FANFARE_NATS_URL", masked("FANFARE_NATS_URL", s.nats.URL)}
	if s.nats.URL == "" {
		d = dependency{"nats", "FANFARE_NATS_LISTEN", "the NATS of this process"}
	}
	report, over := to.waits.wait(ctx, d)
	defer func() { over(err) }()
	if s.nats.URL != "" {
		b.nc, err = s.nats.Connect(ctx, report, jetstream.Log(to.log))
	} else {
		b.nc, err = b.startNATS(s, to.log)
	}
	if err != nil {
		return d.failed(err)
	}
	if b.js, err = natsjs.New(b.nc); err != nil {
		return fmt.Errorf("use JetStream: %w", err)
	}
	return d.failed(jetstream.AwaitUsable(ctx, b.nc, b.js, report))
}

// startNATS starts the embedded server and connects to it.
func (b *backing) startNATS(s *settings, log *slog.Logger) (nc *nats.Conn, err error) {
	b.nats, err = embedded.StartNATS(embedded.NATSConfig{
		Dir: s.server.DataDir, Listen: s.server.NATSListen, SyncAlways: true, Logger: log,
		LocalPublish: s.server.NATSLocalPublish == "on",
	})
	if err != nil {
		return nil, err
	}
	connect := func(name string) (*nats.Conn, error) {
		return b.nats.Connect(nats.Name(name), nats.MaxReconnects(-1), jetstream.Lean, jetstream.Log(log))
	}
	if s.server.NATSLocalPublish == "on" {
		if b.local, err = connect("fanfare, local publishers"); err != nil {
			return nil, err
		}
	}
	return connect("fanfare")
}

// openPostgres opens the pool, after starting a private server if no other is named, and migrates the schema.
func (b *backing) openPostgres(ctx context.Context, s *settings, to opening) (err error) {
	b.url = s.server.PostgresURL
	d := dependency{"postgres", "FANFARE_POSTGRES_URL", postgres.Address(b.url)}
	if b.url == "" {
		d = dependency{"postgres", "FANFARE_DATA_DIR", "the private Postgres"}
	}
	report, over := to.waits.wait(ctx, d)
	defer func() { over(err) }()
	if b.url == "" {
		b.private, err = embedded.StartPostgres(ctx, embedded.PostgresConfig{Dir: s.server.DataDir, Logger: to.log})
		if err != nil {
			return err
		}
		b.url = b.private.URL()
	}
	if b.db, err = postgres.OpenReporting(ctx, b.url, s.server.PostgresMaxConns, report); err != nil {
		return d.failed(err)
	}
	if err := postgres.Migrate(ctx, b.db); err != nil {
		return err
	}
	// The recorder keeps them up; made here, no row of the first events meets one that is just being attached.
	return postgres.NewPartitions(b.db, to.log).Ensure(ctx)
}

// natsURL is where commands of this machine reach NATS, with credentials; empty if nowhere.
func (b *backing) natsURL(s *settings) string {
	if b.nats != nil {
		return b.nats.AdminURL()
	}
	return s.nats.URL
}

// inboxes are the streams and consumers of all stages.
func inboxes(s *settings) []jetstream.Inbox {
	all := []jetstream.Inbox{
		fanout.Inbox(s.fanout.EventsMaxAge, s.fanout.EventsMaxBytes),
		deliver.Inbox(s.deliver.TasksMaxBytes),
		deliver.BacklogInbox(s.deliver.BacklogMaxBytes),
		ledger.Inbox(s.deliver.AttemptsMaxBytes),
	}
	for i := range all {
		all[i].Stream.Replicas, all[i].Settings = s.server.StreamReplicas, map[string]string{}
		if s.server.StreamReplicas > 1 {
			// NATS 2.15.2 may compress the file that a replica writes to after its server was killed: the replica then stops.
			all[i].Stream.Compression = natsjs.NoCompression
		}
		for _, b := range s.bounds() {
			if b.stream == all[i].Stream.Name {
				all[i].Settings[b.field] = b.setting
			}
		}
	}
	return all
}

// connectForTool connects a command that only needs the broker: to FANFARE_NATS_URL, else to the embedded server
// of a `fanfare all` that runs with this data directory, else to where that would listen.
func connectForTool(ctx context.Context, s *settings) (*nats.Conn, natsjs.JetStream, error) {
	url, source := s.nats.URL, "FANFARE_NATS_URL"
	if url == "" {
		at, err := running.Read(s.server.DataDir)
		switch {
		case err == nil:
			url, source = at.NATS, running.File(s.server.DataDir)
		case !errors.Is(err, os.ErrNotExist):
			return nil, nil, err
		default:
			source = "FANFARE_NATS_LISTEN"
			if url, err = embedded.NATSURL(s.server.DataDir, s.server.NATSListen); err != nil {
				return nil, nil, err
			}
		}
	}
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	cfg := s.nats
	cfg.URL = url
	nc, err := cfg.Connect(ctx, func(error) {})
	if err != nil {
		return nil, nil, fmt.Errorf("reach NATS at %s (from %s): %w", maskURL(url), source, err)
	}
	js, err := natsjs.New(nc)
	if err != nil {
		nc.Close()
		return nil, nil, fmt.Errorf("use JetStream: %w", err)
	}
	return nc, js, nil
}
