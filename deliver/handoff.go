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

// handOffTimeout bounds the writing of rows for slow deliveries; if it passes, the task stays in progress and it is
// tried again.
const handOffTimeout = 5 * time.Second

// HandOff gives the flights that are still on their way a row and a lease, so that the task may be
// acknowledged and its place be taken by another. If Postgres is away they stay as they are.
func (l *load) handOff(ctx context.Context) {
	var slow []*flight
	for _, f := range l.flights {
		if !f.waitsForWorker() && f.course.handOff() {
			slow = append(slow, f)
		}
	}
	if len(slow) == 0 {
		return
	}
	begun := time.Now()
	h := &handOffs{flights: slow}
	err := l.worker.handing.Do(attempting(ctx), h)
	if err == nil {
		err = h.err
	}
	if err == nil {
		err = crashpoint.Reach(crashpoint.DeliverHandedOff)
	}
	n := 0
	for _, f := range slow {
		if f.course.handedOff(err == nil, h.taken[f], begun.Add(l.worker.cfg.Lease)) {
			n++
		}
	}
	if err != nil {
		l.worker.trouble.Note("slow deliveries stay with their tasks", err)
		return
	}
	l.worker.metrics.handedOff.Add(float64(len(slow)))
	l.settle(n, nil)
}

// handOffs are the slow flights of one task.
type handOffs struct {
	flights []*flight
	taken   map[*flight]bool
	err     error // of this task alone
}

// newHandOffs groups the hand-offs of many tasks into one transaction.
func newHandOffs(l *ledger.Ledger, as ledger.Lease) *group.Committer[*handOffs] {
	limits := group.Limits{Count: 256, Timeout: handOffTimeout}
	return group.New(limits, nil, func(ctx context.Context, list []*handOffs) error {
		write := func(list []*handOffs) error { return writeHandOffs(ctx, l, list, as) }
		return group.Apart(list, write, ledger.Refused, func(h *handOffs, err error) error {
			h.err = err
			return nil
		})
	})
}

// deferralsOf are the rows of flights.
func deferralsOf(flights []*flight) []*ledger.Deferral {
	list := make([]*ledger.Deferral, len(flights))
	for i, f := range flights {
		list[i] = &f.Deferral
	}
	return list
}

// writeHandOffs writes a group in one transaction.
func writeHandOffs(ctx context.Context, l *ledger.Ledger, list []*handOffs, as ledger.Lease) error {
	var all []*ledger.Deferral
	for _, h := range list {
		all = append(all, deferralsOf(h.flights)...)
	}
	taken, err := l.HandOff(ctx, all, as)
	if err != nil {
		return err
	}
	for _, h := range list {
		h.taken = make(map[*flight]bool, len(h.flights))
		for _, f := range h.flights {
			h.taken[f] = taken[f.Delivery]
		}
	}
	return nil
}

// newGiveBacks groups the leases that are given back.
func newGiveBacks(l *ledger.Ledger, worker string) *group.Committer[ledger.Returned] {
	limits := group.Limits{Timeout: handOffTimeout}
	return group.New(limits, nil, func(ctx context.Context, list []ledger.Returned) error {
		return l.GiveBack(ctx, list, worker)
	})
}

// giveBackAfter says how the lease of a flight goes back that ended with err.
func giveBackAfter(f *flight, err error) ledger.Returned {
	step, until := f.course.row()
	r := ledger.Returned{Delivery: f.Delivery, Step: step, Until: until}
	p, ok := laterOf(err)
	switch {
	case ok:
		r.Wait, r.Reason = p.Wait, outcome.Reason(p.Reason)
	case !errors.Is(err, errStopping):
		r.Wait = pollFar // Whatever it is, it is not over at once.
	}
	return r
}

// GiveBack ends a lease early. While Postgres is away it tries again, until the lease has ended by itself.
func (w *Worker) giveBack(ctx context.Context, r ledger.Returned) {
	ctx, cancel := context.WithDeadline(recording(ctx), r.Until)
	defer cancel()
	pauses := retry.Pauses{First: 50 * time.Millisecond, Most: time.Second}
	_ = retry.Until(ctx, pauses, func() error { return w.returning.Do(ctx, r) }, func(err error) bool {
		w.trouble.Note("leases wait to be given back", err)
		return true
	})
}
