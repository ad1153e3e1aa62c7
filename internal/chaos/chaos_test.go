package chaos_test

import (
	"context"
	"fmt"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"
)

// command is one of the binary that ends by itself.
func command(path string, env []string, args ...string) *exec.Cmd {
	cmd := exec.Command(path, args...)
	cmd.Env = env
	return cmd
}

// run is one run of the nemesis.
type run struct {
	counts  counts
	tenants int
	rate    float64 // events a second and tenant
	seed    uint64
	steps   []step
	until   time.Duration // no step begins after it
	bound   time.Duration // of each recovery
}

// perform breaks things under load and has the history judged.
func (r run) perform(t *testing.T) {
	w := newWorld(t, r.counts)
	producers := w.populate(r.tenants, r.rate, r.seed)
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	patience, giveUp := context.WithCancel(t.Context())
	defer giveUp()
	var publishing sync.WaitGroup
	for _, p := range producers {
		publishing.Go(func() { p.run(ctx, patience) })
	}
	began := time.Now()
	time.Sleep(3 * time.Second) // Calm times come first: nothing may be duplicated in them.
	w.measure("before")
	t.Log(w.resources())
	calm := interval{from: began}
	for i, s := range r.steps {
		if time.Since(began) > r.until {
			break
		}
		calm.to = time.Now()
		w.rec.do(func(h *history) { h.calm = append(h.calm, calm) })
		f := w.strike(s, r.bound)
		t.Logf("%3d of %d: %-40s %6.1fs  resumed after %5.1fs", i+1, len(r.steps), f.name, f.healed.Sub(f.injected).Seconds(), f.recovered.Sub(f.healed).Seconds())
		calm.from = time.Now()
		if i%10 == 9 {
			t.Log(w.resources())
		}
	}
	stop()
	timer := time.AfterFunc(time.Minute, giveUp)
	publishing.Wait()
	timer.Stop()
	if !w.settled(3 * time.Minute) {
		n, one := w.rec.missing(false, time.Now())
		t.Errorf("not all has ended; %d deliveries have not arrived, such as %s", n, one)
	}
	w.measure("after")
	t.Log(w.resources())
	report(t, w.collect())
}

// report prints the counts and the verdict.
func report(t *testing.T, h *history) {
	t.Helper()
	x := newIndex(h)
	duplicates, bound := x.duplicates()
	delivered := 0
	for _, d := range h.deliveries {
		if d.state == "delivered" {
			delivered++
		}
	}
	t.Logf("%d requests, %d events accepted; %d arrivals, %d deliveries, %d delivered; %d duplicates, at most %d",
		len(h.requests), len(x.accepted), len(h.arrivals), len(h.deliveries), delivered, duplicates, bound)
	repeats := x.repeats()
	var each strings.Builder
	for i, f := range h.faults {
		fmt.Fprintf(&each, "\n  %-40s %6d of %d", f.name, len(repeats[i]), f.worksInFlight)
		for _, d := range repeats[i][:min(len(repeats[i]), 3)] {
			r := x.accepted[x.bySub[d.subscription].tenant+" "+d.event]
			fmt.Fprintf(&each, "\n      %s at %s: accepted %.1fs after the fault, arrived", d.event, x.bySub[d.subscription].path, r.answered.Sub(f.injected).Seconds())
			for _, a := range x.arrived[d] {
				fmt.Fprintf(&each, " %.1fs (%d)", a.at.Sub(f.injected).Seconds(), a.status)
			}
		}
	}
	t.Logf("duplicates after each fault, and how many there may be:%s", each.String())
	slowest := map[string]time.Duration{}
	for _, f := range h.faults {
		slowest[f.name] = max(slowest[f.name], f.recovered.Sub(f.healed))
	}
	var table strings.Builder
	for _, b := range breakages {
		if took, ok := slowest[b.name]; ok {
			fmt.Fprintf(&table, "\n  %-40s %6.1fs", b.name, took.Seconds())
		}
	}
	t.Logf("recovery, at most:%s", table.String())
	bad := check(h)
	for _, i := range invariants {
		n, verdict := 0, "holds"
		for _, v := range bad {
			if v.invariant != i.name {
				continue
			}
			verdict = "BROKEN"
			if n++; n <= 5 { // Of thousands alike, some are shown.
				t.Errorf("%s", v)
			}
		}
		t.Logf("%-4s %-70s %s", i.name, i.says, verdict)
	}
}

// TestChaos is the long form: `make chaos SEED=n MINUTES=m`.
func TestChaos(t *testing.T) {
	if *minutes == 0 {
		return // It belongs to `make chaos` alone.
	}
	steps := plan(*seed, 2000)
	until := time.Duration(*minutes) * time.Minute
	t.Logf("seed %d, %d minutes; the plan:\n%s", *seed, *minutes, describe(steps[:min(len(steps), 6**minutes)]))
	run{ // Some 200 events a second, a few of them in one request.
		counts: counts{api: 1, ingest: 2, fanout: 2, deliver: 3}, tenants: 20, rate: 7.5, seed: *seed, steps: steps, until: until, bound: 30 * time.Second,
	}.perform(t)
}
