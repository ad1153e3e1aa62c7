package servertest

import (
	"testing"

	"github.com/prometheus/client_golang/prometheus"
)

// Counts are the values of a counter that has one label, by the label's value.
func Counts(t testing.TB, from prometheus.Gatherer, name string) map[string]float64 {
	t.Helper()
	families, err := from.Gather()
	if err != nil {
		t.Fatalf("servertest: gather metrics: %v", err)
	}
	counts := map[string]float64{}
	for _, family := range families {
		if family.GetName() != name {
			continue
		}
		for _, m := range family.GetMetric() {
			counts[m.GetLabel()[0].GetValue()] = m.GetCounter().GetValue()
		}
	}
	return counts
}
