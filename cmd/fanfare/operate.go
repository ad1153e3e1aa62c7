package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/fanfarehq/fanfare/deliver"
	"github.com/fanfarehq/fanfare/deliver/history"
	"github.com/fanfarehq/fanfare/deliver/ledger"
	"github.com/fanfarehq/fanfare/fanout"
	"github.com/fanfarehq/fanfare/fanout/audit"
	"github.com/fanfarehq/fanfare/fanout/replay"
	"github.com/fanfarehq/fanfare/internal/access"
	"github.com/fanfarehq/fanfare/internal/changes"
	"github.com/fanfarehq/fanfare/internal/postgres"
	"github.com/fanfarehq/fanfare/internal/running"
)

// auditor makes one; without an outbox it mends nothing.
func (sh *shared) auditor(outbox deliver.Sender) *audit.Auditor {
	books := history.NewBooks(sh.db)
	return audit.NewAuditor(audit.Deps{
		JetStream: sh.js, DB: sh.db, Reader: sh.reader, Ledger: sh.ledger, Rules: sh.rules, Directory: sh.directory,
		Bytes: sh.events, Books: books, Outbox: outbox, Order: sh.turns, AttemptsSince: sh.retention().AttemptsSince, Logger: sh.log,
	})
}

// retention drops rows older than they are to be kept.
func (sh *shared) retention() *postgres.Retention {
	return postgres.NewRetention(sh.s.retain, sh.db, sh.log)
}

// operations adds to the API what operators and support use.
func (a *assembly) operations(sh *shared, keys *access.Access, to huma.API) {
	eraser := fanout.NewEraser(fanout.EraserDeps{
		JetStream: sh.js, DB: sh.db, Deliveries: ledger.NewEraser(sh.db), Forget: sh.events.Forget,
	})
	eraser.Register(to)
	// Its subscriptions first, so that nothing new is made.
	keys.OnErase(sh.store, eraser, sh.keys, changes.NewLog(sh.db), ledger.NewCounter(sh.db, sh.log))
	tail := history.NewTail(sh.js, sh.log)
	tail.Limit(sh.quotas)
	tail.SealWith(sh.keys)
	tail.Register(to)
	a.add("tail", tail.Run)
	replays := replay.Routes{DB: sh.db, Directory: sh.directory, Quotas: sh.quotas, Logger: sh.log}
	replays.Register(to)
	keys.OnUsage(sh.store.Usage, replays.Usage, sh.ledger.Usage, history.NewCounts(history.RoutesDeps{DB: sh.db}).Usage)
	sh.store.OnSince(replay.Backfill{DB: sh.db, MaxAge: sh.s.fanout.EventsMaxAge, Oldest: sh.reader.Oldest, Quotas: sh.quotas}.Begin)
	sh.auditor(nil).Register(to)
}

// upkeep makes the parts that send the past again and remove old rows and messages.
func (a *assembly) upkeep(sh *shared, recovery *audit.Recovery) {
	a.loop("replay", replay.NewReplayer(replay.Deps{
		DB: sh.db, Reader: sh.reader, Bytes: sh.events, Directory: sh.directory, JetStream: sh.js, Logger: sh.log,
		Remember: sh.events.Remember,
	}).Run)
	retention := sh.retention()
	retention.Protect(func(ctx context.Context) (time.Time, error) {
		oldest, err := sh.reader.Oldest(ctx)
		return oldest.At, err
	})
	a.loop("retention", retention.Run)
	a.loop("purge", fanout.NewPurger(fanout.PurgerDeps{
		JetStream: sh.js, DB: sh.db, Keeper: ledger.NewKeeper(sh.db, sh.events, sh.keys), Recovery: recovery, Metrics: sh.metrics, Logger: sh.log,
	}).Run)
	a.loop("tombstones", sh.sweep)
	a.loop("changes", func(ctx context.Context) error {
		return postgres.RunChore(ctx, sh.db, sh.log, postgres.Chore{Name: "changes", Every: time.Minute, Do: changes.NewLog(sh.db).Trim})
	})
}

// tombstoneAge is how long deleted rows are remembered, so that directories learn of it without reading all anew.
const tombstoneAge = 24 * time.Hour

// sweep removes rows deleted long ago, until ctx ends.
func (sh *shared) sweep(ctx context.Context) error {
	return postgres.RunChore(ctx, sh.db, sh.log, postgres.Chore{
		Name: "tombstones", Every: time.Hour,
		Do: func(ctx context.Context, _ time.Time) (time.Time, error) {
			_, err := sh.store.Sweep(ctx, tombstoneAge)
			// As long as deliveries, which refer to them.
			return time.Now(), errors.Join(err, changes.NewLog(sh.db).Sweep(ctx, sh.s.retain.Deliveries))
		},
	})
}

// openForTool reaches NATS and Postgres for a command: by the settings, else those of a `fanfare all` that runs with
// this data directory, with its keys.
func openForTool(ctx context.Context, s *settings, undo *cleanup) (*backing, error) {
	url := s.server.PostgresURL
	if url == "" {
		at, err := running.Read(s.server.DataDir)
		if err != nil {
			return nil, fmt.Errorf("FANFARE_POSTGRES_URL is not set, and no fanfare all runs with FANFARE_DATA_DIR=%s: %w", s.server.DataDir, err)
		}
		url = at.Postgres
	}
	if s.server.SecretKeys == "" {
		keys, err := os.ReadFile(filepath.Join(s.server.DataDir, secretKeysFile))
		if err != nil {
			return nil, errors.Join(errors.New("FANFARE_SECRET_KEYS is not set"), err)
		}
		s.server.SecretKeys = strings.TrimSpace(string(keys))
	}
	nc, js, err := connectForTool(ctx, s)
	if err != nil {
		return nil, err
	}
	undo.add("NATS", func() error { nc.Close(); return nil })
	db, err := postgres.Open(ctx, url, 4)
	if err != nil {
		return nil, fmt.Errorf("FANFARE_POSTGRES_URL: %w", err)
	}
	undo.add("Postgres", db.Close)
	return &backing{nc: nc, js: js, db: db, url: url}, nil
}
