package main

import (
	"context"
	"database/sql"
	"fmt"
	"log/slog"
	"runtime"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"

	"github.com/fanfarehq/fanfare/fanout"
	"github.com/fanfarehq/fanfare/internal/embedded"
	"github.com/fanfarehq/fanfare/internal/seal"
)

const (
	// monitorEvery is the time between two looks at what /readyz reports.
	monitorEvery = 10 * time.Second
	// overdueAfter is how long a deferral may be due before it counts as overdue, and overdueMost where counting ends.
	overdueAfter = time.Minute
	overdueMost  = 100_000
)

// durabilities are the words of /readyz.
var durabilities = []string{"synced", "degraded", "unknown"}

// monitor turns what /readyz reports into metrics, and logs its changes. Every process measures the deferrals, so that overdue ones
// are seen when every worker is gone.
type monitor struct {
	ops *ops
	db  *sql.DB
	log *slog.Logger

	ready      *prometheus.GaugeVec // dependency
	durability *prometheus.GaugeVec // state
	overdue    prometheus.Gauge
	oldest     prometheus.Gauge
	replayable prometheus.Gauge
	events     *fanout.Reader

	last readiness // the last one logged
}

// newMonitor makes a monitor, with a series for each dependency.
func newMonitor(o *ops, g ground, ring *seal.Ring) *monitor {
	gauge := func(name, help string, labels ...string) *prometheus.GaugeVec {
		v := prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: "fanfare_" + name, Help: help}, labels)
		o.metrics.MustRegister(v)
		return v
	}
	m := &monitor{
		ops: o, db: g.db, log: g.log,
		ready:      gauge("ready", "1 if the dependency was as the role needs it when it was last asked, within 10 s.", "dependency"),
		durability: gauge("durability", "1 for how durable accepted events are now.", "state"),
		overdue:    gauge("deferrals_overdue", "Deliveries that have been due for more than a minute; counting ends at 100000.").WithLabelValues(),
		oldest:     gauge("deferrals_overdue_seconds", "For how long the oldest of them has been due; 0: there is none.").WithLabelValues(),
		replayable: gauge("oldest_replayable_timestamp_seconds", "When the oldest event was accepted that is still in EVENTS: a replay, a preview or since reaches back to here; 0: the stream is empty.").WithLabelValues(),
		events:     fanout.NewReader(g.js),
		last:       readiness{Dependencies: map[string]string{}, Durability: "synced"},
	}
	gauge("build_info", "1, with the version and the role of the process.", "version", "role", "go").
		WithLabelValues(version(), o.role, runtime.Version()).Set(1)
	o.mu.Lock()
	for _, c := range o.asks.checks {
		m.ready.WithLabelValues(c.name)
		m.last.Dependencies[c.name] = "ok"
	}
	o.mu.Unlock()
	for _, state := range durabilities {
		m.durability.WithLabelValues(state)
	}
	o.metrics.MustRegister(collectors.NewDBStatsCollector(g.db, "fanfare"))
	for i, why := range []string{"unknown_key", "damaged"} {
		o.metrics.MustRegister(prometheus.NewCounterFunc(prometheus.CounterOpts{
			Name: "fanfare_keys_unopened_total", Help: "Times that something sealed did not open, by why.", ConstLabels: prometheus.Labels{"why": why},
		}, func() float64 {
			unknown, damaged := ring.Failures()
			return float64([]uint64{unknown, damaged}[i])
		}))
	}
	if g.disk != nil {
		o.metrics.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "fanfare_disk_free_bytes", Help: "Bytes that are left on the volume of FANFARE_DATA_DIR.",
		}, func() float64 {
			free, err := embedded.FreeSpace(g.dataDir)
			if err != nil {
				return -1
			}
			return float64(free)
		}))
	}
	return m
}

// run looks every few seconds until ctx ends.
func (m *monitor) run(ctx context.Context) error {
	tick := time.NewTicker(monitorEvery)
	defer tick.Stop()
	for {
		m.look(ctx)
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

// look measures once.
func (m *monitor) look(ctx context.Context) {
	now := m.ops.readiness(ctx)
	if ctx.Err() != nil {
		return
	}
	for name, is := range now.Dependencies {
		m.ready.WithLabelValues(name).Set(truth(is == "ok"))
	}
	for _, state := range durabilities {
		m.durability.WithLabelValues(state).Set(truth(state == now.Durability))
	}
	m.tell(now)
	if count, oldest, err := m.deferrals(ctx); err == nil { // Else Postgres is away, which readiness reports.
		m.overdue.Set(float64(count))
		m.oldest.Set(oldest)
	}
	if oldest, err := m.events.Oldest(ctx); err == nil {
		m.replayable.Set(seconds(oldest.At))
	}
}

// seconds is a time as metrics have it; 0 for none.
func seconds(at time.Time) float64 {
	if at.IsZero() {
		return 0
	}
	return float64(at.UnixMilli()) / 1000
}

// tell logs changes.
func (m *monitor) tell(now readiness) {
	for name, is := range now.Dependencies {
		was := m.last.Dependencies[name]
		switch {
		case is != "ok" && was == "ok":
			m.log.Warn("not ready", "dependency", name, "reason", is)
		case is == "ok" && was != "ok":
			m.log.Info("ready again", "dependency", name)
		}
	}
	if now.Durability != m.last.Durability {
		level := slog.LevelInfo
		if now.Durability != "synced" {
			level = slog.LevelWarn
		}
		m.log.Log(context.Background(), level, "durability changed", "from", m.last.Durability, "to", now.Durability, "detail", now.Detail)
	}
	if now.Lost != "" && m.last.Lost == "" {
		m.log.Warn("NATS lost events that the ledger knows of", "detail", now.Lost)
	}
	m.last = now
}

// deferrals counts the overdue ones and returns for how many seconds the oldest has been due.
func (m *monitor) deferrals(ctx context.Context) (count int, oldest float64, err error) {
	ctx, cancel := context.WithTimeout(ctx, checkTimeout)
	defer cancel()
	err = m.db.QueryRowContext(ctx, `
SELECT count(*), coalesce(extract(epoch FROM now() - min(claim_at)), 0) FROM (
    SELECT claim_at FROM deferrals WHERE NOT held AND claim_at <= now() - $1::interval ORDER BY claim_at LIMIT $2) AS o`,
		fmt.Sprintf("%d milliseconds", overdueAfter.Milliseconds()), overdueMost).Scan(&count, &oldest)
	if err != nil {
		return 0, 0, fmt.Errorf("count overdue deferrals: %w", err)
	}
	return count, oldest, nil
}

// truth is a gauge's value.
func truth(so bool) float64 {
	if so {
		return 1
	}
	return 0
}
