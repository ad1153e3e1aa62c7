package deliver

import (
	"fmt"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/fanfarehq/fanfare/deliver/ledger"
	"github.com/fanfarehq/fanfare/deliver/outcome"
	"github.com/fanfarehq/fanfare/deliver/throttle"
	"github.com/fanfarehq/fanfare/deliver/webhook"
)

// Metrics are those of this stage; one for each process.
type Metrics struct {
	Ledger *ledger.Metrics // those of the recorder, too

	attempts  *prometheus.CounterVec // reason, outcome
	ended     *prometheus.CounterVec // state, reason
	attemptOK prometheus.Counter     // of attempts: what nearly all are
	endedOK   prometheus.Counter     // of ended
	duration  prometheus.Histogram
	latency   prometheus.Histogram
	healthy   prometheus.Histogram
	late      prometheus.Histogram
	overdue   prometheus.Gauge
	handedOff prometheus.Counter
	skipped   prometheus.Counter
	pending   *prometheus.GaugeVec // stream
	limits    limitMetrics
	throttle  *throttle.Metrics
}

// NewMetrics makes the metrics and registers them.
func NewMetrics(to prometheus.Registerer) (*Metrics, error) {
	counter := func(name, help string) prometheus.Counter {
		return prometheus.NewCounter(prometheus.CounterOpts{Namespace: "fanfare", Name: name, Help: help})
	}
	counters := func(name, help string, labels ...string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts{Namespace: "fanfare", Name: name, Help: help}, labels)
	}
	gauge := func(name, help string) prometheus.Gauge {
		return prometheus.NewGauge(prometheus.GaugeOpts{Namespace: "fanfare", Name: name, Help: help})
	}
	histogram := func(name, help string, buckets []float64) prometheus.Histogram {
		return prometheus.NewHistogram(prometheus.HistogramOpts{Namespace: "fanfare", Name: name, Help: help, Buckets: buckets})
	}
	seconds := []float64{.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30, 60, 300, 3600}
	m := &Metrics{
		attempts:  counters("attempts_total", "Attempts made, by what they became.", "reason", "outcome"),
		ended:     counters("deliveries_total", "Deliveries that ended.", "state", "reason"),
		duration:  histogram("attempt_duration_seconds", "How long attempts took.", seconds),
		latency:   histogram("delivery_latency_seconds", "From the event's acceptance to its delivery on disk, of deliveries whose first attempt succeeded.", seconds),
		healthy:   histogram("delivery_healthy_seconds", "From the event's acceptance to its delivery on disk, of deliveries that were neither put off nor handed off: what Fanfare itself takes.", seconds),
		late:      histogram("deferral_late_seconds", "How long deferrals were due when they were claimed.", seconds),
		overdue:   gauge("deferrals_due_age_seconds", "For how long the oldest due deferral has been due."),
		handedOff: counter("deliveries_handed_off_total", "Slow deliveries that became rows of their own."),
		skipped:   counter("deliveries_skipped_total", "Deliveries of repeated tasks that had been made before."),
	}
	m.pending = prometheus.NewGaugeVec(prometheus.GaugeOpts{
		Namespace: "fanfare", Name: "tasks_pending", Help: "Messages of tasks that no worker has finished, by stream.",
	}, []string{"stream"})
	m.limits = newLimitMetrics()
	var err error
	if m.throttle, err = throttle.NewMetrics(to); err != nil {
		return nil, err
	}
	if m.Ledger, err = ledger.NewMetrics(to); err != nil {
		return nil, err
	}
	m.preset()
	for _, c := range append(m.limits.collectors(),
		m.attempts, m.ended, m.duration, m.latency, m.healthy, m.late, m.overdue, m.handedOff, m.skipped, m.pending,
	) {
		if err := to.Register(c); err != nil {
			return nil, fmt.Errorf("register metrics of deliver: %w", err)
		}
	}
	return m, nil
}

// preset makes each series exist before its first count, so that a rate over it is never blind to the first.
func (m *Metrics) preset() {
	for _, stream := range []string{Stream, BacklogStream} {
		m.pending.WithLabelValues(stream)
	}
	m.attemptOK = m.attempts.WithLabelValues(string(outcome.ReasonOK), string(outcome.Delivered))
	m.endedOK = m.ended.WithLabelValues(string(outcome.Delivered), string(outcome.ReasonOK))
	for _, reason := range outcome.Reasons() {
		for _, became := range []outcome.Outcome{outcome.Delivered, outcome.Later, outcome.Dead} {
			if (reason == outcome.ReasonOK) == (became == outcome.Delivered) {
				m.attempts.WithLabelValues(string(reason), string(became))
			}
		}
		for _, state := range []outcome.Outcome{outcome.Delivered, outcome.Dead, outcome.Cancelled} {
			if (reason == outcome.ReasonOK) == (state == outcome.Delivered) {
				m.ended.WithLabelValues(string(state), string(reason))
			}
		}
	}
}

func (m *Metrics) attempted(r webhook.Result, v Verdict) {
	if v.Outcome == outcome.Delivered {
		m.attemptOK.Inc()
	} else {
		m.attempts.WithLabelValues(string(r.Reason), string(v.Outcome)).Inc()
	}
	m.duration.Observe(r.Duration.Seconds())
}

// recorded counts an outcome that is on disk.
func (m *Metrics) recorded(r *outcome.Record, now time.Time) {
	if !r.Ended() {
		return
	}
	if r.Outcome != outcome.Delivered {
		m.ended.WithLabelValues(string(r.Outcome), string(r.Reason)).Inc()
		return
	}
	m.endedOK.Inc()
	if r.Attempts == 1 {
		m.latency.Observe(now.Sub(r.CreatedAt).Seconds())
		if r.Step <= 1 {
			m.healthy.Observe(now.Sub(r.CreatedAt).Seconds())
		}
	}
}
