package deliver

import (
	"context"
	"time"

	"github.com/fanfarehq/fanfare/deliver/ledger"
)

// lapse looks for leases of workers that died. Before one may be taken over, the ledger must have caught up with
// the outcomes that were written until the lease ended: its worker may have made the attempt and lived on,
// or died, with the outcome on its way.
func (d *due) lapse(ctx context.Context) {
	w := d.worker
	ticker := time.NewTicker(min(pollFar, w.cfg.Lease/4))
	defer ticker.Stop()
	for {
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return
		}
		err := d.bury(ctx)
		if err == nil {
			err = d.passLapsed(ctx)
		}
		if err != nil && ctx.Err() == nil {
			w.trouble.Note("lapsed leases wait", err)
		}
	}
}

// passLapsed moves the time up to which lapsed leases may be taken over, if there is one beyond it.
func (d *due) passLapsed(ctx context.Context) error {
	w := d.worker
	age, lapsed, err := w.ledger.Overdue(ctx, *d.lapsed.Load())
	if err != nil {
		return err
	}
	w.metrics.overdue.Set(age.Seconds())
	if !lapsed {
		return nil
	}
	now, err := w.ledger.Clock(ctx)
	if err != nil {
		return err
	}
	if err := ledger.CaughtUp(ctx, w.js); err != nil {
		return err
	}
	d.lapsed.Store(&now)
	select {
	case d.wake <- struct{}{}:
	default:
	}
	return nil
}
