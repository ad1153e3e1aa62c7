package jetstream_test

import (
	"testing"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/fanfarehq/fanfare/internal/jetstream"
)

// gauges are the values of the gathered gauges that have one series.
func gauges(t *testing.T, from prometheus.Gatherer) map[string]float64 {
	t.Helper()
	families, err := from.Gather()
	if err != nil {
		t.Fatal(err)
	}
	values := map[string]float64{}
	for _, f := range families {
		if len(f.GetMetric()) == 1 {
			values[f.GetName()] = f.GetMetric()[0].GetGauge().GetValue()
		}
	}
	return values
}

// A Monitor has each series from the start, and shows what a stream holds and a consumer has not read.
func TestMonitor(t *testing.T) {
	t.Parallel()
	js := newBroker(t).connect()
	registry := prometheus.NewPedanticRegistry()
	m := jetstream.NewMonitor(js, registry, inbox())
	shows := func(when string, pending, missing float64) {
		t.Helper()
		got := gauges(t, registry)
		for name, want := range map[string]float64{"fanfare_consumer_pending": pending, "fanfare_stream_missing": missing} {
			if is, ok := got[name]; !ok || is != want {
				t.Errorf("%s: %s is %v (there: %t), want %v", when, name, is, ok, want)
			}
		}
	}
	shows("before the first look", 0, 0)
	if err := m.Look(t.Context()); err != nil {
		t.Fatal(err)
	}
	shows("without the stream", 0, 1)
	apply(t, js, inbox())
	publish(t, js, "1")
	publish(t, js, "2")
	if err := m.Look(t.Context()); err != nil {
		t.Fatal(err)
	}
	shows("with two messages", 2, 0)
	if got := gauges(t, registry); got["fanfare_stream_bytes"] <= 0 || got["fanfare_stream_first_timestamp_seconds"] <= 0 {
		t.Errorf("the stream shows %v", got)
	}
}
