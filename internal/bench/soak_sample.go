package bench

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// soakSample is the state at a moment, with rates and latencies since the sample before.
type soakSample struct {
	At        float64 `json:"at_s"`
	Accepted  float64 `json:"accepted_per_second"`
	Delivered float64 `json:"delivered_per_second"`
	Refused   int64   `json:"refused"`
	P50       float64 `json:"p50_ms"`
	P99       float64 `json:"p99_ms"`
	Memory    int64   `json:"rss"`          // of the fanfare process
	Events    int64   `json:"events_bytes"` // in EVENTS, of which FANFARE_EVENTS_MAX_BYTES is the bound
	NATS      int64   `json:"nats_bytes"`   // on disk, all streams
	WAL       int64   `json:"wal_bytes"`
	Ledger    int64   `json:"ledger_bytes"` // grows until its oldest rows reach their age
	Waiting   int64   `json:"deferrals"`
	Deferrals int64   `json:"deferrals_bytes"`
	Copies    int64   `json:"copied_events"`
	Reach     float64 `json:"replayable_s"` // how far back events can be sent again
}

// sample takes a sample every so often until publishing has ended.
func (x *soak) sample(ctx, publishing context.Context, every time.Duration) error {
	begun, last := time.Now(), time.Now()
	var accepted, received, refused int64
	for pause(publishing, every) {
		s := soakSample{At: time.Since(begun).Seconds()}
		counts, err := x.load.counts(ctx)
		if err != nil {
			return err
		}
		var latencies []time.Duration
		if err := x.load.receiver.Do(ctx, "POST /latencies", nil, &latencies); err != nil {
			return err
		}
		l := newBenchLatency(x.cmd.Rate, latencies)
		now, span := time.Now(), time.Since(last).Seconds()
		all, gone := x.accepted.Load()+x.failing.Load(), x.refused.Load()
		s.Accepted, s.Delivered, s.Refused = float64(all-accepted)/span, float64(counts.Received-received)/span, gone-refused
		s.P50, s.P99 = l.P50, l.P99
		last, accepted, received, refused = now, all, counts.Received, gone
		if err := x.state(ctx, &s); err != nil {
			return err
		}
		x.report.Samples = append(x.report.Samples, s)
		fmt.Fprintf(x.console.Err, "%5.0f s: %5.0f accepted/s, %5.0f delivered/s, p99 %6.1f ms, %4d MiB, EVENTS %5d MiB, %3.0f s back, WAL %4d MiB, %d deferrals\n",
			s.At, s.Accepted, s.Delivered, s.P99, s.Memory>>20, s.Events>>20, s.Reach, s.WAL>>20, s.Waiting)
	}
	return nil
}

// state measures processes and servers.
func (x *soak) state(ctx context.Context, s *soakSample) (err error) {
	if s.Memory, _, err = memoryOf(x.pipeline.at.PID); err != nil {
		return err
	}
	if s.NATS, err = sizeOf(filepath.Join(x.dir, "nats")); err != nil {
		return err
	}
	err = x.db.QueryRowContext(ctx, `SELECT (SELECT sum(size) FROM pg_ls_waldir()), pg_database_size(current_database()),
    (SELECT count(*) FROM deferrals), pg_total_relation_size('deferrals'), (SELECT count(*) FROM event_data),
    pg_size_bytes(current_setting('max_wal_size'))`).
		Scan(&s.WAL, &s.Ledger, &s.Waiting, &s.Deferrals, &s.Copies, &x.report.WALMax)
	if err != nil {
		return fmt.Errorf("measure Postgres: %w", err)
	}
	metrics, err := x.metrics(ctx, `fanfare_stream_bytes{stream="EVENTS"}`, "fanfare_oldest_replayable_timestamp_seconds")
	if err != nil {
		return err
	}
	s.Events = int64(metrics[0])
	if metrics[1] > 0 {
		s.Reach = float64(time.Now().UnixMilli())/1000 - metrics[1]
	}
	return nil
}

// metrics reads series of /metrics.
func (x *soak) metrics(ctx context.Context, names ...string) ([]float64, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, x.pipeline.at.Ops+"/metrics", nil)
	if err != nil {
		return nil, err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return nil, fmt.Errorf("read metrics: %w", err)
	}
	defer resp.Body.Close()
	values := make([]float64, len(names))
	lines := bufio.NewScanner(resp.Body)
	for lines.Scan() {
		for i, name := range names {
			if rest, ok := strings.CutPrefix(lines.Text(), name+" "); ok {
				values[i], _ = strconv.ParseFloat(rest, 64)
			}
		}
	}
	return values, lines.Err()
}

// sizeOf is the size of all files of a directory.
func sizeOf(dir string) (total int64, err error) {
	err = filepath.WalkDir(dir, func(_ string, d fs.DirEntry, err error) error {
		if err == nil && d.Type().IsRegular() {
			info, infoErr := d.Info()
			if infoErr == nil {
				total += info.Size()
			}
			err = infoErr
		}
		if errors.Is(err, fs.ErrNotExist) {
			return nil // It was removed meanwhile.
		}
		return err
	})
	return total, err
}

// end counts what the ledger holds in the end.
func (x *soak) end(ctx context.Context) error {
	r := &x.report
	r.Accepted, r.FailingSent, r.Refused = x.accepted.Load(), x.failing.Load(), x.refused.Load()
	if err := x.lastRefusal.Load(); err != nil {
		text := (*err).Error()
		r.LastRefusal = text[:min(len(text), 300)]
	}
	for deadline := time.Now().Add(time.Minute); ; {
		err := x.db.QueryRowContext(ctx, `SELECT (SELECT count(*) FROM deliveries WHERE state = 'delivered'), (SELECT count(*) FROM deferrals),
    (SELECT count(*) FROM deliveries WHERE state <> 'delivered')`).Scan(&r.Delivered, &r.Waiting, &r.Ended)
		if err != nil {
			return fmt.Errorf("count the ledger: %w", err)
		}
		counts, err := x.load.counts(ctx)
		if err != nil {
			return err
		}
		r.Received, r.Duplicates = counts.Received, counts.Duplicates
		if r.complete() || time.Now().After(deadline) || !pause(ctx, 200*time.Millisecond) {
			return nil
		}
	}
}
