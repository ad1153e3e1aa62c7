package audit

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"
	"sync/atomic"
	"time"

	natsjs "github.com/nats-io/nats.go/jetstream"

	"github.com/fanfarehq/fanfare/deliver"
	"github.com/fanfarehq/fanfare/deliver/ledger"
	"github.com/fanfarehq/fanfare/internal/jetstream"
)

const (
	recoverEvery = time.Second
	// recoverAfter is how long workers that outlived the broker have for the deliveries that they had in hand: what they
	// report meanwhile is not sent again.
	recoverAfter = 2 * time.Second
	// recoverBefore is how much earlier than the settled time a recovery begins: events of the same moment settle one by one.
	recoverBefore = 5 * time.Second
)

// Recovery sends again what a broker lost when it died. TASKS, BACKLOG and ATTEMPTS are not synced (see
// jetstream.Inbox.Unsynced): a killed broker may lose the last milliseconds of them, a power cut what it did not sync. Their
// events are in EVENTS and their rows in Postgres, so an audit of all events that were not settled finds each delivery that
// is in no task and has no row.
//
// NATS has another id after each start, by which a death is noticed whoever notices it, and after a restart of Fanfare too.
// Any number may run; one at a time works. Replicated and synced streams lose nothing, and are not audited.
type Recovery struct {
	reconciler *Reconciler
	auditor    *Auditor
	recovered  atomic.Pointer[string] // the broker whose predecessors' losses are found; nil before the first
	lossless   atomic.Bool            // the streams are synced or replicated
}

// NewRecovery makes a Recovery that repairs as the Reconciler does.
func NewRecovery(r *Reconciler) *Recovery { return &Recovery{reconciler: r, auditor: r.auditor} }

// Broker names the process of NATS that this one is connected to; it is empty where no process of NATS loses anything.
func (r *Recovery) Broker() string {
	if r.lossless.Load() {
		return ""
	}
	return r.auditor.JetStream.Conn().ConnectedServerId()
}

// Recovered reports whether all that was lost before this broker started has been sent again.
func (r *Recovery) Recovered(broker string) bool {
	last := r.recovered.Load()
	return r.lossless.Load() || last != nil && *last == broker
}

// Settled notes that the deliveries of all events that were accepted up to a time have ended or are pending in Postgres.
func (r *Recovery) Settled(ctx context.Context, until time.Time) error {
	if _, err := r.auditor.DB.ExecContext(ctx, `UPDATE settled SET until = $1 WHERE until < $1`, until); err != nil {
		return fmt.Errorf("note that events are settled: %w", err)
	}
	return nil
}

// Run looks for another broker until ctx ends. While Postgres or the broker is away, it waits.
func (r *Recovery) Run(ctx context.Context) error {
	tick := time.NewTicker(recoverEvery)
	defer tick.Stop()
	for trouble := false; ; {
		err := r.turn(ctx)
		if err != nil && !trouble && ctx.Err() == nil {
			r.auditor.Logger.WarnContext(ctx, "cannot look for tasks that NATS lost, retrying", "error", err)
		}
		trouble = err != nil
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

// turn recovers if the broker is another one than before.
func (r *Recovery) turn(ctx context.Context) error {
	broker := r.auditor.JetStream.Conn().ConnectedServerId()
	before := r.recovered.Load()
	if broker == "" || before != nil && *before == broker {
		return nil
	}
	lossless, err := r.synced(ctx)
	if err != nil {
		return err
	}
	if !lossless {
		if before != nil {
			select {
			case <-time.After(recoverAfter):
			case <-ctx.Done():
				return nil
			}
		}
		if err := r.recover(ctx, broker); err != nil {
			return err
		}
	}
	r.lossless.Store(lossless)
	r.recovered.Store(&broker)
	return nil
}

// synced reports whether the broker loses nothing of what it acknowledged.
func (r *Recovery) synced(ctx context.Context) (bool, error) {
	for _, name := range []string{deliver.Stream, deliver.BacklogStream, ledger.Stream} {
		stream, err := r.auditor.JetStream.Stream(ctx, name)
		if err != nil {
			return false, fmt.Errorf("look at stream %s: %w", name, jetstream.Classify(err))
		}
		if stream.CachedInfo().Config.PersistMode == natsjs.AsyncPersistMode {
			return false, nil
		}
	}
	return true, nil
}

// recover audits the events that were not settled, unless another process has done so.
func (r *Recovery) recover(ctx context.Context, broker string) error {
	return r.auditor.store.alone(ctx, func(tx *sql.Tx) error {
		var last string
		var until time.Time
		err := tx.QueryRowContext(ctx, `SELECT broker, until FROM settled`).Scan(&last, &until)
		if err == nil && last == broker {
			return nil
		}
		now := r.reconciler.now()
		switch {
		case errors.Is(err, sql.ErrNoRows): // Before this one, no broker could lose anything.
			until = now.Add(-reconcileBack)
		case err != nil:
			return fmt.Errorf("ask up to when events are settled: %w", err)
		default:
			if err := r.sendAgain(ctx, ledger.Span{Since: until.Add(-recoverBefore), Until: now}); err != nil {
				return err
			}
		}
		if _, err := tx.ExecContext(ctx, `
INSERT INTO settled (broker, until) VALUES ($1, $2) ON CONFLICT (one) DO UPDATE SET broker = excluded.broker`, broker, until); err != nil {
			return fmt.Errorf("note the broker: %w", err)
		}
		return nil
	})
}

// sendAgain sends the missing deliveries of a span. One audit names a bounded number of gaps. Events whose bytes are gone are
// left to the Reconciler: whoever restored an older NATS has time to look.
func (r *Recovery) sendAgain(ctx context.Context, span ledger.Span) error {
	total := 0
	for {
		found, err := r.auditor.Audit(ctx, span)
		if err != nil {
			return fmt.Errorf("look for tasks that NATS lost: %w", err)
		}
		many := len(found.Gaps) >= maxGaps
		found.Gaps = slices.DeleteFunc(found.Gaps, func(g Gap) bool { return g.lost })
		if _, err := r.reconciler.mend(ctx, found); err != nil {
			return fmt.Errorf("send tasks again that NATS lost: %w", err)
		}
		total += found.Mended
		if found.Mended == 0 || !many {
			r.auditor.Logger.InfoContext(ctx, "looked for tasks that NATS lost when it stopped", "since", span.Since, "sent_again", total)
			return nil
		}
	}
}
