package deliver

import "github.com/prometheus/client_golang/prometheus"

// limitMetrics are those of what spares endpoints.
type limitMetrics struct {
	breakers  *prometheus.CounterVec // to
	open      prometheus.Gauge
	hosts     prometheus.Gauge
	putOff    *prometheus.CounterVec // reason
	disabled  *prometheus.CounterVec // reason
	outage    prometheus.Gauge
	told      *prometheus.CounterVec // type
	untold    prometheus.Counter
	recovered prometheus.Counter
}

func newLimitMetrics() limitMetrics {
	counters := func(name, help string, label string, values ...string) *prometheus.CounterVec {
		c := prometheus.NewCounterVec(prometheus.CounterOpts{Namespace: "fanfare", Name: name, Help: help}, []string{label})
		for _, value := range values {
			c.WithLabelValues(value)
		}
		return c
	}
	gauge := func(name, help string) prometheus.Gauge {
		return prometheus.NewGauge(prometheus.GaugeOpts{Namespace: "fanfare", Name: name, Help: help})
	}
	counter := func(name, help string) prometheus.Counter {
		return prometheus.NewCounter(prometheus.CounterOpts{Namespace: "fanfare", Name: name, Help: help})
	}
	return limitMetrics{
		breakers: counters("breaker_changes_total", "Changes of breakers, by the state that they came to.", "to",
			string(closed), string(open), string(halfOpen)),
		open:  gauge("breakers_open", "Subscriptions whose breaker is not closed."),
		hosts: gauge("hosts_away", "Hosts with endpoints to which no connection can be made."),
		putOff: counters("deliveries_put_off_total", "Times that a delivery was put off without a request.", "reason",
			string(ReasonBusy), string(ReasonBreakerOpen), string(ReasonRateLimited), string(ReasonRetryAfter), string(ReasonConnect)),
		disabled: counters("subscriptions_disabled_total", "Subscriptions disabled by Fanfare.", "reason",
			string(ReasonGone), string(ReasonFailing)),
		outage: gauge("network_outage", "1 while this worker reaches nobody at all."),
		told: counters("operational_events_total", "Operational events published.", "type",
			TypeDisabled, TypeRecovering, TypeDead),
		untold:    counter("operational_events_dropped_total", "Operational events that could not be published."),
		recovered: counter("deliveries_hurried_total", "Deliveries that went on because their endpoint was back."),
	}
}

func (m limitMetrics) collectors() []prometheus.Collector {
	return []prometheus.Collector{m.breakers, m.open, m.hosts, m.putOff, m.disabled, m.outage, m.told, m.untold, m.recovered}
}
