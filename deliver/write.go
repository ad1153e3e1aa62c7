package deliver

import (
	"context"
	"errors"
	"time"

	"github.com/fanfarehq/fanfare/deliver/ledger"
	"github.com/fanfarehq/fanfare/deliver/outcome"
	"github.com/fanfarehq/fanfare/internal/crashpoint"
	"github.com/fanfarehq/fanfare/internal/group"
	"github.com/fanfarehq/fanfare/internal/retry"
)

// write puts records on disk. While NATS is away it waits, and keeps the leases of those that have one; it fails
// only at the end of the run.
func (w *Worker) write(ctx context.Context, records ...*outcome.Record) error {
	return w.writeFor(ctx, ledger.TaskWaits, records...)
}

// writeFor is write, and names the process that the records hold up.
func (w *Worker) writeFor(ctx context.Context, waits ledger.Waits, records ...*outcome.Record) error {
	ctx = recording(ctx)
	renewed := time.Now()
	err := retry.Until(ctx, writePauses, func() error { return w.tryToWrite(ctx, waits, records) }, func(err error) bool {
		if errors.Is(err, ledger.ErrPanicked) {
			return false
		}
		w.trouble.Note("outcomes wait to be written", err)
		if time.Since(renewed) > w.cfg.Lease/4 {
			renewed = time.Now()
			w.renewAll(ctx, records)
		}
		return true
	})
	switch {
	case errors.Is(err, ledger.ErrPanicked):
		return errors.Join(errPanicked, err)
	case err != nil:
		return errStopping
	}
	now := w.now()
	for _, r := range records {
		w.metrics.recorded(r, now)
		if r.Outcome == outcome.Dead {
			w.dead.note(w.log, r, now)
		}
		w.tellDead(r)
		if r.Outcome == outcome.Later && !r.Held {
			w.due.expect(r.At)
		}
	}
	return nil
}

// writePauses are those between tries to write outcomes.
var writePauses = retry.Pauses{First: 10 * time.Millisecond, Most: 500 * time.Millisecond}

// tryToWrite writes records once.
func (w *Worker) tryToWrite(ctx context.Context, waits ledger.Waits, records []*outcome.Record) error {
	if err := w.seal(ctx, records); err != nil {
		return err
	}
	if err := w.journal.WriteGuarded(ctx, records, waits); err != nil {
		return err
	}
	return crashpoint.Reach(crashpoint.DeliverWritten)
}

// seal seals what records hold of customers. It fails if a key is needed that is not in memory and Postgres is away.
func (w *Worker) seal(ctx context.Context, records []*outcome.Record) error {
	for _, r := range records {
		if err := r.Seal(ctx, w.ledger.Keys); err != nil {
			return err
		}
	}
	return nil
}

// renewAll renews the leases of those records that have one.
func (w *Worker) renewAll(ctx context.Context, records []*outcome.Record) {
	for _, r := range records {
		if r.Step > 1 {
			w.flights.Go(func() { w.renew(ctx, ledger.Returned{Delivery: r.Delivery, Step: r.Step - 1}) })
		}
	}
}

// renew makes a lease last longer. If it cannot, others will have the delivery.
func (w *Worker) renew(ctx context.Context, r ledger.Returned) {
	if err := w.renewing.Do(ctx, r); err != nil {
		w.trouble.Note("leases are not renewed", err)
	}
}

func newRenewals(l *ledger.Ledger, as ledger.Lease) *group.Committer[ledger.Returned] {
	return group.New(group.Limits{Timeout: handOffTimeout}, nil, func(ctx context.Context, list []ledger.Returned) error {
		return l.Renew(ctx, list, as)
	})
}
