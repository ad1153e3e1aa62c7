package deliver

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/fanfarehq/fanfare/deliver/ledger"
	"github.com/fanfarehq/fanfare/deliver/outcome"
	"github.com/fanfarehq/fanfare/internal/crashpoint"
	"github.com/fanfarehq/fanfare/internal/event"
)

// How due deferrals are looked for: often while one is near, seldom while none is.
const (
	claimMost = 256
	// pollNear is also how long before they are due deferrals are leased: they are flown at their times, so that many
	// that are due one after the other are neither a query each nor a burst.
	pollNear = 50 * time.Millisecond
	pollFar  = time.Second
	// stride is how far apart in time deliveries that are flown together may be due.
	stride = 5 * time.Millisecond
	// sweepClaims is how often a claim looks at all that is due, and not only at what became so lately.
	sweepClaims = 500 * time.Millisecond
	// nearFor is how long after the time at which one of this worker's own deferrals is due it is
	// looked for often: its row may still be on its way to Postgres.
	nearFor = time.Second
)

// due claims deferrals when they are due and a slot is free, and flies them.
type due struct {
	worker *Worker
	leases atomic.Int64  // in hand
	wake   chan struct{} // holds one when a near deferral was written

	solo sync.RWMutex // held for writing by a delivery that is made alone

	mu   sync.Mutex
	near time.Time // until when to look often

	buried []string                  // killed workers whose leases were ended; of the loop in lapse alone
	lapsed atomic.Pointer[time.Time] // leases that ended before may be taken over; see lapse
	swept  time.Time                 // when nothing else was due; of the loop in run alone
}

func newDue(w *Worker) *due {
	d := &due{worker: w, wake: make(chan struct{}, 1)}
	d.lapsed.Store(&time.Time{})
	return d
}

// expect says that a deferral is due at a time, so that it is not looked for too seldom.
func (d *due) expect(at time.Time) {
	if time.Until(at) > 2*pollFar {
		return // It will be seen coming.
	}
	d.mu.Lock()
	until := at.Add(nearFor)
	later := until.After(d.near)
	if later {
		d.near = until
	}
	d.mu.Unlock()
	if later {
		select {
		case d.wake <- struct{}{}:
		default:
		}
	}
}

// run claims until ctx ends.
func (d *due) run(ctx context.Context) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-timer.C:
		case <-d.wake:
		case <-d.turns():
		case <-ctx.Done():
			return
		}
		timer.Reset(d.poll(ctx))
	}
}

// turns holds something when turns were given in this process: deliveries that have one are due.
func (d *due) turns() <-chan struct{} {
	if d.worker.turns == nil {
		return nil
	}
	return d.worker.turns.Given
}

// poll claims deferrals that are due, or will be soon, and returns after how long to look again.
func (d *due) poll(ctx context.Context) time.Duration {
	w := d.worker
	room := d.room()
	if room <= 0 {
		return pollNear
	}
	begun := time.Now()
	span := d.span(begun)
	got, ended, err := w.ledger.Claim(ctx, room, span, ledger.Lease{Worker: w.name, Length: w.cfg.Lease})
	if len(got) > 0 {
		err = crashpoint.Reach(crashpoint.DeliverClaimed)
	}
	if err != nil {
		if ctx.Err() == nil {
			w.trouble.Note("due deliveries wait", err)
		}
		return pollFar
	}
	if len(got) > 0 {
		d.start(ctx, got, begun)
	}
	// The leases are in hand already: a cleanup that fails must not lose them. It is repeated with the next claim of the rows.
	if err := w.ledger.DropLeftovers(ctx, ended); err != nil && ctx.Err() == nil {
		w.trouble.Note("cannot remove leftovers of ended deliveries", err)
	}
	if len(got)+len(ended) == room {
		d.swept = time.Time{}
		return 0
	}
	if span.Back == everDue {
		d.swept = begun
	}
	return d.pause(ctx) - time.Since(begun)
}

// everDue is longer ago than anything was due.
const everDue = 100 * 365 * 24 * time.Hour

// span says what to claim. Postgres remembers for a while in its index the rows that were claimed and ended: with a thousand a
// second, looking through all of that takes longer than all else. So most claims look back no further than to the last
// one that saw everything, and a little beyond, for rows written late.
func (d *due) span(now time.Time) ledger.DueSpan {
	span := ledger.DueSpan{Back: everDue, Ahead: pollNear, Lapsed: *d.lapsed.Load(), Elsewhere: d.worker.gate.Elsewhere()}
	if since := now.Sub(d.swept); since < sweepClaims {
		span.Back = since + sweepClaims
	}
	return span
}

// room returns how many leases to take: as many as slots are free, and some even if none is, so that due
// deliveries get their share when there is more work than can be done.
func (d *due) room() int {
	share := max(d.worker.gate.Free(), d.worker.cfg.InFlight/4)
	return min(share-int(d.leases.Load()), claimMost)
}

// pause returns how long nothing is due.
func (d *due) pause(ctx context.Context) time.Duration {
	d.mu.Lock()
	near := d.near
	d.mu.Unlock()
	if time.Now().Before(near) {
		return pollNear
	}
	next, some, err := d.worker.ledger.NextDue(ctx)
	if err != nil || !some {
		return pollFar
	}
	return min(max(next-pollNear, pollNear), pollFar)
}

// leased is the flight of a lease.
type leased struct {
	flight
	wait   time.Duration // until it is due, from when it was claimed
	lapses int           // how often a worker lost its lease, without an outcome since
}

// start flies the leases, each when it is due, in that order. The leases count from before they were asked for.
func (d *due) start(ctx context.Context, got []*ledger.Claimed, begun time.Time) {
	w := d.worker
	epoch, now := w.pulse.now(), time.Now()
	d.leases.Add(int64(len(got)))
	list := make([]*leased, len(got))
	for i, c := range got {
		l := &leased{wait: c.Wait, lapses: c.Lapses}
		l.Deferral, l.epoch, l.counted = c.Deferral, epoch, c.Lapses > 0
		l.course.lease(c.Step, begun.Add(w.cfg.Lease))
		w.metrics.late.Observe(c.Late.Seconds())
		list[i] = l
	}
	w.flights.Go(func() {
		for len(list) > 0 {
			n := together(list)
			sleep(ctx, time.Until(now.Add(list[n-1].wait)))
			d.startNow(ctx, list[:n])
			list = list[n:]
		}
	})
}

// together returns how many of the first are due at about the same time.
func together(list []*leased) int {
	n := 1
	for n < len(list) && list[n].wait <= list[0].wait+stride {
		n++
	}
	return n
}

// sleep waits, but not in a run that stops: then nothing flies any more, and leases go back.
func sleep(ctx context.Context, d time.Duration) {
	if d <= 0 {
		return
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}

// startNow flies those that are due.
func (d *due) startNow(ctx context.Context, list []*leased) {
	w := d.worker
	// Someone may have paused or deleted a subscription since; and retries are too few for this to cost.
	fresh := w.refresh(ctx)
	for _, c := range list {
		f := &c.flight
		var s *seat
		var r *outcome.Record
		err := fresh
		if err == nil {
			r, err = w.guarded(ctx, f, func() (r *outcome.Record, err error) {
				s, r, err = w.checkIn(f)
				return r, err
			})
		}
		w.flights.Go(func() {
			defer d.leases.Add(-1)
			defer d.beside(c)()
			if c.lapses > maxLapses {
				w.cancelSeat(s)
				r, err = w.condemn(ctx, f, fmt.Sprintf("%d workers in a row died with delivery %s in hand", c.lapses, f.Delivery))
			} else if !errors.Is(err, errPanicked) {
				r, err = w.guarded(ctx, f, func() (*outcome.Record, error) { return d.through(ctx, f, s, r, err) })
			}
			d.conclude(ctx, f, r, err)
		})
	}
}

// maxLapses is after how many deaths in a row of its worker a delivery is made alone. At the next one it is quarantined.
const maxLapses = 3

// beside waits until a lease may be flown beside others, or, of a delivery that seems to kill its workers, alone: so that those
// that were in hand with it are told apart from it. It returns what ends that.
func (d *due) beside(c *leased) (done func()) {
	if c.lapses < maxLapses {
		d.solo.RLock()
		return d.solo.RUnlock
	}
	d.solo.Lock()
	return d.solo.Unlock
}

// cancelSeat gives a seat back that is not used; nil is none.
func (w *Worker) cancelSeat(s *seat) {
	if s != nil {
		s.ticket.Leave()
	}
}

// through takes a lease with a seat, or with a record, to its record.
func (d *due) through(ctx context.Context, f *flight, s *seat, r *outcome.Record, err error) (*outcome.Record, error) {
	switch {
	case s != nil:
		r, err = d.readAndFly(ctx, f, s)
	case r != nil && (r.Held || r.Outcome == outcome.Dead):
		err = d.keep(ctx, f, r)
	}
	return d.putOff(ctx, f, r, err)
}

// refresh brings the directory up to date.
func (w *Worker) refresh(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, handOffTimeout)
	defer cancel()
	_, err := w.directory.Fresh(ctx)
	return err
}

// readAndFly reads the event of a lease, which its row does not hold, and flies.
func (d *due) readAndFly(ctx context.Context, f *flight, s *seat) (*outcome.Record, error) {
	w := d.worker
	found, err := w.events.get(ctx, f.EventUID, f.Seq)
	if err == nil && ctx.Err() != nil {
		err = errStopping
	}
	if err == nil {
		f.event, f.bodies = found.event, found.bodies
		return w.fly(ctx, f, s)
	}
	s.ticket.Leave()
	if errors.Is(err, event.ErrGone) {
		return f.record(outcome.Dead, outcome.ReasonExpired, w.now()), nil
	}
	return nil, err
}

// keep adds the event's bytes to the record of a delivery that is held, as it may outlive the stream.
func (d *due) keep(ctx context.Context, f *flight, r *outcome.Record) error {
	w := d.worker
	found, err := w.events.get(ctx, f.EventUID, f.Seq)
	if errors.Is(err, event.ErrGone) {
		return nil // It will be found out when it is set free.
	}
	if err == nil {
		f.event = found.event
		w.keepBytes(f, r)
	}
	return err
}

// putOff counts a delivery that is put off, and makes a record of one that may outlive the stream of events, as that keeps its bytes.
func (d *due) putOff(ctx context.Context, f *flight, r *outcome.Record, err error) (*outcome.Record, error) {
	w := d.worker
	p, ok := laterOf(err)
	if !ok {
		return r, err
	}
	if !w.outlives(f, p.Wait) {
		w.countPutOff(p)
		return nil, err
	}
	r = w.puttingOff(f, p)
	if f.event == nil {
		return r, d.keep(ctx, f, r)
	}
	return r, nil
}

// conclude puts the record of a lease on disk, or gives the lease back if there is none.
func (d *due) conclude(ctx context.Context, f *flight, r *outcome.Record, err error) {
	w := d.worker
	if err == nil {
		step, _ := f.course.land()
		r.Step = step
		waits := ledger.TaskWaits
		if f.Ordered {
			waits = ledger.KeyWaits
		}
		if err = w.writeFor(ctx, waits, r); errors.Is(err, errPanicked) {
			if r, err = w.panicked(ctx, f, err); err == nil {
				r.Step = step
				err = w.writeFor(ctx, waits, r)
			}
		}
	}
	if err == nil {
		if f.Ordered && r.Ended() {
			d.expect(time.Now()) // The next of its key is due once this one is recorded.
		}
		return
	}
	if _, ok := laterOf(err); !ok && !errors.Is(err, errStopping) {
		w.trouble.Note("deliveries are given back", err)
	}
	w.giveBack(ctx, giveBackAfter(f, err))
}
