package fanout

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/fanfarehq/fanfare/internal/event"
)

// metrics are what fan-out tells of itself.
type metrics struct {
	events      prometheus.Counter
	repeats     prometheus.Counter
	quarantined *prometheus.CounterVec
	warned      *prometheus.CounterVec
	matched     prometheus.Histogram
	lag         prometheus.Histogram
	waiting     prometheus.Gauge
	unkeyed     prometheus.Counter
}

func newMetrics(to prometheus.Registerer) *metrics {
	m := &metrics{
		events: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "fanfare_fanout_events_total", Help: "Events that were matched and handed over."}),
		repeats: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "fanfare_fanout_repeats_total", Help: "Events that the ledger had already."}),
		quarantined: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "fanfare_fanout_quarantined_total", Help: "Messages that were no valid event, by reason."}, []string{"reason"}),
		warned: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "fanfare_fanout_schema_warnings_total",
			Help: "Events straight from NATS that do not fit their type's schema, or could not be judged by it (validation warn), by reason."},
			[]string{"reason"}),
		matched: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "fanfare_fanout_matched", Help: "Subscriptions that an event matched.",
			Buckets: []float64{0, 1, 2, 5, 10, 20, 50, 100, 1000, 10000}}),
		lag: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "fanfare_fanout_lag_seconds", Help: "From an event's acceptance until its tasks were on disk.",
			Buckets: []float64{.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 5, 30, 300, 3600}}),
		waiting: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "fanfare_fanout_waiting", Help: "Events that wait for Postgres or the broker to come back."}),
		unkeyed: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "fanfare_fanout_unkeyed_total", Help: "Matches of subscriptions that ask for an order, by events that have no key: they go in none."}),
	}
	for _, reason := range event.Reasons() {
		m.quarantined.WithLabelValues(string(reason))
	}
	for _, reason := range WarningReasons() {
		m.warned.WithLabelValues(string(reason))
	}
	to.MustRegister(m.events, m.repeats, m.quarantined, m.warned, m.matched, m.lag, m.waiting, m.unkeyed)
	return m
}

// done counts an event that was fanned out.
func (m *metrics) done(matched int, lag time.Duration) {
	m.events.Inc()
	m.matched.Observe(float64(matched))
	m.lag.Observe(lag.Seconds())
}

// WarningReasons are the reasons of WarningOf.
func WarningReasons() []event.Reason { return []event.Reason{event.SchemaViolation, event.TooCostly} }

// WarningOf is why an event would be refused if the validation of its type were enforce; false if it would not be.
func WarningOf(e *event.Event) (event.Reason, bool) {
	switch e.Fit {
	case event.Misfits:
		return event.SchemaViolation, true
	case event.Unjudgeable:
		return event.TooCostly, true
	}
	return "", false
}
