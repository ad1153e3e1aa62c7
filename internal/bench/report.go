package bench

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"runtime"
	"slices"
	"strings"
	"time"
)

// benchReport is what the bench prints; its JSON is for machines.
type benchReport struct {
	Machine benchMachine  `json:"machine"`
	Fanouts []benchFanout `json:"fanouts"` // as many events as are accepted
	// Publishers is ordinary load.
	Publishers []benchPublishers `json:"publishers"`
	// Latency is end to end, from the moment before the POST of an event to the arrival of its webhook.
	Latency benchLatency `json:"latency"`
	Memory  benchMemory  `json:"memory"`
	// Ledger says whether Postgres holds every delivery in the end, each as delivered.
	Ledger benchLedger `json:"ledger"`
}

type benchMachine struct {
	Cores   int       `json:"cores"`
	System  string    `json:"system"`
	Go      string    `json:"go"`
	Version string    `json:"fanfare"`
	At      time.Time `json:"at"`
	Rounds  int       `json:"rounds"`
	Seconds float64   `json:"seconds"` // of load in each window
	Posters int       `json:"bare_posters"`
}

// Version is that of this build.
type Version string

func newBenchMachine(cmd Throughput, version Version) benchMachine {
	system := runtime.GOOS + "/" + runtime.GOARCH
	if release, err := os.ReadFile("/proc/sys/kernel/osrelease"); err == nil {
		system += " " + strings.TrimSpace(string(release))
	}
	return benchMachine{
		Cores: runtime.NumCPU(), System: system, Go: runtime.Version(), Version: string(version),
		At: time.Now().UTC().Truncate(time.Second), Rounds: cmd.Rounds, Seconds: cmd.Seconds, Posters: cmd.Posters,
	}
}

// benchFanout holds the windows of one fan-out. Its figures are medians over them.
type benchFanout struct {
	Fanout       int             `json:"fanout"`
	Bare         float64         `json:"bare_per_second"`         // by Go's net/http
	Guarded      float64         `json:"guarded_bare_per_second"` // by the workers' client
	Pipeline     float64         `json:"deliveries_per_second"`
	Events       float64         `json:"events_per_second"`
	Ratio        float64         `json:"ratio"` // of Pipeline to Bare
	GuardedRatio float64         `json:"guarded_ratio"`
	CPU          float64         `json:"cpu_us_per_delivery"` // fanfare and its Postgres
	FanfareCPU   float64         `json:"fanfare_cpu_us_per_delivery"`
	BareCPU      float64         `json:"bare_cpu_us_per_delivery"`
	GuardedCPU   float64         `json:"guarded_bare_cpu_us_per_delivery"`
	Duplicates   int64           `json:"duplicates"`
	Windows      []benchMeasured `json:"windows"`
}

// benchMeasured is one round: a window of the bare loop by either client, and one of the pipeline.
type benchMeasured struct {
	Bare        bareResult    `json:"bare"`
	Guarded     bareResult    `json:"guarded_bare"`
	Pipeline    benchWindow   `json:"pipeline"`
	FanfareCPU  time.Duration `json:"fanfare_cpu_ns"`
	PostgresCPU time.Duration `json:"postgres_cpu_ns"`
}

// sum computes the medians.
func (f *benchFanout) sum() {
	each := func(figure func(benchMeasured) float64) float64 {
		values := make([]float64, len(f.Windows))
		for i, w := range f.Windows {
			values[i] = figure(w)
		}
		return median(values)
	}
	perDelivery := func(d time.Duration, w benchWindow) float64 {
		return float64(d.Nanoseconds()) / 1e3 / float64(max(w.Deliveries, 1))
	}
	f.Bare = each(func(m benchMeasured) float64 { return m.Bare.Window.rate() })
	f.Guarded = each(func(m benchMeasured) float64 { return m.Guarded.Window.rate() })
	f.Pipeline = each(func(m benchMeasured) float64 { return m.Pipeline.rate() })
	f.Ratio = each(func(m benchMeasured) float64 { return m.Pipeline.rate() / m.Bare.Window.rate() })
	f.GuardedRatio = each(func(m benchMeasured) float64 { return m.Pipeline.rate() / m.Guarded.Window.rate() })
	f.Events = f.Pipeline / float64(f.Fanout)
	f.CPU = each(func(m benchMeasured) float64 { return perDelivery(m.FanfareCPU+m.PostgresCPU, m.Pipeline) })
	f.FanfareCPU = each(func(m benchMeasured) float64 { return perDelivery(m.FanfareCPU, m.Pipeline) })
	f.BareCPU = each(func(m benchMeasured) float64 { return perDelivery(m.Bare.CPU, m.Bare.Window) })
	f.GuardedCPU = each(func(m benchMeasured) float64 { return perDelivery(m.Guarded.CPU, m.Guarded.Window) })
	for _, w := range f.Windows {
		f.Duplicates += w.Pipeline.Duplicates
	}
}

type benchLatency struct {
	PerSecond int     `json:"events_per_second"`
	Events    int     `json:"events"`
	P50       float64 `json:"p50_ms"`
	P99       float64 `json:"p99_ms"`
	Max       float64 `json:"max_ms"`
}

func newBenchLatency(perSecond int, all []time.Duration) benchLatency {
	slices.Sort(all)
	at := func(q float64) float64 {
		if len(all) == 0 {
			return 0
		}
		i := min(int(q*float64(len(all))), len(all)-1)
		return float64(all[i].Microseconds()) / 1e3
	}
	return benchLatency{PerSecond: perSecond, Events: len(all), P50: at(0.50), P99: at(0.99), Max: at(1)}
}

// benchMemory is of the fanfare process alone, in bytes.
type benchMemory struct {
	Idle int64 `json:"idle_rss"` // after the start, without traffic
	Peak int64 `json:"peak_rss"` // of the whole run
}

type benchLedger struct {
	Sent      int64 `json:"sent"`      // what the receiver counted over the whole run
	Delivered int64 `json:"delivered"` // what Postgres holds as delivered
	Other     int64 `json:"other"`     // in any other state, waiting included
}

func (l benchLedger) complete() bool { return l.Sent == l.Delivered && l.Other == 0 }

func median(values []float64) float64 {
	sorted := slices.Sorted(slices.Values(values))
	n := len(sorted)
	if n == 0 {
		return 0
	}
	return (sorted[(n-1)/2] + sorted[n/2]) / 2
}

// writeJSON writes the report for machines.
func writeJSON(w io.Writer, report any) error {
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	return e.Encode(report)
}

// writeMarkdown writes numbers below a heading, aligned for the eye and for a README.
func writeMarkdown(w io.Writer, rows [][]string) {
	for i, row := range rows {
		for column, cell := range row {
			fmt.Fprintf(w, "| %*s ", len(rows[0][column]), cell)
		}
		fmt.Fprintln(w, "|")
		if i == 0 {
			for _, cell := range row {
				fmt.Fprintf(w, "|%s:", strings.Repeat("-", len(cell)+1))
			}
			fmt.Fprintln(w, "|")
		}
	}
}

// writeTable writes the report for people, as a table that a README can hold.
func (r *benchReport) writeTable(w io.Writer) {
	m := r.Machine
	fmt.Fprintf(w, "\n%d cores, %s, %s, fanfare %s; 1 KiB events, medians of %d windows of %v s; bare loop of %d posters\n\n",
		m.Cores, m.System, m.Go, m.Version, m.Rounds, m.Seconds, m.Posters)
	rows := [][]string{
		{"fan-out", "events/s", "deliveries/s", "bare loop/s", "ratio", "own client/s", "ratio to it",
			"CPU us per delivery", "of that fanfare", "bare loop", "own client", "duplicates"},
	}
	for _, f := range r.Fanouts {
		row := []string{fmt.Sprint(f.Fanout)}
		for _, v := range []float64{f.Events, f.Pipeline, f.Bare} {
			row = append(row, fmt.Sprintf("%.0f", v))
		}
		row = append(row, fmt.Sprintf("%.2f", f.Ratio), fmt.Sprintf("%.0f", f.Guarded), fmt.Sprintf("%.2f", f.GuardedRatio))
		for _, v := range []float64{f.CPU, f.FanfareCPU, f.BareCPU, f.GuardedCPU} {
			row = append(row, fmt.Sprintf("%.0f", v))
		}
		rows = append(rows, append(row, fmt.Sprint(f.Duplicates)))
	}
	writeMarkdown(w, rows)
	writePublishers(w, r.Publishers)
	verdict := "holds every delivery"
	if !r.Ledger.complete() {
		verdict = "DOES NOT hold every delivery"
	}
	const mib = 1 << 20
	fmt.Fprintf(w, "\nEnd to end at %d events/s: p50 %.1f ms, p99 %.1f ms, max %.1f ms (%d events)\n"+
		"Memory of the fanfare process: %d MiB idle, %d MiB at its peak\n"+
		"The ledger %s: %d sent, %d delivered, %d other\n",
		r.Latency.PerSecond, r.Latency.P50, r.Latency.P99, r.Latency.Max, r.Latency.Events,
		r.Memory.Idle/mib, r.Memory.Peak/mib, verdict, r.Ledger.Sent, r.Ledger.Delivered, r.Ledger.Other)
}
