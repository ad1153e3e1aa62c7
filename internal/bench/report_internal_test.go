// Reports, and what their numbers are read from, are only printed; a run of each bench would take minutes.

package bench

import (
	"encoding/json"
	"math"
	"testing"
	"time"
)

func TestBenchEventRoundTrip(t *testing.T) {
	t.Parallel()
	sent := time.Unix(0, 1795255200_123456789)
	for _, n := range []int{0, 1, 99, 1_234_567} {
		data := newBenchData().event(n, sent)
		if len(data) != benchSize || !json.Valid(data) {
			t.Fatalf("event %d: %d bytes of data, valid JSON: %v", n, len(data), json.Valid(data))
		}
		got, at, ok := readBenchEvent([]byte(`{"type":"x","timestamp":"2026","data":` + string(data) + `}`))
		if !ok || got != n || !at.Equal(sent) {
			t.Errorf("event %d sent %v: read %d, %v, %v", n, sent, got, at, ok)
		}
	}
	for _, body := range []string{"", `{"data":{}}`, `{"data":{"n":17}}`, `"data":{"n":1000000`} {
		if _, _, ok := readBenchEvent([]byte(body)); ok {
			t.Errorf("%q was read", body)
		}
	}
}

func TestBenchBatch(t *testing.T) {
	t.Parallel()
	var events []struct {
		Type string
		Data struct{ N int }
	}
	if err := json.Unmarshal(newBenchBatch(10).fill(700), &events); err != nil {
		t.Fatal(err)
	}
	if len(events) != benchArray {
		t.Fatalf("%d events, want %d", len(events), benchArray)
	}
	for i, e := range events {
		if e.Data.N != benchFirst+700+i || e.Type != benchType(10, i) {
			t.Errorf("event %d: %+v", i, e)
		}
	}
}

func TestParseStat(t *testing.T) {
	t.Parallel()
	pid, s, ok := parseStat([]byte("4242 (post) gres: (x) S 17 4242 4242 0 -1 4194560 1 2 3 4 100 50 7 8 20 0 1 0 99 1 1\n"))
	if !ok || pid != 4242 || s.parent != 17 || s.cpu != 1500*time.Millisecond || s.ended != 150*time.Millisecond {
		t.Errorf("got %d %+v %v", pid, s, ok)
	}
	if _, _, ok := parseStat([]byte("nonsense")); ok {
		t.Error("nonsense was read")
	}
}

// The report of `fanfare bench isolation` compares all deliveries of a kind, not the medians of windows.
func TestIsolationReport(t *testing.T) {
	t.Parallel()
	window := func(ms, slow int) (list []time.Duration) {
		for i := range 100 {
			d := time.Duration(ms) * time.Millisecond
			if i < slow {
				d *= 3
			}
			list = append(list, d)
		}
		return list
	}
	r := &isolationReport{Rate: 100}
	r.sum([2][][]time.Duration{{window(10, 0), window(20, 0)}, {window(20, 0), window(20, 50)}})
	if r.P99 != [2]float64{20, 60} || r.Ratio != 3 || r.Samples != [2]int{200, 200} {
		t.Errorf("got p99 %v, ratio %v, %v deliveries", r.P99, r.Ratio, r.Samples)
	}
	if r.Pairs != 2.5 || r.Noise != 0.5 {
		t.Errorf("got %v by pairs, %v without to without; want 2.5 and 0.5", r.Pairs, r.Noise)
	}
}

// The report of `fanfare bench replay` compares all windows of a kind, and is an error unless each event was sent once.
func TestReplayReport(t *testing.T) {
	t.Parallel()
	of := func(ms int) (list []time.Duration) {
		for range 100 {
			list = append(list, time.Duration(ms)*time.Millisecond)
		}
		return list
	}
	r := &replayReport{Live: 50, Events: 10, Restart: "stop", Matched: 10, Sent: 10, Delivered: 10, Distinct: 10, Arrived: 10}
	r.sum([2][][]time.Duration{{of(2), of(4)}, {of(3), of(6)}})
	if r.P99 != [2]float64{4, 6} || r.Ratio != 1.5 || r.Pairs != 1.5 || r.Noise != 0.5 || r.P50 != [2]float64{4, 6} {
		t.Errorf("got %+v", r)
	}
	if err := r.verdict(); err != nil {
		t.Error(err)
	}
	for name, spoil := range map[string]func(*replayReport){
		"one is missing":         func(r *replayReport) { r.Arrived-- },
		"one was made twice":     func(r *replayReport) { r.Delivered++ },
		"one was not counted":    func(r *replayReport) { r.Matched-- },
		"one arrived twice":      func(r *replayReport) { r.Repeated++ },
		"an event has two rows":  func(r *replayReport) { r.Distinct-- },
		"one was not sent again": func(r *replayReport) { r.Sent-- },
	} {
		spoiled := *r
		spoil(&spoiled)
		if spoiled.verdict() == nil {
			t.Errorf("%s, and it is no error", name)
		}
	}
	r.Restart, r.Repeated = "kill", 3
	if err := r.verdict(); err != nil {
		t.Errorf("what was in flight at a kill arrives again: %v", err)
	}
}

func TestMedianAndPercentiles(t *testing.T) {
	t.Parallel()
	if got := median([]float64{3, 1, 2}); got != 2 {
		t.Errorf("median of three: %v", got)
	}
	if got := median([]float64{4, 1, 2, 3}); math.Abs(got-2.5) > 1e-9 {
		t.Errorf("median of four: %v", got)
	}
	var all []time.Duration
	for i := range 100 {
		all = append(all, time.Duration(100-i)*time.Millisecond)
	}
	if got := newBenchLatency(50, all); got.P50 != 51 || got.P99 != 100 || got.Max != 100 || got.Events != 100 {
		t.Errorf("latency: %+v", got)
	}
	if got := newBenchLatency(50, nil); got.Max != 0 {
		t.Errorf("latency of nothing: %+v", got)
	}
}
