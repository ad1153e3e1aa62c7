package ledger

import (
	"fmt"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/fanfarehq/fanfare/internal/router"
)

// Metrics are those of the ledger and of all that read its messages; one for each process.
type Metrics struct {
	Quarantined prometheus.Counter
	Panics      prometheus.Counter
	WaitingTurn prometheus.Gauge
	Stopped     prometheus.Gauge
	WrittenRows prometheus.Counter
	GroupSize   prometheus.Histogram
	Routes      *router.Metrics
}

// NewMetrics makes the metrics and registers them.
func NewMetrics(to prometheus.Registerer) (*Metrics, error) {
	counter := func(name, help string) prometheus.Counter {
		return prometheus.NewCounter(prometheus.CounterOpts{Namespace: "fanfare", Name: name, Help: help})
	}
	gauge := func(name, help string) prometheus.Gauge {
		return prometheus.NewGauge(prometheus.GaugeOpts{Namespace: "fanfare", Name: name, Help: help})
	}
	m := &Metrics{
		Quarantined: counter("messages_quarantined_total", "Messages of tasks and outcomes that could not be read."),
		Panics:      counter("attempt_panics_total", "Attempts that panicked."),
		WaitingTurn: gauge("deliveries_waiting_turn", "Deliveries that wait for the one before them in the order of their key."),
		Stopped:     gauge("ordering_keys_stopped", "Keys that stand still because a delivery was given up."),
		WrittenRows: counter("outcomes_recorded_total", "Outcomes written to the ledger."),
		GroupSize: prometheus.NewHistogram(prometheus.HistogramOpts{
			Namespace: "fanfare", Name: "outcomes_per_transaction", Help: "Outcomes written together.", Buckets: prometheus.ExponentialBuckets(1, 4, 8),
		}),
	}
	for _, c := range []prometheus.Collector{m.Quarantined, m.Panics, m.WaitingTurn, m.Stopped, m.WrittenRows, m.GroupSize} {
		if err := to.Register(c); err != nil {
			return nil, fmt.Errorf("register metrics of the ledger: %w", err)
		}
	}
	var err error
	if m.Routes, err = router.NewMetrics(to, m.Panics); err != nil {
		return nil, fmt.Errorf("register metrics of routes: %w", err)
	}
	return m, nil
}
