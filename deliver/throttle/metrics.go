package throttle

import (
	"fmt"

	"github.com/prometheus/client_golang/prometheus"
)

// Metrics are those of this package; one for each process.
type Metrics struct {
	inFlight prometheus.Gauge
	waiting  prometheus.Gauge
	breakers *prometheus.CounterVec // to
	open     prometheus.Gauge
	hosts    prometheus.Gauge
	outage   prometheus.Gauge
}

// NewMetrics makes the metrics and registers them.
func NewMetrics(to prometheus.Registerer) (*Metrics, error) {
	gauge := func(name, help string) prometheus.Gauge {
		return prometheus.NewGauge(prometheus.GaugeOpts{Namespace: "fanfare", Name: name, Help: help})
	}
	m := &Metrics{
		inFlight: gauge("attempts_in_flight", "Requests in flight."),
		waiting:  gauge("deliveries_waiting", "Deliveries that wait for a place."),
		breakers: prometheus.NewCounterVec(prometheus.CounterOpts{
			Namespace: "fanfare", Name: "breaker_changes_total", Help: "Changes of breakers, by the state that they came to.",
		}, []string{"to"}),
		open:   gauge("breakers_open", "Subscriptions whose breaker is not closed."),
		hosts:  gauge("hosts_away", "Hosts with endpoints to which no connection can be made."),
		outage: gauge("network_outage", "1 while this worker reaches none of the hosts that answered it lately."),
	}
	for _, state := range []breaker{closed, open, halfOpen} {
		m.breakers.WithLabelValues(string(state))
	}
	for _, c := range []prometheus.Collector{m.inFlight, m.waiting, m.breakers, m.open, m.hosts, m.outage} {
		if err := to.Register(c); err != nil {
			return nil, fmt.Errorf("register metrics of throttle: %w", err)
		}
	}
	return m, nil
}

// turned counts the change of a breaker.
func (m *Metrics) turned(to breaker) { m.breakers.WithLabelValues(string(to)).Inc() }
