package bench

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
)

// soakReport is what a soak prints.
type soakReport struct {
	Machine     benchMachine `json:"machine"`
	Rate        int          `json:"rate"`
	EventsBytes int64        `json:"events_max_bytes"`
	Failing     int          `json:"failing_percent"`
	WALMax      int64        `json:"max_wal_size"`
	Samples     []soakSample `json:"samples"`
	// Of the whole run, in events: those for healthy endpoints, those for the other one, and those that were refused.
	Accepted    int64  `json:"accepted_healthy"`
	FailingSent int64  `json:"accepted_failing"`
	Refused     int64  `json:"refused"`
	LastRefusal string `json:"last_refusal,omitempty"`
	Received    int64  `json:"received"`
	Duplicates  int64  `json:"duplicates"`
	// What the ledger holds in the end.
	Delivered int64 `json:"delivered"`
	Waiting   int64 `json:"pending"`
	Ended     int64 `json:"ended_otherwise"`
}

// complete reports whether each accepted event is delivered or pending. Of an array that was refused some events may have
// been stored, which nobody counted.
func (r *soakReport) complete() bool {
	if r.Refused > 0 {
		return r.Delivered == r.Received && r.Delivered >= r.Accepted && r.Waiting+r.Ended >= r.FailingSent
	}
	return r.Delivered == r.Received && r.Delivered == r.Accepted && r.Waiting+r.Ended == r.FailingSent
}

// flatness compares the last third of a run with the middle third; the first one warms up and fills the budget.
type flatness struct {
	what         string
	middle, last float64
	most         float64 // the last third may be so many times the middle one
	slack        float64 // and so much more
}

func (f flatness) flat() bool { return f.last <= f.most*f.middle+f.slack }

// flatnesses are the figures that must not grow.
func (r *soakReport) flatnesses() []flatness {
	third := len(r.Samples) / 3
	middle, last := r.Samples[third:2*third], r.Samples[2*third:]
	of := func(samples []soakSample, figure func(soakSample) float64) (values []float64) {
		for _, s := range samples {
			values = append(values, figure(s))
		}
		return values
	}
	list := []flatness{}
	for _, f := range []struct {
		what        string
		figure      func(soakSample) float64
		join        func([]float64) float64
		most, slack float64
	}{
		{"missing rate", func(s soakSample) float64 { return max(0, float64(r.Rate)-s.Accepted) }, median, 1, 0.05 * float64(r.Rate)},
		{"p99", func(s soakSample) float64 { return s.P99 }, median, 1.5, 50},
		{"memory", func(s soakSample) float64 { return float64(s.Memory) }, slices.Max[[]float64], 1.2, 64 << 20},
		{"EVENTS", func(s soakSample) float64 { return float64(s.Events) }, slices.Max[[]float64], 1.2, 4 << 20},
		{"files of NATS", func(s soakSample) float64 { return float64(s.NATS) }, slices.Max[[]float64], 1.2, 64 << 20},
		// WAL grows up to max_wal_size between two checkpoints.
		{"WAL", func(s soakSample) float64 { return float64(s.WAL) }, slices.Max[[]float64], 0, 1.2 * float64(r.WALMax)},
		{"bytes of a deferral", func(s soakSample) float64 { return float64(s.Deferrals) / float64(max(s.Waiting, 1000)) }, median, 1.2, 500},
	} {
		list = append(list, flatness{f.what, f.join(of(middle, f.figure)), f.join(of(last, f.figure)), f.most, f.slack})
	}
	return list
}

// verdict is an error unless the ledger holds everything, nothing was refused, and nothing grew.
func (r *soakReport) verdict() error {
	var errs []error
	if !r.complete() {
		errs = append(errs, errors.New("the ledger does not hold all that was accepted"))
	}
	if r.Refused > 0 {
		errs = append(errs, fmt.Errorf("%d events were refused: %s", r.Refused, r.LastRefusal))
	}
	if len(r.Samples) < 6 {
		return errors.Join(append(errs, errors.New("the run is too short to tell whether anything grows"))...)
	}
	for _, f := range r.flatnesses() {
		if !f.flat() {
			errs = append(errs, fmt.Errorf("%s did not stay flat: %.4g, then %.4g", f.what, f.middle, f.last))
		}
	}
	return errors.Join(errs...)
}

func (r *soakReport) write(w io.Writer, machines bool) error {
	if machines {
		e := json.NewEncoder(w)
		e.SetIndent("", "  ")
		return e.Encode(r)
	}
	m := r.Machine
	fmt.Fprintf(w, "\n%d cores, %s, %s, fanfare %s; %d events/s of 1 KiB, %d %% to an endpoint that refuses connections, FANFARE_EVENTS_MAX_BYTES %d MiB\n\n",
		m.Cores, m.System, m.Go, m.Version, r.Rate, r.Failing, r.EventsBytes>>20)
	rows := [][]string{{"second", "accepted/s", "delivered/s", "refused", "p50 ms", "p99 ms", "memory MiB", "EVENTS MiB", "NATS disk MiB", "WAL MiB",
		"ledger MiB", "deferrals", "of MiB", "copied", "replayable s"}}
	for _, s := range r.Samples {
		row := []string{}
		for _, v := range []float64{s.At, s.Accepted, s.Delivered, float64(s.Refused), s.P50, s.P99} {
			row = append(row, fmt.Sprintf("%.0f", v))
		}
		for _, bytes := range []int64{s.Memory, s.Events, s.NATS, s.WAL, s.Ledger} {
			row = append(row, fmt.Sprint(bytes>>20))
		}
		rows = append(rows, append(row, fmt.Sprint(s.Waiting), fmt.Sprint(s.Deferrals>>20), fmt.Sprint(s.Copies), fmt.Sprintf("%.0f", s.Reach)))
	}
	writeMarkdown(w, rows)
	fmt.Fprintf(w, "\nAccepted %d events, and %d for the endpoint that refuses connections; %d refused; %d duplicates\n"+
		"The ledger holds %d delivered, %d pending, %d ended otherwise\n",
		r.Accepted, r.FailingSent, r.Refused, r.Duplicates, r.Delivered, r.Waiting, r.Ended)
	if len(r.Samples) >= 6 {
		for _, f := range r.flatnesses() {
			word := "flat"
			if !f.flat() {
				word = "NOT flat"
			}
			fmt.Fprintf(w, "%s: %s (%.4g in the middle third, %.4g in the last)\n", f.what, word, f.middle, f.last)
		}
	}
	return nil
}
