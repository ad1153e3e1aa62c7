package bench

import (
	"fmt"
	"io"
	"slices"
	"time"
)

// replayReport is what `fanfare bench replay` comes to.
type replayReport struct {
	Machine benchMachine   `json:"machine"`
	Events  int            `json:"events"`
	Rate    int            `json:"replay_deliveries_per_second"`
	Live    int            `json:"live_events_per_second"`
	Without []benchLatency `json:"without_replay"`
	Beside  []benchLatency `json:"beside_replay"`
	P50     [2]float64     `json:"p50_ms_without_and_beside"` // of all windows of a kind together
	comparison

	Restart string  `json:"restart"`
	WentOn  float64 `json:"went_on_after_s"` // from the restart until it sent on

	Matched   int `json:"matched"` // by the replay
	Sent      int `json:"sent"`
	Delivered int `json:"delivered"`          // rows of the replay's generation in the ledger
	Distinct  int `json:"delivered_distinct"` // and of how many events
	Arrived   int `json:"arrived"`            // how many of the events the receiver got
	Repeated  int `json:"arrived_again"`      // and how many requests beyond the first of each
}

// sum computes what the windows come to: without and beside the replay.
func (r *replayReport) sum(times [2][][]time.Duration) {
	for _, window := range times[0] {
		r.Without = append(r.Without, newBenchLatency(r.Live, window))
	}
	for _, window := range times[1] {
		r.Beside = append(r.Beside, newBenchLatency(r.Live, window))
	}
	for kind := range times {
		r.P50[kind] = newBenchLatency(r.Live, slices.Concat(times[kind]...)).P50
	}
	r.comparison = compare(r.Live, times)
}

// verdict is an error unless each event was sent once. A killed process may repeat the deliveries in flight, and no more.
func (r *replayReport) verdict() error {
	once := r.Matched == r.Events && r.Sent == r.Events && r.Delivered == r.Events && r.Distinct == r.Events && r.Arrived == r.Events
	if !once || r.Repeated > 0 && r.Restart != "kill" {
		return fmt.Errorf("not each of the %d events was sent once", r.Events)
	}
	return nil
}

// write writes the report, for machines or for people.
func (r *replayReport) write(w io.Writer, machines bool) error {
	if machines {
		return writeJSON(w, r)
	}
	m := r.Machine
	_, err := fmt.Fprintf(w, `
%d cores, %s, %s, fanfare %s; %d live events/s, a replay of %d events at %d/s, %d windows of %v s of each kind
live without the replay  p50 %6.1f ms, p99 %6.1f ms   (%d deliveries)
live beside the replay   p50 %6.1f ms, p99 %6.1f ms   (%d)
ratio of the p99         %8.2f      (median of the pairs %.2f; without to without %.2f)
sent again               %d of %d events, %d deliveries in the ledger, %d arrived more than once; restart: %s, went on after %.1f s
`, m.Cores, m.System, m.Go, m.Version, r.Live, r.Events, r.Rate, m.Rounds, m.Seconds,
		r.P50[0], r.P99[0], r.Samples[0], r.P50[1], r.P99[1], r.Samples[1], r.Ratio, r.Pairs, r.Noise,
		r.Arrived, r.Events, r.Delivered, r.Repeated, r.Restart, r.WentOn)
	return err
}
