package deliver

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/fanfarehq/fanfare/deliver/outcome"
)

// limitMetrics are those of what spares endpoints.
type limitMetrics struct {
	putOff    *prometheus.CounterVec // reason
	disabled  *prometheus.CounterVec // reason
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
	counter := func(name, help string) prometheus.Counter {
		return prometheus.NewCounter(prometheus.CounterOpts{Namespace: "fanfare", Name: name, Help: help})
	}
	return limitMetrics{
		putOff: counters("deliveries_put_off_total", "Times that a delivery was put off without a request.", "reason",
			string(outcome.ReasonBusy), string(outcome.ReasonBreakerOpen), string(outcome.ReasonRateLimited), string(outcome.ReasonRetryAfter), string(outcome.ReasonConnect), string(outcome.ReasonKey)),
		disabled: counters("subscriptions_disabled_total", "Subscriptions disabled by Fanfare.", "reason",
			string(outcome.ReasonGone), string(outcome.ReasonFailing)),
		told: counters("operational_events_total", "Operational events published.", "type",
			TypeFailing, TypeDisabled, TypeRecovering, TypeDead),
		untold:    counter("operational_events_dropped_total", "Operational events that could not be published."),
		recovered: counter("deliveries_hurried_total", "Deliveries that went on because their endpoint was back."),
	}
}

func (m limitMetrics) collectors() []prometheus.Collector {
	return []prometheus.Collector{m.putOff, m.disabled, m.told, m.untold, m.recovered}
}
