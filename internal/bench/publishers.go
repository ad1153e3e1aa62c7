package bench

import (
	"context"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"
)

// benchPublishers holds the windows of one number of publishers. Its figures are medians over them.
type benchPublishers struct {
	Publishers int                `json:"publishers"` // each sends its next event once the last one was accepted
	Events     float64            `json:"events_per_second"`
	P50        float64            `json:"p50_ms"` // end to end
	P99        float64            `json:"p99_ms"`
	CPU        float64            `json:"cpu_us_per_event"` // fanfare and its Postgres
	Syncs      float64            `json:"disk_flushes_per_event"`
	Windows    []publishersWindow `json:"windows"`
}

// publishersWindow is what one window of a number of publishers came to, at fan-out 1.
type publishersWindow struct {
	Events  int           `json:"events"`
	Elapsed time.Duration `json:"elapsed_ns"` // until the last event was accepted
	Latency benchLatency  `json:"latency"`
	CPU     time.Duration `json:"cpu_ns"`  // until all was written
	Flushes int64         `json:"flushes"` // of the disk, by whatever process
}

// sum computes the medians.
func (p *benchPublishers) sum() {
	each := func(figure func(publishersWindow) float64) float64 {
		values := make([]float64, len(p.Windows))
		for i, w := range p.Windows {
			values[i] = figure(w)
		}
		return median(values)
	}
	p.Events = each(func(w publishersWindow) float64 { return float64(w.Events) / w.Elapsed.Seconds() })
	p.P50 = each(func(w publishersWindow) float64 { return w.Latency.P50 })
	p.P99 = each(func(w publishersWindow) float64 { return w.Latency.P99 })
	p.CPU = each(func(w publishersWindow) float64 { return float64(w.CPU.Microseconds()) / float64(max(w.Events, 1)) })
	p.Syncs = each(func(w publishersWindow) float64 { return float64(w.Flushes) / float64(max(w.Events, 1)) })
}

// publishersRound is a window of some publishers.
func (b *bench) publishersRound(ctx context.Context, publishers int, length time.Duration) (w publishersWindow, err error) {
	before, err := b.pipeline.cpu()
	if err != nil {
		return w, err
	}
	flushes := diskFlushes(b.dir)
	start := time.Now()
	latencies, accepted, err := b.load.closed(ctx, publishers, length)
	if err != nil {
		return w, err
	}
	b.sent += int64(len(latencies))
	after, err := b.pipeline.settled(ctx)
	if err != nil {
		return w, err
	}
	return publishersWindow{
		Events: len(latencies), Elapsed: accepted.Sub(start), Latency: newBenchLatency(0, latencies),
		CPU: after.fanfare + after.postgres - before.fanfare - before.postgres, Flushes: diskFlushes(b.dir) - flushes,
	}, nil
}

// closed has publishers send single events for so long, each one its next when the last was accepted. It returns how long each
// event took from its publication to its arrival, and when the last one was accepted.
func (l *benchLoad) closed(ctx context.Context, publishers int, length time.Duration) (took []time.Duration, accepted time.Time, err error) {
	if err := l.receiver.Do(ctx, "POST /begin?timing", nil, nil); err != nil {
		return nil, accepted, err
	}
	var numbers atomic.Int64
	end := time.Now().Add(length)
	group, groupCtx := errgroup.WithContext(ctx)
	for range publishers {
		group.Go(func() error {
			data := newBenchData()
			for time.Now().Before(end) && groupCtx.Err() == nil {
				n := int(numbers.Add(1)) - 1
				event := fmt.Sprintf(`{"type":%q,"data":%s}`, benchType(1, n), data.event(n, time.Now()))
				if err := l.api.Do(groupCtx, "POST /v1/events?tenant="+benchTenant, []byte(event), nil); err != nil {
					return err
				}
			}
			return nil
		})
	}
	if err := group.Wait(); err != nil {
		return nil, accepted, err
	}
	accepted = time.Now()
	if _, err := l.drain(ctx, numbers.Load()); err != nil {
		return nil, accepted, err
	}
	return took, accepted, l.receiver.Do(ctx, "GET /latencies", nil, &took)
}

// diskFlushes is how often the disk of a directory was told to make its writes last, by any process since the machine began;
// 0 if that is not known.
func diskFlushes(dir string) int64 {
	device, ok := deviceOf(dir)
	stats, err := os.ReadFile("/proc/diskstats")
	if !ok || err != nil {
		return 0
	}
	// Major and minor number as Linux packs them.
	major, minor := device>>8&0xfff, device&0xff|device>>12&0xfff00
	const flushes = 18 // the column of completed flushes
	for line := range strings.Lines(string(stats)) {
		f := strings.Fields(line)
		if len(f) > flushes && f[0] == fmt.Sprint(major) && f[1] == fmt.Sprint(minor) {
			n, _ := strconv.ParseInt(f[flushes], 10, 64)
			return n
		}
	}
	return 0
}

// writePublishers writes the table of ordinary load.
func writePublishers(w io.Writer, list []benchPublishers) {
	if len(list) == 0 {
		return
	}
	rows := [][]string{{"publishers", "events/s", "p50 ms", "p99 ms", "CPU us per event", "disk flushes per event"}}
	for _, p := range list {
		rows = append(rows, []string{
			fmt.Sprint(p.Publishers), fmt.Sprintf("%.0f", p.Events), fmt.Sprintf("%.1f", p.P50), fmt.Sprintf("%.1f", p.P99),
			fmt.Sprintf("%.0f", p.CPU), fmt.Sprintf("%.2f", p.Syncs),
		})
	}
	fmt.Fprint(w, "\nOrdinary load: each publisher sends its next event once the last one was accepted; fan-out 1.\n\n")
	writeMarkdown(w, rows)
}
