package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	natsjs "github.com/nats-io/nats.go/jetstream"

	"github.com/fanfarehq/fanfare/fanout"
)

// refuseLostDatabase refuses to start on an empty database where the stream shows that this installation has matched events: the
// database is lost or another one, events would match nothing, and nothing would tell. An operator who means it says so.
func (b *backing) refuseLostDatabase(ctx context.Context, s *settings, log *slog.Logger) error {
	var used bool
	if err := b.db.QueryRowContext(ctx, `SELECT EXISTS (SELECT FROM deployment_secrets) OR EXISTS (SELECT FROM subscriptions)
    OR EXISTS (SELECT FROM keys) OR EXISTS (SELECT FROM events)`).Scan(&used); err != nil {
		return fmt.Errorf("look whether the database is empty: %w", err)
	}
	if used {
		return nil
	}
	consumer, err := b.js.Consumer(ctx, fanout.Stream, fanout.Durable)
	if errors.Is(err, natsjs.ErrStreamNotFound) || errors.Is(err, natsjs.ErrConsumerNotFound) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("look whether events were matched before: %w", err)
	}
	matched := consumer.CachedInfo().Delivered.Stream
	switch {
	case matched == 0:
		return nil
	case s.server.EmptyDatabase == acceptEmpty:
		log.WarnContext(ctx, "starting with an empty database", "stream", fanout.Stream, "matched_up_to", matched)
		return nil
	}
	return fmt.Errorf("FANFARE_POSTGRES_URL: the database is empty, and events up to %d of stream %s were matched before: restore the database, or set "+
		"FANFARE_EMPTY_DATABASE=%s once, and subscriptions, keys and the ledger begin anew", matched, fanout.Stream, acceptEmpty)
}

// lostEvents says whether the stream of events ends before the newest event of the ledger: it was made again, or restored from an
// older state. It is empty if not, where that cannot be asked, and once the ledger has newer events.
func (b *backing) lostEvents(ctx context.Context) string {
	var seq uint64
	var at time.Time
	err := b.db.QueryRowContext(ctx, `SELECT seq, accepted_at FROM events ORDER BY uid DESC LIMIT 1`).Scan(&seq, &at)
	if err != nil { // The ledger is empty or away, which other checks report.
		return ""
	}
	stream, err := b.js.Stream(ctx, fanout.Stream)
	if err != nil || stream.CachedInfo().State.LastSeq >= seq {
		return ""
	}
	return fmt.Sprintf("stream %s ends at place %d, and the ledger has events up to place %d, accepted at %s: NATS was lost or is older than Postgres. "+
		"Pending deliveries of events that are gone end as expired; fanfare audit names those events", fanout.Stream, stream.CachedInfo().State.LastSeq, seq,
		at.UTC().Format(time.RFC3339))
}
