// A soak takes minutes; here its verdict gets samples.

package bench

import (
	"strings"
	"testing"
)

// A soak fails where something is missing or refused, or grows from the middle third of its samples to the last.
func TestSoakReport(t *testing.T) {
	t.Parallel()
	report := func() *soakReport {
		r := &soakReport{Rate: 1000, Accepted: 990, Received: 990, Delivered: 990, FailingSent: 10, Waiting: 10, WALMax: 1 << 30}
		for range 9 {
			r.Samples = append(r.Samples, soakSample{Accepted: 1000, P99: 20, Memory: 400 << 20, Events: 1 << 30, NATS: 1 << 30, WAL: 1 << 30, Waiting: 10_000, Deferrals: 4 << 20})
		}
		return r
	}
	if err := report().verdict(); err != nil {
		t.Error(err)
	}
	last := func(change func(*soakSample)) func(*soakReport) {
		return func(r *soakReport) {
			for i := range r.Samples[6:] {
				change(&r.Samples[6+i])
			}
		}
	}
	for want, spoil := range map[string]func(*soakReport){
		"does not hold all":   func(r *soakReport) { r.Delivered-- },
		"were refused":        func(r *soakReport) { r.Refused = 100 },
		"too short":           func(r *soakReport) { r.Samples = r.Samples[:5] },
		"missing rate":        last(func(s *soakSample) { s.Accepted = 900 }),
		"p99":                 last(func(s *soakSample) { s.P99 = 200 }),
		"memory":              last(func(s *soakSample) { s.Memory *= 2 }),
		"EVENTS":              last(func(s *soakSample) { s.Events *= 2 }),
		"files of NATS":       last(func(s *soakSample) { s.NATS *= 2 }),
		"WAL":                 last(func(s *soakSample) { s.WAL *= 2 }),
		"bytes of a deferral": last(func(s *soakSample) { s.Deferrals *= 4 }),
	} {
		r := report()
		spoil(r)
		if err := r.verdict(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("want an error about %q, got %v", want, err)
		}
	}
}
