package ingest

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/fanfarehq/fanfare/fanout"
	"github.com/fanfarehq/fanfare/internal/event"
)

// metrics are what ingest tells of itself.
type metrics struct {
	accepted   prometheus.Counter
	duplicates prometheus.Counter
	forged     prometheus.Counter
	refused    *prometheus.CounterVec
	warned     *prometheus.CounterVec
}

func newMetrics(to prometheus.Registerer) *metrics {
	m := &metrics{
		accepted: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "fanfare_ingest_accepted_total", Help: "Events that were put on disk for the first time."}),
		duplicates: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "fanfare_ingest_duplicates_total", Help: "Events that had been accepted before."}),
		forged: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "fanfare_ingest_forged_ids_total", Help: "Events whose message id another NATS publisher had used before."}),
		refused: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "fanfare_ingest_refused_total", Help: "Events, and requests as a whole, that were refused, by reason."},
			[]string{"reason"}),
		warned: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "fanfare_ingest_schema_warnings_total",
			Help: "Events that were accepted although they do not fit their type's schema, or could not be judged by it (validation warn), by reason."},
			[]string{"reason"}),
	}
	for _, reason := range fanout.WarningReasons() {
		m.warned.WithLabelValues(string(reason))
	}
	for _, reason := range event.Reasons() {
		m.refused.WithLabelValues(string(reason))
	}
	for _, reason := range []string{reasonConflict, reasonUnstored, reasonMalformed, reasonLimited, reasonCrowded, reasonMediaType} {
		m.refused.WithLabelValues(reason)
	}
	to.MustRegister(m.accepted, m.duplicates, m.forged, m.refused, m.warned)
	return m
}

// count counts the answers to the events of a request.
func (m *metrics) count(items []*item) {
	var accepted, duplicates int
	for _, it := range items {
		switch {
		case it.problem != nil:
			m.refused.WithLabelValues(it.reason).Inc()
		case it.duplicate:
			duplicates++
		default:
			accepted++
			if reason, warn := fanout.WarningOf(&it.event); warn {
				m.warned.WithLabelValues(string(reason)).Inc()
			}
		}
	}
	m.accepted.Add(float64(accepted))
	m.duplicates.Add(float64(duplicates))
}
