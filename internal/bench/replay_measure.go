package bench

import (
	"context"
	"fmt"
	"time"

	"golang.org/x/sync/errgroup"
)

// measure runs the windows, by turns without and beside the replay, and counts in the end.
func (x *replayBench) measure(ctx context.Context) (*replayReport, error) {
	r := &replayReport{
		Machine: newBenchMachine(Throughput{Rounds: x.cmd.Rounds, Seconds: x.cmd.Seconds}, x.version),
		Events:  x.cmd.Events, Rate: x.cmd.Rate, Live: x.cmd.Live, Restart: x.cmd.Restart,
	}
	if err := x.publish(ctx); err != nil {
		return nil, err
	}
	if err := x.subscribe(ctx); err != nil {
		return nil, err
	}
	var times [2][][]time.Duration // without and beside, by window
	for round := range x.cmd.Rounds {
		if err := x.warm(ctx, r, round); err != nil {
			return nil, err
		}
		for turn := range 2 {
			beside := (round + turn) % 2
			window, err := x.window(ctx, beside == 1, length(x.cmd.Seconds))
			if err != nil {
				return nil, err
			}
			l := newBenchLatency(x.cmd.Live, window)
			x.progress("Round %d, beside the replay: %-5t p50 %5.1f ms, p99 %5.1f ms", round+1, beside == 1, l.P50, l.P99)
			times[beside] = append(times[beside], window)
		}
	}
	r.sum(times)
	return r, x.count(ctx, r)
}

// warm begins with a window that is not timed, and restarts the pipeline before the middle round.
func (x *replayBench) warm(ctx context.Context, r *replayReport, round int) (err error) {
	if round > 0 && round == x.cmd.Rounds/2 {
		var after time.Duration
		if after, err = x.restart(ctx); err != nil {
			return err
		}
		r.WentOn = after.Seconds()
	} else if round > 0 {
		return nil
	}
	_, err = x.window(ctx, false, min(length(x.cmd.Seconds), 3*time.Second))
	return err
}

// window publishes single events at a rate and returns how long each took from its publication to its arrival. The
// first window beside the replay begins with its counting.
func (x *replayBench) window(ctx context.Context, beside bool, long time.Duration) ([]time.Duration, error) {
	change := x.pause
	if beside {
		change = x.resume
	}
	if err := change(ctx); err != nil {
		return nil, err
	}
	x.receiver.begin()
	group, groupCtx := errgroup.WithContext(ctx)
	data, start, total := newBenchData(), time.Now(), int(long.Seconds()*float64(x.cmd.Live))
	for n := range total {
		if !pause(groupCtx, time.Until(start.Add(time.Duration(n)*time.Second/time.Duration(x.cmd.Live)))) {
			break
		}
		event := fmt.Appendf(nil, `{"type":"live","data":%s}`, data.event(x.next, time.Now()))
		x.next++
		group.Go(func() error { return x.api.Do(groupCtx, "POST /v1/events?tenant="+benchTenant, event, nil) })
	}
	if err := group.Wait(); err != nil {
		return nil, err
	}
	err := x.until(ctx, "live events arrive", func() (bool, error) { return x.receiver.timed() >= total, nil })
	return x.receiver.times(), err
}

// count lets the replay end and counts what it sent: at the receiver and in the ledger.
func (x *replayBench) count(ctx context.Context, r *replayReport) error {
	if err := x.resume(ctx); err != nil {
		return err
	}
	x.progress("Waiting for the rest of the replay: %d of %d ...", x.receiver.again.Load(), x.cmd.Events)
	// What is left goes at the replay's rate.
	ctx, cancel := context.WithTimeout(ctx, benchDrain+time.Duration(x.cmd.Events/x.cmd.Rate)*time.Second)
	defer cancel()
	for {
		v, err := x.view(ctx)
		if err != nil {
			return err
		}
		if v.State == "done" {
			r.Matched = v.Matched
			break
		}
		if !pause(ctx, 200*time.Millisecond) {
			return context.Cause(ctx)
		}
	}
	err := x.until(ctx, "the ledger has all", func() (bool, error) {
		rows, distinct, waiting := 0, 0, 0
		err := x.db.QueryRowContext(ctx, `SELECT count(*), count(DISTINCT event_uid), (SELECT count(*) FROM deferrals)
FROM deliveries WHERE subscription_id = $1 AND generation = 1 AND state = 'delivered'`, x.subscription).Scan(&rows, &distinct, &waiting)
		r.Delivered, r.Distinct = rows, distinct
		return waiting == 0 && rows >= x.cmd.Events, err
	})
	r.Arrived, r.Repeated = x.receiver.counts()
	if err != nil {
		return err
	}
	v, err := x.view(ctx) // What waited for a place when it ended counts since.
	r.Sent = v.Sent
	return err
}
